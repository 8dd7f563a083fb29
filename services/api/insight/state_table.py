"""The table of states over whole batches: the actions of each state, their counts and returns. No I/O.

A state is an anchor with its task, because the policy decides by both. Equal states of other groups, batches or jobs
are the same state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from services.contracts.archive import Encoded
from services.contracts.arrays import unpack_float64
from services.contracts.messages import Episode, Message, ScoredGroup, decode_view

LONGEST_ANCHOR = 1_000
"""Characters of an anchor that are shown; the rest stands in the rollouts."""
LONGEST_ACTION = 500
"""Characters of an action that are told apart and shown."""


@dataclass(frozen=True)
class Place:
    """One step: where a state can be looked at."""

    batch: int
    """The trained batch, or the policy version that an evaluation measured."""
    group_id: str
    k: int
    step_index: int


@dataclass
class Tally:
    """All visits to one state that took one action."""

    visits: int
    return_sum: float
    """The mean of the steps' discounted returns."""
    won: int
    """Visits of episodes that were won."""
    valid: bool
    place: Place
    """The newest of them."""

    @property
    def return_mean(self) -> float:
        """Mean discounted return of a visit."""
        return self.return_sum / self.visits

    def with_more(self, other: Tally) -> Tally:
        """Add both tallies; `other` is newer."""
        return Tally(
            self.visits + other.visits,
            self.return_sum + other.return_sum,
            self.won + other.won,
            self.valid and other.valid,
            other.place,
        )


Actions = Mapping[str, Tally]


@dataclass
class StateTable:
    """State -> action -> its visits."""

    states: dict[bytes, dict[str, Tally]] = field(default_factory=dict)
    texts: dict[bytes, tuple[str, str]] = field(default_factory=dict)
    """State -> its task and its anchor."""
    episodes: int = 0
    won: int = 0

    @property
    def steps(self) -> int:
        """All visits."""
        return sum(tally.visits for actions in self.states.values() for tally in actions.values())

    def add(self, state: bytes, action: str, tally: Tally) -> None:
        """Count visits that are newer than those before."""
        actions = self.states.setdefault(state, {})
        former = actions.get(action)
        actions[action] = tally if former is None else former.with_more(tally)

    def at(self, state: bytes) -> Actions:
        """The actions of a state; empty: nobody was there."""
        return self.states.get(state, {})


def merged(tables: Iterable[StateTable]) -> StateTable:
    """All tables as one, the newest last."""
    whole = StateTable()
    for table in tables:
        whole.episodes += table.episodes
        whole.won += table.won
        whole.texts |= table.texts
        for state, actions in table.states.items():
            for action, tally in actions.items():
                whole.add(state, action, tally)
    return whole


def state_key(task: str, anchor: str) -> bytes:
    """16 bytes that name a state; the same in every group, batch and job."""
    return blake2b(f"{task}\x00{anchor}".encode(errors="surrogatepass"), digest_size=16).digest()


def visits_of(actions: Actions) -> int:
    """How often a state was visited."""
    return sum(tally.visits for tally in actions.values())


def return_of(actions: Actions) -> float:
    """Mean return of a state's visits, of which there is at least one."""
    return sum(tally.return_sum for tally in actions.values()) / visits_of(actions)


class PlayedStep(msgspec.Struct, frozen=True):
    """The fields of a `Step` that a table needs: the rest is skipped, not decoded."""

    step_index: int
    anchor: str
    action: str
    action_valid: bool


class _PlayedEpisode(Message, frozen=True, kw_only=True):
    k: int
    task: str
    won: bool
    steps: list[PlayedStep]


class _Scores(Message, frozen=True, kw_only=True):
    group_id: str
    step_return: bytes


def table_of(batch: int, groups: Iterable[Encoded]) -> StateTable:
    """The table of one archive. Raises ContractError."""
    table = StateTable()
    for scores, episodes in groups:
        scored = decode_view(scores, ScoredGroup, _Scores)
        returns = iter(unpack_float64(scored.step_return))
        for payload in episodes:
            episode = decode_view(payload, Episode, _PlayedEpisode)
            table.episodes += 1
            table.won += episode.won
            for step, step_return in zip(episode.steps, returns, strict=False):
                place = Place(batch, scored.group_id, episode.k, step.step_index)
                tally = Tally(1, step_return, int(episode.won), step.action_valid, place)
                state = state_key(episode.task, step.anchor)
                table.add(state, shown_action(step.action), tally)
                table.texts[state] = episode.task, _cut(step.anchor, LONGEST_ANCHOR)
    return table


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def shown_action(action: str) -> str:
    """The action as tables tell it apart."""
    if len(action) <= LONGEST_ACTION:
        return action
    digest = blake2b(action.encode(errors="surrogatepass"), digest_size=4).hexdigest()
    return f"{action[:LONGEST_ACTION]}… ({digest})"


def states_of_table(table: StateTable, min_visits: int) -> Iterator[tuple[bytes, dict[str, Tally]]]:
    """States with at least so many visits."""
    return ((key, actions) for key, actions in table.states.items() if visits_of(actions) >= min_visits)
