"""The rows an advantage is computed from: one row is one agent step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gigpo_core.errors import (
    DtypeError,
    DuplicateStepError,
    EpisodeGroupError,
    MissingStepError,
    NegativeIdError,
    NonFiniteRewardError,
    ShapeError,
)
from gigpo_core.segments import Segments, segments_of_sorted

INT64_MAX = 2**63 - 1
LARGEST_REWARD = 1e100
"""Rewards beyond it are refused: with it no sum of squares over as many rows as there can be overflows float64, so
advantages are finite numbers."""


@dataclass(frozen=True)
class StepBatch:
    """N steps of E episodes of G groups, in any row order; all tensors on one device.

    Nothing is checked here: `compute_advantages` checks everything.
    """

    group_id: Tensor
    """int64 [N], >= 0. Episodes of one group start from the same initial state of the same task."""
    episode_id: Tensor
    """int64 [N], >= 0. Unique over groups: rows of one episode have one group."""
    step_index: Tensor
    """int64 [N]. Each episode holds 0, 1, ..., L-1, each once. This is time; row order is not."""
    anchor_key: Tensor
    """int64 [N, 2]: the 16 bytes of `anchor_digest` of the state the step was taken in."""
    reward: Tensor
    """float [N], reward units: the immediate reward of the step. Finite, at most 1e100 in size."""
    action_valid: Tensor | None = None
    """bool [N]; None: all valid."""
    anchor_text: Sequence[str] | None = None
    """N texts; only similarity grouping reads them."""
    kl: Tensor | None = None
    """float [N]: k1 estimate of the KL to the reference model, summed over the step's tokens."""
    reward_components: Tensor | None = None
    """float [N, F]: rewards of F reward functions. Then `reward` is added to their weighted sum."""
    reward_voted: Tensor | None = None
    """bool [N, F]: False where a function abstains; its component is 0 there. None: none does."""
    success: Tensor | None = None
    """bool [N]: True on the last step of an episode that reached its goal; for estimators that ask for the way to it.
    None: an episode succeeded if its undiscounted return is above 0."""
    state_key: Tensor | None = None
    """int64 [N, 2]: the digest of the exact state, where an environment can tell it: what `anchor_state: exact`
    compares; otherwise only diagnostics read it."""
    action_key: Tensor | None = None
    """int64 [N, 2]: the digest of the action that was executed; what the step level by actions compares."""


@dataclass(frozen=True)
class Extent:
    """How far a batch reaches, known on the host. All 0 for no rows."""

    rows: int
    largest_episode: int
    """Largest episode_id."""
    longest: int
    """Steps of the longest episode, if no episode has a gap: one more than the largest step_index."""


@dataclass(frozen=True)
class OrderedSteps:
    """A checked batch in canonical order: by (episode_id, step_index), so time runs with the rows."""

    order: Tensor | None
    """int64 [N]: canonical row i is given row `order[i]`. None: the rows already were in order."""
    place: Tensor | None
    """int64 [N]: given row i is canonical row `place[i]`. None with `order`."""
    episodes: Segments
    """One segment per episode, in canonical order."""
    group_id: Tensor
    """int64 [N], canonical order."""
    position: Tensor
    """int64 [N]: the step index, canonical order."""
    longest: int
    """Steps of the longest episode."""

    def arrange(self, column: Tensor) -> Tensor:
        """Return a column given in row order [N, ...] in canonical order."""
        return column if self.order is None else column.index_select(0, self.order)

    def restore(self, column: Tensor) -> Tensor:
        """Return a column in canonical order [N, ...] in the row order of the batch."""
        return column if self.place is None else column.index_select(0, self.place)


def check_columns(batch: StepBatch) -> Extent:
    """Check shapes, dtypes, devices, signs and finiteness; return how far the batch reaches.

    On a device the host waits once, for all ranges together.

    Args:
        batch: N >= 0 rows, unchecked.

    Raises:
        ShapeError: a column is not [N] ([N, 2] for keys, [N, F] for reward_components).
        DtypeError: ids are not int64, rewards not floating, flags not bool, or devices differ.
        NegativeIdError, NonFiniteRewardError: naming the first wrong row; a reward, kl or component is NaN or beyond
            1e100 in size.
    """
    n = batch.group_id.shape[0] if batch.group_id.ndim == 1 else -1
    device = batch.group_id.device
    for name in ("group_id", "episode_id", "step_index", "reward", "action_valid", "kl", "success"):
        _check_column(name, getattr(batch, name), (n,), device)
    for name in ("anchor_key", "state_key", "action_key"):
        _check_column(name, getattr(batch, name), (n, 2), device)
    components = batch.reward_components
    if components is not None:
        _check_column("reward_components", components, (n, components.shape[-1]), device)
        _check_column("reward_voted", batch.reward_voted, (n, components.shape[-1]), device)
    if batch.anchor_text is not None and len(batch.anchor_text) != n:
        raise ShapeError(f"anchor_text: want {n} texts, got {len(batch.anchor_text)}")
    if n == 0:
        return Extent(0, 0, 0)
    ids = {name: getattr(batch, name) for name in ("group_id", "episode_id", "step_index")}
    numbers = {name: getattr(batch, name) for name in ("reward", "kl", "reward_components")}
    numbers = {name: column for name, column in numbers.items() if column is not None and column.numel()}
    ranges = [bound for column in ids.values() for bound in torch.aminmax(column)]
    known = torch.stack([*map(_all_in_range, numbers.values()), *ranges]).tolist()
    fits, lowest, largest = known[: len(numbers)], known[len(numbers) :: 2], known[len(numbers) + 1 :: 2]
    for (name, column), low in zip(ids.items(), lowest, strict=True):
        if low < 0:
            row = first_row(column < 0)
            raise NegativeIdError(row, f"{name} is {int(column[row])}, want >= 0")
    for (name, column), fit in zip(numbers.items(), fits, strict=True):
        if not fit:
            row = first_row(~(column.double().abs() <= LARGEST_REWARD))
            wanted = f"want a finite number of at most {LARGEST_REWARD:g} in size"
            raise NonFiniteRewardError(row, f"{name} is {column[row].tolist()}, {wanted}")
    return Extent(n, largest_episode=largest[1], longest=largest[2] + 1)


def order_steps(batch: StepBatch, extent: Extent) -> OrderedSteps:
    """Bring a batch of N >= 1 rows into canonical order.

    Args:
        batch: N >= 1 rows.
        extent: what `check_columns` said of them.

    Returns:
        The order, None for rows that are in it already, and the episodes as runs of it.

    Raises:
        DuplicateStepError: two rows have the same (episode_id, step_index).
        MissingStepError: an episode has a gap, or does not start at 0.
        EpisodeGroupError: rows of one episode name different groups.
    """
    order, opens = _canonical_order(batch.episode_id, batch.step_index, extent)
    count = torch.arange(len(opens) + 1, device=opens.device)
    group, place = batch.group_id, None
    if order is not None:
        group = group.index_select(0, order)
        place = torch.empty_like(order).index_copy_(0, order, count)
    episodes = segments_of_sorted(opens, opens.device)
    position = count - episodes.broadcast(episodes.start)
    steps = OrderedSteps(order, place, episodes, group, position, extent.longest)
    strays = (group[1:] != group[:-1]) & ~opens
    if bool((steps.restore(position) != batch.step_index).any() | strays.any()):
        _raise_row_fault(steps, batch, strays)
    return steps


def first_row(wrong: Tensor) -> int:
    """Return the row of the first True in `wrong`, bool [N] or [N, F]; at least one must be True."""
    return int(wrong.nonzero()[0, 0])


def _canonical_order(episode: Tensor, step: Tensor, extent: Extent) -> tuple[Tensor | None, Tensor]:
    """Return the order by (episode, step), None if it is that of the rows, and where episodes change."""
    stride = extent.longest + 1  # one more than needed: then only steps of one episode are 1 apart
    if extent.largest_episode < INT64_MAX // stride - 1:
        key, order = episode * stride + step, None
        apart = key[1:] - key[:-1]
        if not bool((apart >= 0).all()):
            key, order = torch.sort(key, stable=True)
            apart = key[1:] - key[:-1]
        return order, apart > 1
    # Ids like hashes leave no room for a joint key: two stable sorts, the minor key first.
    by_step = torch.sort(step, stable=True).indices
    arranged, by_episode = torch.sort(episode.index_select(0, by_step), stable=True)
    return by_step.index_select(0, by_episode), arranged[1:] != arranged[:-1]


def _check_column(name: str, column: Tensor | None, shape: tuple[int, ...], device: torch.device) -> None:
    if column is None:
        return
    if tuple(column.shape) != shape:
        wanted = "[N]" if shape[0] < 0 else str(list(shape))
        raise ShapeError(f"{name}: want shape {wanted}, got {list(column.shape)}")
    if column.device != device:
        raise DtypeError(f"{name}: want it on {device} beside group_id, got {column.device}")
    if name in ("action_valid", "success", "reward_voted"):
        fits, wanted = column.dtype == torch.bool, "bool"
    elif name in ("reward", "kl", "reward_components"):
        fits, wanted = column.dtype.is_floating_point, "a floating dtype"
    else:
        fits, wanted = column.dtype == torch.int64, "int64"
    if not fits:
        raise DtypeError(f"{name}: want {wanted}, got {column.dtype}")


def _all_in_range(column: Tensor) -> Tensor:
    """Return int64 []: 1 where no value is NaN or too large, else 0."""
    low, high = torch.aminmax(column)  # NaN if any value is
    return ((low.double() >= -LARGEST_REWARD) & (high.double() <= LARGEST_REWARD)).long()


def _raise_row_fault(steps: OrderedSteps, batch: StepBatch, strays: Tensor) -> None:
    if torch.equal(steps.restore(steps.position), batch.step_index):
        row = _given_row(steps, first_row(strays) + 1)
        home, stray = int(batch.episode_id[row]), int(batch.group_id[row])
        raise EpisodeGroupError(row, f"episode {home} has rows of more than one group, here {stray}")
    episode, step = steps.arrange(batch.episode_id), steps.arrange(batch.step_index)
    same = (step[1:] == step[:-1]) & (episode[1:] == episode[:-1])
    if bool(same.any()):
        at = first_row(same) + 1
        message = f"episode {int(episode[at])} already has a row for step {int(step[at])}"
        raise DuplicateStepError(_given_row(steps, at), message)
    # A gap may have been taken for a new episode: count anew by the ids themselves.
    episodes = segments_of_sorted(episode[1:] != episode[:-1], episode.device)
    wanted = torch.arange(len(step), device=step.device) - episodes.broadcast(episodes.start)
    at = first_row(step != wanted)
    message = f"episode {int(episode[at])} goes on with step {int(step[at])}, want step {int(wanted[at])}"
    raise MissingStepError(_given_row(steps, at), message)


def _given_row(steps: OrderedSteps, at: int) -> int:
    return at if steps.order is None else int(steps.order[at])
