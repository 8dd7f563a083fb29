"""Rows for the optimizer, made from the ledger's payloads: one row is one agent step with its advantage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.contracts.arrays import unpack_float32, unpack_float64, unpack_int32
from services.contracts.messages import Episode, ScoredGroup, Step
from services.trainer.learner.errors import RowsError

Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""(prompt_ids, response_ids)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One model turn as it was sampled; R >= 1 response tokens."""

    prompt_ids: tuple[int, ...]
    """[P], P >= 1."""
    response_ids: tuple[int, ...]
    """[R], the stop token included."""
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


def rows_of(episodes: Sequence[Episode], scored: ScoredGroup) -> list[Row]:
    """Every step of a group's episodes, ordered by (k, step_index) whatever the order of `episodes`.

    Raises:
        RowsError: the scores are of another group or number of steps, an episode or step is there twice, a step holds
            no tokens or arrays of different lengths, or a log-probability or advantage is not finite.
    """
    steps = _ordered_steps(episodes, scored.group_id)
    advantages = unpack_float64(scored.advantage)
    if len(advantages) != len(steps):
        raise RowsError(f"group {scored.group_id}: want {len(steps)} advantages, one per step, got {len(advantages)}")
    named = zip(steps, advantages, strict=True)
    return [_row(name, step, advantage, scored.group_id) for (name, step), advantage in named]


def supervised_pairs(episodes: Sequence[Episode]) -> list[Pair]:
    """(prompt_ids, response_ids) of every step with a valid action, in the order given, then by step_index.

    Raises:
        RowsError: a step holds no prompt or no response.
    """
    pairs: list[Pair] = []
    for episode in episodes:
        for step in sorted(episode.steps, key=lambda step: step.step_index):
            if step.action_valid:
                name = f"episode {episode.episode_id} step {step.step_index}"
                row = _row(name, step, 0.0, episode.group_id)
                pairs.append((row.prompt_ids, row.response_ids))
    return pairs


def _ordered_steps(episodes: Sequence[Episode], group_id: str) -> list[tuple[str, Step]]:
    if strangers := [episode.episode_id for episode in episodes if episode.group_id != group_id]:
        raise RowsError(f"group {group_id}: episode {strangers[0]} belongs to another group")
    placed = {(episode.k, step.step_index): step for episode in episodes for step in episode.steps}
    if len(placed) != sum(len(episode.steps) for episode in episodes):
        raise RowsError(f"group {group_id}: an episode or a step occurs twice")
    return [(f"episode {group_id}/{k} step {i}", placed[k, i]) for k, i in sorted(placed)]


def _row(name: str, step: Step, advantage: float, group_id: str) -> Row:
    row = Row(
        prompt_ids=tuple(unpack_int32(step.prompt_ids)),
        response_ids=tuple(unpack_int32(step.response_ids)),
        rollout_logprobs=tuple(unpack_float32(step.logprobs)),
        versions=tuple(unpack_int32(step.versions)),
        advantage=advantage,
        group_id=group_id,
        finished=step.finish_reason != "length",
    )
    if not row.prompt_ids or not row.response_ids:
        raise RowsError(f"{name}: want a prompt and a response, got {len(row.prompt_ids)} and {len(row.response_ids)}")
    if not len(row.response_ids) == len(row.rollout_logprobs) == len(row.versions):
        raise RowsError(
            f"{name}: want a log-probability and a version per response token, got {len(row.response_ids)} tokens, "
            f"{len(row.rollout_logprobs)} log-probabilities, {len(row.versions)} versions"
        )
    if not all(map(math.isfinite, (*row.rollout_logprobs, advantage))):
        raise RowsError(f"{name}: want finite log-probabilities and advantage, got another number")
    return row
