"""The id of a panel of tasks, and what became of each of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import PurePosixPath, PureWindowsPath

from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec
from services.contracts.messages import Episode

WON, NOT_WON, CRASHED, NOT_PLAYED = "10x-"
"""Letters of `EvaluationResult.outcomes`; a task that crashed its environment counts as not won."""

_FILE = '"format": "path"'
"""Part of the schema of a kwarg that names a file or a folder."""


@dataclass(frozen=True)
class PanelTask:
    """One task of a panel."""

    seed: int
    first: bytes
    """Digests of the first observation's state and anchor; empty: no episode of it was played."""
    outcome: str
    """One of the letters."""


@dataclass(frozen=True)
class PanelOutcome:
    """A panel that was played."""

    id: str
    outcomes: str


def panel_task(seed: int, episode: Episode | None, *, crashed: bool = False) -> PanelTask:
    """The task of this seed.

    Args:
        episode: how it was played; None: it was not.
        crashed: the policy crashed the environment in each attempt.
    """
    if episode is None:
        return PanelTask(seed, b"", CRASHED if crashed else NOT_PLAYED)
    first = episode.steps[0].state_key + episode.steps[0].anchor_key if episode.steps else b""
    if episode.crashes:
        return PanelTask(seed, first, CRASHED)
    return PanelTask(seed, first, WON if episode.won else NOT_WON)


def panel_outcome(spec: JobSpec, environment: EnvironmentInfo, tasks: Sequence[PanelTask]) -> PanelOutcome:
    """The panel's id and the tasks' outcomes, whatever order they are given in.

    The id digests environment, split, horizon, kwargs, seeds and first observations, and nothing of the machine: where
    a file of the kwargs lies and the order of their lists do not count, because the observations show what is in them.
    A kwarg that is given its default counts as not given.
    """
    parts: list[object] = [
        environment.id,
        spec.environment.eval_split,
        spec.environment.max_turns,
        _of_any_machine(_changed(spec, environment)),
    ]
    if spec.environment.environment_rows:
        parts.append([_of_any_machine(row) for row in spec.environment.environment_rows])
    world = json.dumps(parts, sort_keys=True)
    ordered = sorted(tasks, key=lambda task: (task.seed, task.first))
    digest = blake2b(world.encode(), digest_size=8)
    for task in ordered:
        digest.update(f"\n{task.seed} {task.first.hex()}".encode())
    return PanelOutcome(digest.hexdigest(), "".join(task.outcome for task in ordered))


def mixed_outcome(panels: Sequence[PanelOutcome]) -> PanelOutcome:
    """The panels of a mixture's members as one: its id digests theirs, its outcomes are theirs one after the other."""
    digest = blake2b("\n".join(panel.id for panel in panels).encode(), digest_size=8)
    return PanelOutcome(digest.hexdigest(), "".join(panel.outcomes for panel in panels))


def _changed(spec: JobSpec, environment: EnvironmentInfo) -> dict[str, object]:
    """The kwargs that differ from their defaults and name no file."""
    known = environment.kwargs_schema.get("properties")
    schemas = known if isinstance(known, dict) else {}
    found: dict[str, object] = {}
    for name, value in spec.environment.environment_kwargs.items():
        schema = schemas.get(name)
        default = isinstance(schema, dict) and "default" in schema and schema["default"] == value
        if not default and _FILE not in json.dumps(schema):
            found[name] = value
    return found


def _of_any_machine(value: object) -> object:
    """The value without the places of files and the order of lists."""
    if isinstance(value, Mapping):
        return {name: _of_any_machine(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return sorted((_of_any_machine(one) for one in value), key=lambda one: json.dumps(one, sort_keys=True))
    if isinstance(value, str) and (PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()):
        return None
    return value
