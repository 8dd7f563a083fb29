"""Plans micro-batches: which sequences the model processes together, and how their tokens map back to the rows.

A row is one turn: a response behind everything before it. Turns of one conversation share their past, so one forward
pass over its whole sequence gives the log-probabilities of all of them. Rows with the same prompt, the same response
and the same choice of tokens have the same log-probabilities: one of them is forwarded, all get the result, and
gradients add up in the gather. Both are exact, and the second saves half to two thirds of the forward work in small
environments whose states recur.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from gigpo_core.errors import ConfigError, ShapeError
from gigpo_core.turns import Allowed, Turn

Layout = Literal["packed", "padded", "tree"]
Span = tuple[int, int, Allowed]


@dataclass(frozen=True)
class MicroBatch:
    """U different sequences to forward, the S responses in them, and the M rows they serve. All columns on the CPU."""

    sequence_row: Tensor
    """int64 [U]: for each sequence a row of the batch whose turn ends it (the first one)."""
    span_row: Tensor
    """int64 [S]: for each response a row of the batch that has it (the first one); sequence after sequence, then by
    place. Without conversations it is `sequence_row`."""
    span_sequence: Tensor
    """int64 [S], non-decreasing: the sequence of each response, 0 .. U-1."""
    row: Tensor
    """int64 [M], ascending: the rows served; every row of the batch is in exactly one micro-batch."""
    row_span: Tensor
    """int64 [M]: the response of each row, 0 .. S-1."""
    token_row: Tensor
    """int64 [T]: for each response token of the M rows its place in `row`, as TokenBatch wants it."""
    token_index: Tensor
    """int64 [T]: for each of them its place among the tokens of the S responses."""
    tree: bool
    """Whether each different beginning is to be forwarded once; the sequences are sorted by their token ids then."""
    forward_tokens: int
    """Tokens that go through the model: the sum of lengths, U x the longest if padded, or in a tree the number of
    different beginnings."""

    def gather(self, values: Tensor) -> Tensor:
        """Return values of the M rows' T tokens from values of the S responses' tokens.

        Args:
            values: [Tu, ...], tokens of the responses in order, one after the other.
        """
        return values.index_select(0, self.token_index.to(values.device))


@dataclass
class _Sequence:
    """Tokens to forward, and what is read off them."""

    ids: tuple[int, ...]
    """Token ids as far as the last response."""
    spans: dict[Span, list[int]] = field(default_factory=dict)
    """Responses by place and by what was allowed -> the rows that have them, ascending."""

    @property
    def rows(self) -> list[int]:
        return [row for rows in self.spans.values() for row in rows]

    @property
    def order(self) -> tuple[int, tuple[int, ...], tuple[int, ...], tuple[Span, ...]]:
        """Longest first, then by the first prompt, then by the rest."""
        first = next(iter(self.spans))[0]
        return -len(self.ids), self.ids[:first], self.ids[first:], tuple(self.spans)


def plan_micro_batches(
    turns: Sequence[Turn],
    *,
    token_budget: int,
    layout: Layout = "packed",
    row_group: Sequence[int] | None = None,
) -> list[MicroBatch]:
    """Return micro-batches that forward every different sequence once.

    Turns that hold the same ids object are read off one sequence, forwarded as far as the last of them.
    Sequences are sorted by length, longest first, then by their token ids; so the plan depends on
    what the rows are and not on their order. "packed" puts each into the first micro-batch with
    room (first fit, decreasing: never more than 11/9 of the fewest possible + 1); the cost of a
    micro-batch is its sum of lengths. "padded" fills one after the other, so that neighbours have
    like lengths; the cost is their number times the longest. "tree" sorts them by their token ids alone, so that
    neighbours begin alike, and fills one micro-batch after the other; the cost is the number of different beginnings
    (tokens with all before them), as a model needs them that is told which tokens each of them follows.

    Args:
        turns: of each of N rows.
        token_budget: most tokens of a micro-batch, >= 1. What is longer by itself gets one of its own.
        layout: how the model is fed: without padding, padded to the longest sequence, or each beginning once.
        row_group: N group ids; rows of one group then share a micro-batch, as the `real` loss needs.

    Returns:
        Micro-batches that serve every row once; none for no rows.

    Raises:
        ShapeError: a turn's response does not lie in its ids.
        ConfigError: the budget is below 1.
    """
    for row, turn in enumerate(turns):
        if not 0 <= turn.start <= turn.stop <= len(turn.ids):
            raise ShapeError(f"row {row}: want 0 <= start <= stop <= {len(turn.ids)}, got {turn.start}, {turn.stop}")
    if token_budget < 1:
        raise ConfigError(f"token_budget: want at least 1 token, got {token_budget}")
    ordered = sorted(_sequences(turns), key=lambda one: (one.ids, tuple(one.spans)) if layout == "tree" else one.order)
    lengths = [len(sequence.ids) for sequence in ordered]
    known = [0, *(_shared(one.ids, other.ids) for one, other in pairwise(ordered))] if layout == "tree" else []
    units = _linked([sequence.rows for sequence in ordered], row_group)
    if layout == "packed":
        units.sort(key=lambda unit: -sum(lengths[i] for i in unit))  # stable: ties stay in order
        bins = _first_fit([sum(lengths[i] for i in unit) for unit in units], token_budget)
    elif layout == "tree":
        bins = _branches(units, lengths, known, token_budget)
    else:
        bins = _runs([[lengths[i] for i in unit] for unit in units], token_budget)
    plan = []
    for chosen in bins:
        sequences = sorted(sequence for unit in chosen for sequence in units[unit])
        cost = _tree_tokens(sequences, lengths, known) if known else _cost([lengths[i] for i in sequences], layout)
        plan.append(_micro_batch([ordered[i] for i in sequences], cost, layout))
    return plan


def _sequences(turns: Sequence[Turn]) -> list[_Sequence]:
    """The sequences to forward: rows that share an ids object together, equal ones once."""
    sharing: dict[int, list[int]] = {}
    for row, turn in enumerate(turns):
        sharing.setdefault(id(turn.ids), []).append(row)
    found: dict[tuple[tuple[int, ...], tuple[Span, ...]], _Sequence] = {}
    for rows in sharing.values():
        spans = sorted({turns[row][1:] for row in rows})
        ids = turns[rows[0]].ids[: max(stop for _, stop, _ in spans)]
        sequence = found.setdefault((ids, tuple(spans)), _Sequence(ids, {span: [] for span in spans}))
        for row in rows:
            sequence.spans[turns[row][1:]].append(row)
    return list(found.values())


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


def _branches(units: list[list[int]], lengths: list[int], known: list[int], budget: int) -> list[list[int]]:
    bins: list[list[int]] = []
    members: list[int] = []
    for number, unit in enumerate(units):
        members = sorted([*members, *unit])
        if bins and _tree_tokens(members, lengths, known) <= budget:
            bins[-1].append(number)
        else:
            bins.append([number])
            members = unit
    return bins


def _tree_tokens(sequences: Sequence[int], lengths: list[int], known: list[int]) -> int:
    """Different beginnings of some sequences, ascending; known[i]: tokens that i shares with the one before it."""
    again = sum(min(known[one + 1 : other + 1]) for one, other in pairwise(sequences))
    return sum(lengths[i] for i in sequences) - again


def _shared(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Tokens with which both begin; slices are compared, as tokens one by one would take seconds."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def _micro_batch(sequences: list[_Sequence], forward_tokens: int, layout: Layout) -> MicroBatch:
    spans = [(place, span, rows) for place, one in enumerate(sequences) for span, rows in one.spans.items()]
    served = sorted((row, number) for number, (_, _, rows) in enumerate(spans) for row in rows)
    row_span = torch.tensor([number for _, number in served], dtype=torch.int64)
    length = torch.tensor([stop - start for _, (start, stop, _), _ in spans], dtype=torch.int64)
    begin = torch.cumsum(length, 0) - length
    row_length = length[row_span]
    token_row = torch.repeat_interleave(torch.arange(len(served)), row_length)
    offset = torch.arange(len(token_row)) - (torch.cumsum(row_length, 0) - row_length)[token_row]
    last = [max(one.spans, key=lambda span: span[1]) for one in sequences]
    return MicroBatch(
        sequence_row=torch.tensor([one.spans[s][0] for one, s in zip(sequences, last, strict=True)], dtype=torch.int64),
        span_row=torch.tensor([rows[0] for _, _, rows in spans], dtype=torch.int64),
        span_sequence=torch.tensor([place for place, _, _ in spans], dtype=torch.int64),
        row=torch.tensor([row for row, _ in served], dtype=torch.int64),
        row_span=row_span,
        token_row=token_row,
        token_index=begin[row_span][token_row] + offset,
        tree=layout == "tree",
        forward_tokens=forward_tokens,
    )
