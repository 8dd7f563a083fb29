"""Where environments come from: installed packages register them by entry point, settings may name more."""

import json
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec

from pydantic import JsonValue, ValidationError

from gigpo.env.environment import Environment, EnvironmentKwargs, KwargsError
from services.env.workers.wire import EnvironmentEntry

ENTRY_POINT_GROUP = "gigpo.environments"
DISTRIBUTION = "gigpo-platform"
NOT_INSTALLED = "not installed: "
"""How the reason begins where the environment itself is sound and something it needs is missing."""

NO_OPTIONS: Mapping[str, Mapping[str, JsonValue]] = {}


class UnavailableError(Exception):
    """The environment is unknown, or known and cannot be opened here.

    Attributes:
        reason: why, without the environment's name.
    """

    def __init__(self, environment_id: str, reason: str) -> None:
        super().__init__(f"environment {environment_id!r}: {reason}")
        self.reason = reason


def known_environments(extra: Mapping[str, str]) -> dict[str, str]:
    """Id -> "module:Class" of everything that is registered; `extra` wins over entry points.

    Raises:
        ValueError: two packages register one id.
    """
    found: dict[str, str] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if found.setdefault(point.name, point.value) != point.value and point.name not in extra:
            raise ValueError(f"environment {point.name!r} is registered twice: {found[point.name]}, {point.value}")
    return {**found, **extra}


class Registry:
    """Environment classes by id, imported when first wanted.

    Args:
        references: id -> "module:Class".
        options: id -> what the operator set for it.
    """

    def __init__(
        self, references: Mapping[str, str], options: Mapping[str, Mapping[str, JsonValue]] = NO_OPTIONS
    ) -> None:
        self._references = dict(references)
        self._options = dict(options)
        self._classes: dict[str, type[Environment]] = {}
        self._openable: set[str] = set()

    def find(self, environment_id: str) -> type[Environment]:
        """The class; UnavailableError where there is none, or it cannot run here."""
        found = self._known(environment_id)
        if environment_id not in self._openable:
            if reason := _missing(found):
                raise UnavailableError(environment_id, reason)
            self._openable.add(environment_id)
        return found

    def _known(self, environment_id: str) -> type[Environment]:
        """The class, whether or not it can run here, with the options of this id. UnavailableError: there is none."""
        if environment_id in self._classes:
            return self._classes[environment_id]
        if environment_id not in self._references:
            raise UnavailableError(environment_id, f"unknown; known: {', '.join(sorted(self._references))}")
        module, _, name = self._references[environment_id].partition(":")
        try:
            found: object = getattr(import_module(module), name)
        except Exception as error:
            raise UnavailableError(environment_id, f"cannot be imported: {error!r}") from error
        if not (isinstance(found, type) and issubclass(found, Environment)):
            raise UnavailableError(environment_id, f"{module}:{name} is no Environment class")
        if options := self._options.get(environment_id):  # a class of its own: another id may have the same one
            found = type(found.__name__, (found,), {**_told_of(found), "options": options})
        self._classes[environment_id] = found
        return found

    def entries(self) -> list[EnvironmentEntry]:
        """The listing, in order of id; what cannot be opened carries its reason."""
        return [self._entry(environment_id) for environment_id in sorted(self._references)]

    def _entry(self, environment_id: str) -> EnvironmentEntry:
        try:
            found = self._known(environment_id)
        except UnavailableError as error:
            return EnvironmentEntry(
                environment_id, "", "{}", False, False, False, False, 0, 0, (), "", (), error.reason
            )
        able, missing = found.capabilities, _missing(found)
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
            vocabulary=() if missing else tuple(found.vocabulary()),  # it may be made from what is missing
            unavailable_reason=missing,
            max_sessions=found.max_sessions,
            example_actions=found.example_actions,
            example_kwargs_json=json.dumps([dict(kwargs) for kwargs in found.examples]),
        )


def _told_of(found: type[Environment]) -> dict[str, object]:
    """What a class that stands in for `found` says of itself."""
    return {"__module__": found.__module__, "__qualname__": found.__qualname__, "__doc__": found.__doc__}


def _missing(found: type[Environment]) -> str:
    """What an environment lacks here, and how to get it; empty: nothing."""
    if lacking := [module for module in found.requires if find_spec(module) is None]:
        what = f"pip install '{DISTRIBUTION}[{found.extra}]'" if found.extra else ", ".join(lacking)
    else:
        what = found.unavailable_reason()
    return what and NOT_INSTALLED + what


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
