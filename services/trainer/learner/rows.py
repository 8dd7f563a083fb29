"""One row = one agent step with its advantage: what the ledger's payloads come down to for the optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.contracts.messages import Episode, ScoredGroup


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


def rows_of(episodes: Sequence[Episode], scored: ScoredGroup) -> list[Row]:
    """Every step of a group's episodes, ordered by (k, step_index) whatever the order of `episodes`.

    Raises:
        RowsError: the scores are of another group or number of steps, an episode is there twice, a step holds no
            response or arrays of different lengths, or a log-probability or advantage is not finite.
    """
    raise NotImplementedError


def supervised_pairs(episodes: Sequence[Episode]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(prompt_ids, response_ids) of every valid step, ordered by (episode as given, step_index)."""
    raise NotImplementedError
