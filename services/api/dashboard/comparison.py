"""Compares jobs: groups those that differ only in their seed, and lists the differences of their specs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from services.api.dashboard import curves
from services.api.sql.tables import JobRow
from services.presentation.panels import Panel

Seeds = Literal["mean", "each"]
SEED = "training.seed"
_SEED_ENDING = re.compile(r"[-_. ]*(seed|s)?[-_. ]*[0-9]*$")
_NAMES = frozenset({"name", SEED})
"""Keys that tell jobs of one spec apart."""


@dataclass(frozen=True)
class Told:
    """The recorded figures of one job."""

    metrics: Sequence[curves.Row]
    """A row a batch."""
    evaluations: Sequence[curves.Row]

    @property
    def after(self) -> curves.Row | None:
        """The evaluation after training."""
        return next((one for one in reversed(self.evaluations) if one.get("label") == "after"), None)

    @property
    def env_steps(self) -> int:
        return int(sum(steps for one in self.metrics if isinstance(steps := one.get("env_steps"), int | float)))


@dataclass(frozen=True)
class Difference:
    """A key of the spec that is not the same everywhere."""

    key: str
    values: tuple[str, ...]
    """One for each line, as JSON; a dash where the spec has no such key."""


def groups_of(rows: Sequence[JobRow], seeds: Seeds) -> list[list[JobRow]]:
    """The jobs, those together whose specs differ in name and seed only; each alone where `seeds` is "each"."""
    if seeds == "each":
        return [[row] for row in rows]
    found: dict[str, list[JobRow]] = {}
    for row in rows:
        same = {key: value for key, value in leaves(row.spec) if key not in _NAMES}
        found.setdefault(json.dumps(same, sort_keys=True), []).append(row)
    return list(found.values())


def panels_measured(told: Iterable[Told]) -> int:
    """How many different panels of tasks the jobs were measured on after training; older releases told none."""
    return len({panel for one in told if one.after and (panel := one.after.get("panel"))})


def leaves(spec: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """The spec's values by dotted key; lists are values."""
    for name, value in spec.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{within}{name}.")
        else:
            yield within + name, value


def differences(groups: Sequence[Sequence[JobRow]]) -> list[Difference]:
    """The keys whose values are not the same in all groups, in the order of the specs; names are left out."""
    specs = [[dict(leaves(row.spec)) for row in group] for group in groups]
    keys = dict.fromkeys(key for group in specs for spec in group for key in spec if key != "name")
    found = (Difference(key, tuple(_shown(key, group) for group in specs)) for key in keys)
    return [one for one in found if len(set(one.values)) > 1]


def _shown(key: str, specs: Sequence[Mapping[str, Any]]) -> str:
    values = dict.fromkeys(json.dumps(spec[key], ensure_ascii=False) if key in spec else "–" for spec in specs)
    return ", ".join(values)


def line_name(group: Sequence[JobRow]) -> str:
    """The group's name in a legend: its job's name, or what its jobs' names begin with, and how many there are."""
    names = [row.name or row.id for row in group]
    if len(group) == 1:
        return names[0]
    common = _SEED_ENDING.sub("", _common_beginning(names))
    what = "seeds" if len({row.seed for row in group}) == len(group) else "jobs"
    return f"{common or names[0]}, {len(group)} {what}"


def _common_beginning(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    same = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:same]


def run_document(group: Sequence[JobRow], told: Sequence[Told]) -> dict[str, Any]:
    """One line of the charts: a job, or the mean over jobs of several seeds; all its points."""
    runs = [curves.points(one.metrics, job.started_unix_s) for job, one in zip(group, told, strict=True)]
    held_out = [curves.held_out(one.evaluations) for one in told]
    alone = len(group) == 1
    return {
        "name": line_name(group),
        "started_unix_s": group[0].started_unix_s,
        "rows": runs[0] if alone else curves.mean_over_seeds(runs),
        "held_out": held_out[0] if alone else curves.mean_held_out(held_out),
    }


def document(
    panels: Sequence[Panel], runs: Sequence[dict[str, Any]], jobs: Sequence[str], seeds: Seeds
) -> dict[str, Any]:
    """The browser's document: panels, a part of each line's points, and the source of the points left out."""
    return {
        "panels": curves.panel_documents(panels),
        "runs": [{**run, "rows": curves.thinned(run["rows"]), "batches": len(run["rows"])} for run in runs],
        "more": "/compare/curves?" + urlencode([*(("job", job) for job in jobs), ("seeds", seeds)]),
    }
