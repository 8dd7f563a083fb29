"""Plans micro-batches: which sequences the model processes together, and how their tokens map back to the rows.

Rows with the same prompt and the same response have the same log-probabilities: one of them is
forwarded, all get the result, and gradients add up in the gather. That is exact, and saves half to
two thirds of the forward work in small environments whose states recur.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gigpo_core.errors import ConfigError, ShapeError

Layout = Literal["packed", "padded"]
Pair = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class MicroBatch:
    """U different sequences to forward, and the M rows they serve. All columns on the CPU."""

    sequence_row: Tensor
    """int64 [U]: for each sequence a row of the batch that holds it (the first one)."""
    row: Tensor
    """int64 [M], ascending: the rows served; every row of the batch is in exactly one micro-batch."""
    row_sequence: Tensor
    """int64 [M]: the sequence of each row, 0 .. U-1."""
    token_row: Tensor
    """int64 [T]: for each response token of the M rows its place in `row`, as TokenBatch wants it."""
    token_index: Tensor
    """int64 [T]: for each of them its place among the response tokens of the U sequences."""
    forward_tokens: int
    """Tokens that go through the model: the sum of lengths, or U x the longest if padded."""

    def gather(self, values: Tensor) -> Tensor:
        """Return values of the M rows' T tokens from values of the U sequences' response tokens.

        Args:
            values: [Tu, ...], response tokens of the sequences in order, one after the other.
        """
        return values.index_select(0, self.token_index.to(values.device))


def plan_micro_batches(
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    token_budget: int,
    layout: Layout = "packed",
    row_group: Sequence[int] | None = None,
) -> list[MicroBatch]:
    """Return micro-batches that forward every different (prompt, response) once.

    Sequences are sorted by length, longest first, then by their token ids; so the plan depends on
    what the rows are and not on their order. "packed" puts each into the first micro-batch with
    room (first fit, decreasing: never more than 11/9 of the fewest possible + 1); the cost of a
    micro-batch is its sum of lengths. "padded" fills one after the other, so that neighbours have
    like lengths; the cost is their number times the longest.

    Args:
        prompts: N sequences of token ids.
        responses: N sequences of token ids.
        token_budget: most tokens of a micro-batch, >= 1. What is longer by itself gets one of its own.
        layout: how the model is fed: without padding, or padded to the longest sequence.
        row_group: N group ids; rows of one group then share a micro-batch, as the `real` loss needs.

    Returns:
        Micro-batches that serve every row once; none for no rows.

    Raises:
        ShapeError: not as many prompts as responses.
        ConfigError: the budget is below 1.
    """
    if len(prompts) != len(responses):
        raise ShapeError(f"want as many prompts as responses, got {len(prompts)} and {len(responses)}")
    if token_budget < 1:
        raise ConfigError(f"token_budget: want at least 1 token, got {token_budget}")
    members: dict[Pair, list[int]] = {}
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        members.setdefault((tuple(prompt), tuple(response)), []).append(row)
    ordered = sorted(members, key=lambda pair: (-len(pair[0]) - len(pair[1]), pair))
    lengths = [len(prompt) + len(response) for prompt, response in ordered]
    units = _linked([members[pair] for pair in ordered], row_group)
    if layout == "packed":
        units.sort(key=lambda unit: -sum(lengths[i] for i in unit))  # stable: ties stay in order
        bins = _first_fit([sum(lengths[i] for i in unit) for unit in units], token_budget)
    else:
        bins = _runs([[lengths[i] for i in unit] for unit in units], token_budget)
    plan = []
    for chosen in bins:
        sequences = sorted(sequence for unit in chosen for sequence in units[unit])
        served = [members[ordered[i]] for i in sequences]
        responded = [len(ordered[i][1]) for i in sequences]
        plan.append(_micro_batch(served, responded, _cost([lengths[i] for i in sequences], layout)))
    return plan


def _cost(lengths: list[int], layout: Layout) -> int:
    return sum(lengths) if layout == "packed" else len(lengths) * max(lengths)


def _linked(members: list[list[int]], row_group: Sequence[int] | None) -> list[list[int]]:
    """Return the sequences that must stay together: each alone, or all that are linked by groups."""
    root = list(range(len(members)))

    def find(sequence: int) -> int:
        while root[sequence] != sequence:
            root[sequence] = root[root[sequence]]
            sequence = root[sequence]
        return sequence

    if row_group is not None:
        seen: dict[int, int] = {}
        for sequence, rows in enumerate(members):
            for row in rows:
                one, other = sorted((find(sequence), find(seen.setdefault(row_group[row], sequence))))
                root[other] = one
    units: dict[int, list[int]] = {}
    for sequence in range(len(members)):
        units.setdefault(find(sequence), []).append(sequence)
    return list(units.values())


def _first_fit(lengths: list[int], budget: int) -> list[list[int]]:
    # A tree of free room over the bins finds the first one that fits in log time; most data need few bins.
    leaves = 1
    while leaves < max(len(lengths), 1):
        leaves *= 2
    room = [budget] * (2 * leaves)
    bins: list[list[int]] = []
    for sequence, length in enumerate(lengths):
        if length > budget:
            bins.append([sequence])
            _set_room(room, leaves + len(bins) - 1, 0)
            continue
        node = 1
        while node < leaves:
            node = 2 * node if room[2 * node] >= length else 2 * node + 1
        place = node - leaves
        if place == len(bins):
            bins.append([])
        bins[place].append(sequence)
        _set_room(room, node, room[node] - length)
    return bins


def _set_room(room: list[int], node: int, value: int) -> None:
    room[node] = value
    while node > 1:
        node //= 2
        room[node] = max(room[2 * node], room[2 * node + 1])


def _runs(lengths: list[list[int]], budget: int) -> list[list[int]]:
    bins: list[list[int]] = []
    count = longest = 0
    for unit, own in enumerate(lengths):
        count, longest = count + len(own), max(longest, *own)
        if bins and count * longest <= budget:
            bins[-1].append(unit)
        else:
            bins.append([unit])
            count, longest = len(own), max(own)
    return bins


def _micro_batch(members: list[list[int]], response_lengths: list[int], forward_tokens: int) -> MicroBatch:
    served = sorted((row, sequence) for sequence, rows in enumerate(members) for row in rows)
    row_sequence = torch.tensor([sequence for _, sequence in served], dtype=torch.int64)
    length = torch.tensor(response_lengths, dtype=torch.int64)
    start = torch.cumsum(length, 0) - length
    row_length = length[row_sequence]
    token_row = torch.repeat_interleave(torch.arange(len(served)), row_length)
    offset = torch.arange(len(token_row)) - (torch.cumsum(row_length, 0) - row_length)[token_row]
    return MicroBatch(
        sequence_row=torch.tensor([rows[0] for rows in members], dtype=torch.int64),
        row=torch.tensor([row for row, _ in served], dtype=torch.int64),
        row_sequence=row_sequence,
        token_row=token_row,
        token_index=start[row_sequence][token_row] + offset,
        forward_tokens=forward_tokens,
    )
