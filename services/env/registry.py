"""Where environments come from: built in, installed by entry point, or named in the settings."""

import json
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec

from pydantic import ValidationError

from services.env.environment import Environment, EnvironmentKwargs, KwargsError
from services.env.wire import EnvironmentEntry

ENTRY_POINT_GROUP = "gigpo.environments"
BUILT_IN = {
    "alfworld": "services.env.environments.alfworld.environment:Alfworld",
    "grid": "services.env.environments.grid:Grid",
    "gymnasium": "services.env.environments.gymnasium_adapter:GymnasiumAdapter",
    "prompts": "services.env.environments.prompts.environment:Prompts",
}


class UnavailableError(Exception):
    """The environment is unknown, or known and cannot be opened here; the message says why."""


def known_environments(extra: Mapping[str, str]) -> dict[str, str]:
    """Id -> "module:Class" of everything that is registered; `extra` wins over entry points, these over built-ins."""
    installed = {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
    return {**BUILT_IN, **installed, **extra}


class Registry:
    """Environment classes by id, imported when first wanted."""

    def __init__(self, references: Mapping[str, str]) -> None:
        self._references = dict(references)
        self._classes: dict[str, type[Environment]] = {}

    def find(self, environment_id: str) -> type[Environment]:
        """The class; UnavailableError where there is none, or it cannot be imported."""
        if environment_id in self._classes:
            return self._classes[environment_id]
        if environment_id not in self._references:
            raise UnavailableError(
                f"unknown environment {environment_id!r}; known: {', '.join(sorted(self._references))}"
            )
        module, _, name = self._references[environment_id].partition(":")
        try:
            found = getattr(import_module(module), name)
        except Exception as error:
            raise UnavailableError(f"environment {environment_id!r} cannot be imported: {error!r}") from error
        if not (isinstance(found, type) and issubclass(found, Environment)):
            raise UnavailableError(f"environment {environment_id!r}: {module}:{name} is no Environment class")
        missing = [module for module in found.requires if find_spec(module) is None]
        if missing:
            raise UnavailableError(f"environment {environment_id!r} needs {', '.join(missing)}, which is not installed")
        self._classes[environment_id] = found
        return found

    def entries(self) -> list[EnvironmentEntry]:
        """The listing, in order of id; what cannot be opened carries its reason."""
        return [self._entry(environment_id) for environment_id in sorted(self._references)]

    def _entry(self, environment_id: str) -> EnvironmentEntry:
        try:
            found = self.find(environment_id)
        except UnavailableError as error:
            return EnvironmentEntry(environment_id, "", "{}", False, False, False, False, 0, 0, (), "", (), str(error))
        able = found.capabilities
        return EnvironmentEntry(
            id=environment_id,
            description=" ".join((found.__doc__ or "").split()),
            kwargs_schema_json=json.dumps(found.Kwargs.model_json_schema(), sort_keys=True),
            deterministic=able.deterministic,
            gives_anchors=able.gives_anchors,
            snapshot=able.snapshot,
            thread_safe=able.thread_safe,
            cost_class=int(able.cost_class),
            default_max_turns=int(found.Kwargs.model_fields["max_turns"].default),
            splits=found.splits,
            prompt_template=found.prompt_template,
            vocabulary=tuple(found.vocabulary()),
        )


def valid_kwargs(found: type[Environment], kwargs_json: str, data_root: str | None = None) -> EnvironmentKwargs:
    """The kwargs as the environment wants them; KwargsError names every key that is wrong and what came.

    `data_root`: the folder below which kwargs may name data; None: they may name none.
    """
    try:
        return found.Kwargs.model_validate_json(kwargs_json or "{}", context={"data_root": data_root})
    except ValidationError as error:
        wrong = []
        for problem in error.errors(include_url=False):
            place = ".".join(str(part) for part in problem["loc"]) or "kwargs"
            wrong.append(f"{place}: {problem['msg']}, got {problem['input']!r:.80}")
        raise KwargsError("; ".join(wrong)) from error


def valid_split(found: type[Environment], split: str) -> str:
    """The split, or the environment's first where none is named; KwargsError where there is no such split."""
    if split and split not in found.splits:
        raise KwargsError(f"split: want one of {', '.join(found.splits)}, got {split!r}")
    return split or found.splits[0]
