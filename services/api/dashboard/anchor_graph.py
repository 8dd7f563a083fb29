"""A group as a graph: its anchor states, and the actions that led from one to the next. No HTTP, no pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean

from services.contracts.rest.rollouts import AnchorAction, AnchorState, Visit

SOLVED, UNSOLVED = -1, -2
"""The end of an episode: it was won, or it was not."""


@dataclass(frozen=True)
class Transition:
    """All visits that took one action from one state to one other."""

    source: int
    target: int
    action: str
    times: int
    step_advantage: float
    """Mean A^S."""


@dataclass(frozen=True)
class GraphState:
    """A state, and what the graph shows of it."""

    seen: AnchorState
    spread: float
    """Largest less smallest A^S: how far its actions are told apart."""
    depth: int
    """The earliest step at which it was visited."""
    leads_to: dict[str, list[int]]
    """Action -> the states that followed, SOLVED and UNSOLVED among them, each once."""

    @property
    def label(self) -> int:
        return self.seen.step_group


@dataclass(frozen=True)
class AnchorGraph:
    """The states of a group and what led from one to another."""

    states: tuple[GraphState, ...]
    """States in order of first appearance."""
    transitions: tuple[Transition, ...]

    @property
    def met(self) -> int:
        """States in which at least two visits are compared."""
        return sum(state.seen.visits > 1 for state in self.states)

    @property
    def telling(self) -> int:
        """States whose actions got different advantages."""
        return sum(state.spread > 0 for state in self.states)

    @property
    def most_telling(self) -> int | None:
        """The state with the largest spread, the first of equals; None: there are no states."""
        return max(self.states, key=lambda state: state.spread).label if self.states else None

    @property
    def scale(self) -> float:
        """The largest |A^S|; 1 where all are 0."""
        advantages = (visit.step_advantage for state in self.states for visit in _visits(state.seen))
        return max(map(abs, advantages), default=0.0) or 1.0


def anchor_graph(states: Iterable[AnchorState]) -> AnchorGraph:
    """The graph of a group's states."""
    found = sorted((_graph_state(state) for state in states), key=lambda state: state.label)
    return AnchorGraph(tuple(found), tuple(link for state in found for link in _transitions(state.seen)))


def _graph_state(state: AnchorState) -> GraphState:
    visits = list(_visits(state))
    advantages = [visit.step_advantage for visit in visits]
    return GraphState(
        seen=state,
        spread=max(advantages) - min(advantages),
        depth=min(visit.step_index for visit in visits),
        leads_to={taken.action: _targets(taken) for taken in state.actions},
    )


def _visits(state: AnchorState) -> Iterator[Visit]:
    return (visit for taken in state.actions for visit in taken.visits)


def _target(visit: Visit) -> int:
    if visit.leads_to is not None:
        return visit.leads_to
    return SOLVED if visit.won else UNSOLVED


def _targets(taken: AnchorAction) -> list[int]:
    return list(dict.fromkeys(_target(visit) for visit in taken.visits))


def _transitions(state: AnchorState) -> Iterator[Transition]:
    for taken in state.actions:
        for target in _targets(taken):
            advantages = [visit.step_advantage for visit in taken.visits if _target(visit) == target]
            yield Transition(state.step_group, target, taken.action, len(advantages), fmean(advantages))
