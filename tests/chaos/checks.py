"""Checks of what must hold after the faults. Every check is a function of what a job left behind, so that it can be
shown to fail on a ledger or weights that somebody spoiled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from services.contracts.messages import Episode
from services.contracts.metrics import of_the_clock
from services.ledger.records import Balance
from services.ledger.states import DropReason

OF_THE_RUN = frozenset({"failed_attempts"})
"""How often things were tried: beside those of the clock the only metrics in which two equal runs differ."""
SHOWN = 3


@dataclass(frozen=True)
class TrainedGroup:
    """One group of a trained batch, as the archive has it."""

    batch: int
    group_id: str
    episodes: Sequence[Episode]


@dataclass(frozen=True)
class Remains:
    """The state that a job left behind."""

    state: str
    balance: Balance
    always_balanced: bool
    """Whether the ledger balanced at every look while the job ran."""
    groups: Sequence[TrainedGroup]
    states: Mapping[str, str]
    """Trained group -> its state in the ledger."""
    metrics: Sequence[Mapping[str, float]]
    evaluations: Sequence[Mapping[str, object]]
    weights: str
    """SHA-256 of the trained policy."""
    left_over: Sequence[str] = field(default=())
    """Sentences: entries, processes and files that should not be there any more."""


@dataclass(frozen=True)
class Shape:
    """The job's training as its spec wants it."""

    batches: int
    groups: int
    """Groups of a batch."""
    episodes: int
    """Episodes of a group."""


@dataclass(frozen=True)
class Check:
    """One verdict; `found` says what was wrong, empty where nothing was."""

    name: str
    found: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing was wrong."""
        return not self.found


def all_checks(struck: Remains, quiet: Remains, shape: Shape) -> list[Check]:
    """Every check of a job that was struck, beside one of the same seed that was not."""
    return [
        Check("the job succeeded", "" if struck.state == "SUCCEEDED" else f"its state is {struck.state}"),
        Check("the ledger balances, and did at every look", _first(unbalanced(struck))),
        Check("every trained group once, unique and whole", _first(untrue_groups(struck, shape))),
        Check("no infrastructure fault became a reward or cost a group", _first(spoiled_rewards(struck))),
        Check("the same episodes were played as in the quiet run", _first(other_episodes(struck, quiet))),
        Check("losses and metrics are equal to the bit", _first(other_metrics(struck, quiet))),
        Check("evaluations are equal to the bit", _differing(struck.evaluations, quiet.evaluations)),
        Check("the trained weights are equal to the bit", _differing(struck.weights, quiet.weights)),
        Check("nothing is left over", _first(struck.left_over)),
    ]


def unbalanced(job: Remains) -> list[str]:
    """List the parts of the ledger's invariant that do not hold."""
    balance = job.balance
    found = [] if job.always_balanced else ["a look while the job ran found it unbalanced"]
    if not balance.holds:
        found.append(f"at the end: {balance}")
    if balance.live:
        found.append(f"{balance.live} groups are still live")
    return found


def untrue_groups(job: Remains, shape: Shape) -> list[str]:
    """Groups that are missing, double, torn, or of which the ledger says something else."""
    found = [f"group {name} was trained {count} times" for name, count in _repeated(one.group_id for one in job.groups)]
    sizes = Counter(group.batch for group in job.groups)
    if sizes != dict.fromkeys(range(shape.batches), shape.groups):
        found.append(f"want {shape.groups} groups in each of {shape.batches} batches, got {dict(sizes)}")
    for group in job.groups:
        if [episode.k for episode in group.episodes] != list(range(shape.episodes)):
            found.append(f"group {group.group_id} has the episodes {[episode.k for episode in group.episodes]}")
        if len({(episode.task, episode.steps[0].state_key) for episode in group.episodes}) != 1:
            found.append(f"the episodes of group {group.group_id} begin differently")
        if any(episode.group_id != group.group_id for episode in group.episodes):
            found.append(f"group {group.group_id} holds an episode of another group")
    states = {group.group_id: job.states.get(group.group_id, "unknown to the ledger") for group in job.groups}
    wrong = [f"trained group {name} is {state}" for name, state in states.items() if state != "CONSUMED"]
    if wrong:
        found.append(f"{len(wrong)} of {len(states)}: {', '.join(wrong[:SHOWN])}")
    if job.balance.consumed < len(states):
        found.append(f"{len(states)} groups were trained, the ledger counts {job.balance.consumed} consumed")
    return found


def spoiled_rewards(job: Remains) -> list[str]:
    """Signs of an infrastructure fault in what was trained, or of a group that one cost."""
    costly = {
        reason: number for reason, number in job.balance.dropped.items() if number and reason != DropReason.FILTERED
    }
    found = [f"{number} groups were dropped ({reason})" for reason, number in costly.items()]
    for group in job.groups:
        for episode in group.episodes:
            name = f"episode {episode.episode_id}"
            if not (episode.terminated or episode.truncated):
                found.append(f"{name} was trained though it never ended")
            if [step.step_index for step in episode.steps] != list(range(len(episode.steps))):
                found.append(f"{name} lacks steps")
            if not all(math.isfinite(step.reward) for step in episode.steps):
                found.append(f"{name} has a reward that is no number")
            if not all(step.response_ids for step in episode.steps):
                found.append(f"{name} has a step that nothing was sampled for")
    return found


def other_episodes(struck: Remains, quiet: Remains) -> list[str]:
    """Trained episodes that are not those of the quiet run."""
    ours, theirs = (_played(job) for job in (struck, quiet))
    found = [f"only one of the runs trained {name}" for name in sorted(ours.keys() ^ theirs.keys())]
    return found + [
        f"batch {ours[name][0]}: {name} differs" for name in ours if name in theirs and ours[name] != theirs[name]
    ]


def other_metrics(struck: Remains, quiet: Remains) -> list[str]:
    """Metrics that are not those of the quiet run, first batch first."""
    ours, theirs = ([_learned(row) for row in job.metrics] for job in (struck, quiet))
    if len(ours) != len(theirs):
        return [f"{len(ours)} batches are recorded, {len(theirs)} of the quiet run"]
    found = []
    for row, other in zip(ours, theirs, strict=True):
        names = sorted(name for name in row.keys() | other.keys() if row.get(name) != other.get(name))
        if names:
            found.append(f"batch {row.get('batch')}: {', '.join(names[:SHOWN])} ({len(names)} of {len(row)} metrics)")
    return found


def _played(job: Remains) -> dict[str, tuple[int, object]]:
    """Episode -> its batch and everything in it but who played it, when and at which attempt."""
    return {
        episode.episode_id: (group.batch, (episode.task, episode.steps, episode.won, episode.score, episode.terminated))
        for group in job.groups
        for episode in group.episodes
    }


def _learned(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if not of_the_clock(name) and name not in OF_THE_RUN}


def _repeated(names: Iterable[str]) -> list[tuple[str, int]]:
    return [(name, count) for name, count in Counter(names).items() if count > 1]


def _differing(ours: object, theirs: object) -> str:
    return "" if ours == theirs else f"{ours}, of the quiet run {theirs}"


def _first(found: Sequence[str]) -> str:
    more = f" (and {len(found) - SHOWN} more)" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more
