"""Rows for the optimizer, made from the ledger's payloads: one row is one agent step with its advantage.

The steps of a conversation hold one sequence, which is forwarded once; each is a response of its own in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from gigpo_core import Turn
from gigpo_core.turns import Allowed
from services.contracts.arrays import unpack_float32, unpack_float64, unpack_int32
from services.contracts.guidance import allowed_along, pack_allowed, unpack_allowed
from services.contracts.messages import Episode, ScoredGroup, Step
from services.trainer.learner.errors import RowsError


@dataclass(frozen=True, slots=True)
class Row:
    """One model turn as it was sampled; P >= 1 prompt tokens, R >= 1 response tokens, the stop token included."""

    turn: Turn
    """Rows of one conversation hold one `ids` object."""
    rollout_logprobs: tuple[float, ...]
    """[R], natural logarithm under the distribution the engine sampled from."""
    versions: tuple[int, ...]
    """[R], policy version that sampled each token."""
    advantage: float
    """A of the step, for every token of the response."""
    group_id: str
    """The group whose episodes the step is compared with."""
    finished: bool = True
    """False: the response was cut at max_completion_length."""

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """[P]: all that the policy saw."""
        return self.turn.prompt

    @property
    def response_ids(self) -> tuple[int, ...]:
        """[R]."""
        return self.turn.response


def rows_of(episodes: Sequence[Episode], scored: ScoredGroup) -> list[Row]:
    """Every step of a group's episodes, ordered by (k, step_index) whatever the order of `episodes`.

    Raises:
        RowsError: the scores are of another group or number of steps, an episode or step is there twice, a step holds
            no tokens or arrays of different lengths, a log-probability or advantage is not finite, or a response is
            none of those that it could be.
    """
    steps = _ordered_steps(episodes, scored.group_id)
    advantages = unpack_float64(scored.advantage)
    if len(advantages) != len(steps):
        raise RowsError(f"group {scored.group_id}: want {len(steps)} advantages, one per step, got {len(advantages)}")
    turns = turns_of([step for _, step in steps])
    rows = []
    for (episode, step), turn, advantage in zip(steps, turns, advantages, strict=True):
        name = f"episode {scored.group_id}/{episode.k} step {step.step_index}"
        allowed = _allowed(name, episode, step) if step.choices else _kept(name, step) if step.kept else b""
        rows.append(_row(name, step, turn._replace(allowed=allowed), advantage, scored.group_id))
    return rows


def turns_of(steps: Sequence[Step]) -> list[Turn]:
    """Each step within its sequence; steps of any number of episodes, each episode's in order.

    Raises:
        RowsError: the first step of an episode continues another.
    """
    sequences: list[list[int]] = []
    places: list[tuple[int, int, int]] = []
    for step in steps:
        if not step.continues:
            sequences.append([])
        elif step.step_index == 0:
            raise RowsError("want a first step that begins a conversation, got one that continues another")
        ids = sequences[-1]
        ids += unpack_int32(step.prompt_ids)
        start = len(ids)
        ids += unpack_int32(step.response_ids)
        places.append((len(sequences) - 1, start, len(ids)))
    whole = [tuple(ids) for ids in sequences]
    return [Turn(whole[number], start, stop) for number, start, stop in places]


def supervised_turns(episodes: Sequence[Episode]) -> list[Turn]:
    """Every step with a valid action, in the order given, then by step_index.

    Raises:
        RowsError: a step holds no prompt or no response.
    """
    turns: list[Turn] = []
    for episode in episodes:
        steps = sorted(episode.steps, key=lambda step: step.step_index)
        for step, turn in zip(steps, turns_of(steps), strict=True):
            if step.action_valid:
                name = f"episode {episode.episode_id} step {step.step_index}"
                turns.append(_row(name, step, turn, 0.0, episode.group_id).turn)
    return turns


CACHED_CHOICES = 8_192
"""States recur, and so do their replies."""


@lru_cache(CACHED_CHOICES)
def _along(choices: tuple[bytes, ...], response: bytes) -> Allowed | None:
    found = allowed_along([unpack_int32(choice) for choice in choices], unpack_int32(response))
    return None if found is None else pack_allowed(found)


def _allowed(name: str, episode: Episode, step: Step) -> Allowed:
    """The ids that each token of a guided response could have been. Raises RowsError."""
    places = unpack_int32(step.choices)
    if not all(0 <= place < len(episode.replies) for place in places):
        raise RowsError(f"{name}: want choices among {len(episode.replies)} replies, got {max(places, key=abs)}")
    found = _along(tuple(episode.replies[place] for place in places), step.response_ids)
    if found is None:
        raise RowsError(f"{name}: want one of the {len(places)} replies that it could be, got another response")
    return found


def _kept(name: str, step: Step) -> Allowed:
    """The ids among which each token was sampled. Raises RowsError."""
    response = unpack_int32(step.response_ids)
    try:
        kept = unpack_allowed(step.kept, len(response))
    except ValueError as error:
        raise RowsError(f"{name}: kept: {error}") from error
    for token, ids in zip(response, kept, strict=True):
        if token not in ids:
            raise RowsError(f"{name}: want the sampled token {token} among the {len(ids)} that it could be")
    return step.kept


def _ordered_steps(episodes: Sequence[Episode], group_id: str) -> list[tuple[Episode, Step]]:
    if strangers := [episode.episode_id for episode in episodes if episode.group_id != group_id]:
        raise RowsError(f"group {group_id}: episode {strangers[0]} belongs to another group")
    placed = {(episode.k, step.step_index): (episode, step) for episode in episodes for step in episode.steps}
    if len(placed) != sum(len(episode.steps) for episode in episodes):
        raise RowsError(f"group {group_id}: an episode or a step occurs twice")
    return [placed[at] for at in sorted(placed)]


def _row(name: str, step: Step, turn: Turn, advantage: float, group_id: str) -> Row:
    row = Row(
        turn=turn,
        rollout_logprobs=tuple(unpack_float32(step.logprobs)),
        versions=tuple(unpack_int32(step.versions)),
        advantage=advantage,
        group_id=group_id,
        finished=step.finish_reason != "length",
    )
    said = turn.stop - turn.start
    if not step.prompt_ids or not turn.start or not said:
        raise RowsError(f"{name}: want a prompt and a response, got {len(step.prompt_ids) // 4} and {said}")
    if not said == len(row.rollout_logprobs) == len(row.versions):
        raise RowsError(
            f"{name}: want a log-probability and a version per response token, got {said} tokens, "
            f"{len(row.rollout_logprobs)} log-probabilities, {len(row.versions)} versions"
        )
    if not all(map(math.isfinite, (*row.rollout_logprobs, advantage))):
        raise RowsError(f"{name}: want finite log-probabilities and advantage, got another number")
    return row
