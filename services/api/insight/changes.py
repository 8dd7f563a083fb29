"""Finds states in which a policy's choice changed between two tables, and states in which it errs. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from services.api.insight.state_table import Actions, StateTable, Tally, return_of, states_of_table, visits_of

MIN_ACTION_VISITS = 2
"""Visits of an action before its mean return may call it the best: one visit is luck."""


@dataclass(frozen=True)
class Moved:
    """A state that both sides came to often enough."""

    state: bytes
    before: Actions
    after: Actions
    total_variation: float
    """Half the sum of |p_before(a) - p_after(a)| over the actions, [0, 1]."""
    by_chance: float
    """The distance to expect if nothing had changed: so many visits do not show a choice exactly."""

    @property
    def beyond_chance(self) -> float:
        """How far the choice moved for certain; negative: no further than chance moves it."""
        return self.total_variation - self.by_chance


@dataclass(frozen=True)
class Erring:
    """A state, and how far what was done there stays behind the best that was seen there."""

    state: bytes
    actions: Actions
    best: str
    """The action with the highest mean return, of those taken `MIN_ACTION_VISITS` times."""
    usual: str
    """The action that was taken most often."""

    @property
    def visits(self) -> int:
        return visits_of(self.actions)

    @property
    def regret(self) -> float:
        """Mean return of the best action less that of all visits; below 0 where an action tried once was better."""
        return self.actions[self.best].return_mean - return_of(self.actions)


def moved_states(before: StateTable, after: StateTable, *, min_visits: int) -> list[Moved]:
    """States with `min_visits` on either side; those whose choice moved furthest beyond chance first."""
    found = [
        Moved(state, then, now, total_variation(then, now), variation_by_chance(then, now))
        for state, then in states_of_table(before, min_visits)
        if visits_of(now := after.at(state)) >= min_visits
    ]
    return sorted(found, key=lambda one: (-one.beyond_chance, -visits_of(one.after), one.state))


def total_variation(before: Actions, after: Actions) -> float:
    """Half the sum of the differences of the actions' shares, [0, 1]; of states with at least one visit each."""
    n, m = visits_of(before), visits_of(after)
    return sum(abs(_times(before, one) / n - _times(after, one) / m) for one in _actions(before, after)) / 2


def variation_by_chance(before: Actions, after: Actions) -> float:
    """The mean total variation of two samples of these sizes from one choice, the pooled one.

    Each share's difference is taken as normal, whose mean size is sqrt(2 / pi) of its standard deviation.
    """
    n, m = visits_of(before), visits_of(after)
    shares = ((_times(before, one) + _times(after, one)) / (n + m) for one in _actions(before, after))
    return sum(math.sqrt(2 / math.pi * share * (1 - share) * (1 / n + 1 / m)) for share in shares) / 2


def mean_variation(moved: list[Moved]) -> tuple[float, float]:
    """Mean total variation and mean chance of the states, each weighed by its visits on the later side; 0 for none."""
    weights = [visits_of(one.after) for one in moved]
    total = sum(weights) or 1
    return (
        sum(one.total_variation * weight for one, weight in zip(moved, weights, strict=True)) / total,
        sum(one.by_chance * weight for one, weight in zip(moved, weights, strict=True)) / total,
    )


def erring_states(table: StateTable, *, min_visits: int) -> list[Erring]:
    """States with `min_visits` in which a known action is better than what is done there; the largest regret first."""
    found = [
        Erring(state, actions, best, max(actions, key=lambda one: actions[one].visits))
        for state, actions in states_of_table(table, min_visits)
        if len(actions) > 1 and (best := best_action(actions)) is not None
    ]
    return sorted((one for one in found if one.regret > 0), key=lambda one: (-one.regret, -one.visits, one.state))


def best_action(actions: Actions) -> str | None:
    """The action with the highest mean return; None: none was taken `MIN_ACTION_VISITS` times."""
    known = [name for name, tally in actions.items() if tally.visits >= MIN_ACTION_VISITS]
    return max(known, key=lambda one: actions[one].return_mean, default=None)


def most_moved(moved: Moved, most: int) -> Iterator[tuple[str, Tally | None, Tally | None]]:
    """Actions of a state, those whose share moved furthest first: (action, before, after), None where it was not
    taken."""
    n, m = visits_of(moved.before), visits_of(moved.after)

    def shift(action: str) -> float:
        return -abs(_times(moved.before, action) / n - _times(moved.after, action) / m)

    ordered = sorted(_actions(moved.before, moved.after), key=shift)
    return ((one, moved.before.get(one), moved.after.get(one)) for one in islice(ordered, most))


def _actions(before: Actions, after: Actions) -> list[str]:
    return list(dict.fromkeys([*before, *after]))


def _times(actions: Actions, action: str) -> int:
    tally = actions.get(action)
    return tally.visits if tally else 0
