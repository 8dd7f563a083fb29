"""The registry of environments: installed packages register them by entry point, settings may name more."""

import re
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from operator import attrgetter

from pydantic import JsonValue, ValidationError

from gigpo.env.environment import Environment, EnvironmentKwargs, KwargsError
from services.contracts.plain_errors import in_words, meant
from services.env.workers.description import NOT_INSTALLED as NOT_INSTALLED
from services.env.workers.description import described, unavailable
from services.env.workers.wanted import ContractError, came, named
from services.env.workers.wire import EnvironmentEntry

ENTRY_POINT_GROUP = "gigpo.environments"
BUILT_IN = "services.env.environments."
"""The package of this project's environments; everything else is a plugin."""
ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
REFERENCE = re.compile(r"\s*([\w.]+)\s*:\s*([\w.]+)\s*(\[.*\])?\s*")
"""module:Class, as entry points are written."""

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
    """Id -> "module:Class" of everything that is registered and may be imported; `extra` wins over entry points, and
    what comes with this project over what other packages register."""
    return _registrations(extra)[0]


def refused_registrations(extra: Mapping[str, str]) -> dict[str, str]:
    """Id -> why nothing is imported for it: the id is none, or it does not say which class is meant."""
    return _registrations(extra)[1]


def built_in_environments() -> dict[str, str]:
    """Id -> "module:Class" of those that come with this project."""
    points = entry_points(group=ENTRY_POINT_GROUP)
    return {point.name: point.value for point in points if is_built_in(point.value)}


def is_built_in(reference: str) -> bool:
    """Whether the class comes with this project, so that it may be imported beside others."""
    return reference.startswith(BUILT_IN)


def _registrations(extra: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    by_id: dict[str, set[str]] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        by_id.setdefault(point.name, set()).add(point.value)
    by_id |= {name: {reference} for name, reference in extra.items()}
    known, refused = {}, {}
    for name, references in by_id.items():
        ours = {reference for reference in references if is_built_in(reference)}
        if not ID.fullmatch(name):
            refused[ascii(name)[1:-1]] = f"its id: want letters, digits and _ . -, at most 100, got {came(name)}"
        elif len(ours or references) == 1:
            (known[name],) = ours or references
            for other in references - {known[name]}:
                refused[f"{name} ({other})"] = f"its id {name!r} is that of an environment of this project"
        else:
            refused[name] = f"registered twice: {', '.join(sorted(references))}; want one class"
    return known, refused


class Registry:
    """Environment classes by id, imported when first wanted. Whatever an import or a class does, it is answered as
    the reason why the environment cannot be opened.

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
        self._entries: dict[str, EnvironmentEntry] = {}

    def find(self, environment_id: str) -> type[Environment]:
        """The class; UnavailableError where there is none, or it cannot run here."""
        found = self._known(environment_id)
        if reason := self.entry(environment_id).unavailable_reason:
            raise UnavailableError(environment_id, reason)
        return found

    def entries(self) -> list[EnvironmentEntry]:
        """The listing, in order of id; what cannot be opened carries its reason."""
        return [self.entry(environment_id) for environment_id in sorted(self._references)]

    def entry(self, environment_id: str) -> EnvironmentEntry:
        """One line of the listing."""
        if environment_id not in self._entries:
            try:
                self._entries[environment_id] = described(environment_id, self._known(environment_id))
            except UnavailableError as error:
                self._entries[environment_id] = unavailable(environment_id, error.reason)
            except ContractError as error:
                self._entries[environment_id] = unavailable(environment_id, str(error))
            except BaseException as error:  # noqa: BLE001 - a class can be made to raise at every touch
                self._entries[environment_id] = unavailable(environment_id, f"the class cannot be read: {named(error)}")
        return self._entries[environment_id]

    def _known(self, environment_id: str) -> type[Environment]:
        """The class, whether or not it can run here, with the options of this id. UnavailableError: there is none."""
        if environment_id in self._classes:
            return self._classes[environment_id]
        if environment_id not in self._references:
            raise UnavailableError(environment_id, f"unknown; known: {', '.join(sorted(self._references))}")
        reference = self._references[environment_id]
        if not (parts := REFERENCE.fullmatch(reference)):
            raise UnavailableError(environment_id, f"want module:Class, got {came(reference)}")
        try:
            found: object = attrgetter(parts[2])(import_module(parts[1]))
            if not (isinstance(found, type) and issubclass(found, Environment)):
                raise UnavailableError(environment_id, f"{reference} is not an Environment class")
            if options := self._options.get(environment_id):  # a class of its own: another id may have the same one
                found = type(found.__name__, (found,), {**_told_of(found), "options": options})
        except UnavailableError:
            raise
        except BaseException as error:  # SystemExit too: scripts are imported too
            raise UnavailableError(environment_id, f"{reference} cannot be imported: {named(error)}") from error
        self._classes[environment_id] = found
        return found


def _told_of(found: type[Environment]) -> dict[str, object]:
    """The listing of a class that stands in for `found`."""
    return {"__module__": found.__module__, "__qualname__": found.__qualname__, "__doc__": found.__doc__}


def valid_kwargs(
    found: type[Environment], kwargs_json: str, data_root: str | None = None, files_root: str | None = None
) -> EnvironmentKwargs:
    """The kwargs as the environment wants them; KwargsError names every key that is wrong and what came.

    `data_root`: the folder below which kwargs may name data, `files_root` that of files which come with jobs; None:
    they may name none.
    """
    try:
        return found.Kwargs.model_validate_json(
            kwargs_json or "{}", context={"data_root": data_root, "files_root": files_root}
        )
    except ValidationError as error:
        wrong = []
        for problem in error.errors(include_url=False):
            place = ".".join(str(part) for part in problem["loc"]) or "kwargs"
            known = [name for name in found.Kwargs.model_fields if problem["type"] == "extra_forbidden"]
            said = f"unknown key{meant(place, known)}" if known else in_words(problem)
            wrong.append(f"{place}: {said}")
        raise KwargsError("; ".join(wrong)) from error


def valid_split(found: type[Environment], split: str) -> str:
    """The split, or the environment's first where none is named; KwargsError where there is no such split."""
    if split and split not in found.splits:
        raise KwargsError(f"split: want one of {', '.join(found.splits)}, got {split!r}")
    return split or found.splits[0]
