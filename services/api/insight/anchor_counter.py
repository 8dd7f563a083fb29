"""Checks whether states recur or differ only in a counter: compares stored anchors with and without their numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import combinations, pairwise

from services.api.insight.evidence import figure
from services.contracts.archive import Group
from services.contracts.rest.insight import Figure

LEAST_STEPS = 50
"""Later steps below which nothing is said."""
PLACES = 8
"""Numbers at either end of an anchor that are looked at."""
ALWAYS = 0.95
"""Share of the steps in which a counter moves in its one direction; an overflow or a reset may break it."""
MOST_COMPARED = 30
"""Anchors of a group that are compared with each other: 435 pairs of long texts take a second."""
MOST_CHARACTERS = 2_000
_NUMBER = re.compile(r"\d+(?:[.:,]\d+)*")
_PLAIN_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,15})?")
_WORD = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True)
class Met:
    """Share of the later steps whose state another step of the group was in too, [0, 1]."""

    as_they_are: float
    without_numbers: float


@dataclass(frozen=True)
class Nearest:
    """The two most alike of all different anchors of a group."""

    one: str
    other: str

    @property
    def difference(self) -> str:
        """The words that differ between the two, in order: `3 → 4; open → shut`."""
        words, others = _WORD.findall(self.one), _WORD.findall(self.other)
        changes = SequenceMatcher(None, words, others, autojunk=False).get_opcodes()
        parts = [
            f"{''.join(words[a:b]).strip() or 'nothing'} → {''.join(others[c:d]).strip() or 'nothing'}"
            for kind, a, b, c, d in changes
            if kind != "equal"
        ]
        return "; ".join(parts)

    def figures(self) -> list[Figure]:
        """The two texts, and how they differ."""
        return [
            figure("anchor", self.one, "one of the two nearest anchors of a group"),
            figure("nearest_anchor", self.other, "the other one"),
            figure("difference", self.difference, "from the one to the other"),
        ]


def later_visits_met(groups: Sequence[Group]) -> Met | None:
    """How often a state was met again; the first step of an episode is left out, as all of a group share it.

    None: there are fewer than `LEAST_STEPS` later steps.
    """
    total = plain = masked = 0
    for _, episodes in groups:
        anchors = [step.anchor for episode in episodes for step in episode.steps if step.step_index > 0]
        total += len(anchors)
        plain += _shared(anchors)
        masked += _shared([_NUMBER.sub("#", anchor) for anchor in anchors])
    return Met(plain / total, masked / total) if total >= LEAST_STEPS else None


def counts_steps(groups: Sequence[Group]) -> bool:
    """Whether a number in the anchors only rises, or only falls, from each step of an episode to the next.

    Numbers are told apart by their place among the numbers of an anchor, from its beginning or its end.
    """
    moves: dict[int, Counter[int]] = {}
    for _, episodes in groups:
        for episode in episodes:
            values = [_numbers_of(step.anchor) for step in episode.steps]
            for former, later in pairwise(values):
                for place in former.keys() & later.keys():
                    moves.setdefault(place, Counter())[_sign(later[place] - former[place])] += 1
    return any(
        made.total() >= LEAST_STEPS and max(made[1], made[-1]) >= ALWAYS * made.total() for made in moves.values()
    )


def nearest_anchors(groups: Sequence[Group]) -> Nearest | None:
    """The two most alike anchors of the first group with different ones: those that differ in numbers alone, first."""
    for _, episodes in groups:
        anchors = _distinct(step.anchor for episode in episodes for step in episode.steps if step.step_index > 0)
        if len(anchors) > 1:
            return max((Nearest(a, b) for a, b in combinations(anchors, 2)), key=_likeness)
    return None


def _numbers_of(anchor: str) -> dict[int, float]:
    """Place -> number: 0, 1, ... from the beginning, -1, -2, ... from the end."""
    found = [float(one) for one in _PLAIN_NUMBER.findall(anchor)]
    first = dict(enumerate(found[:PLACES]))
    return first | {-1 - at: value for at, value in enumerate(found[: -PLACES - 1 : -1])}


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _distinct(anchors: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(anchor[:MOST_CHARACTERS] for anchor in anchors))[:MOST_COMPARED]


def _likeness(pair: Nearest) -> tuple[bool, float]:
    same = _NUMBER.sub("#", pair.one) == _NUMBER.sub("#", pair.other)
    return same, SequenceMatcher(None, pair.one.split(), pair.other.split(), autojunk=False).ratio()


def _shared(anchors: Sequence[str]) -> int:
    return sum(times for times in Counter(anchors).values() if times > 1)
