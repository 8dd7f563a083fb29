"""Rows as flat columns of tokens, and the micro-batches in which a model is to see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from gigpo_core import MicroBatch, Turn, plan_micro_batches
from services.contracts.arrays import unpack_int32
from services.trainer.learner.errors import RowsError


@dataclass(frozen=True)
class TokenRows:
    """N rows' tokens. Flat columns over their T response tokens stand row after row."""

    turns: Sequence[Turn]

    @cached_property
    def ids(self) -> list[Tensor]:
        """int64 [L] of each row's sequence; rows of one conversation have one tensor."""
        made: dict[int, Tensor] = {}
        for turn in self.turns:
            if id(turn.ids) not in made:
                made[id(turn.ids)] = torch.tensor(turn.ids)
        return [made[id(turn.ids)] for turn in self.turns]

    @cached_property
    def prompt_length(self) -> Tensor:
        """int64 [N]."""
        return torch.tensor([turn.start for turn in self.turns], dtype=torch.int64)

    @cached_property
    def response_length(self) -> Tensor:
        """int64 [N]."""
        return torch.tensor([turn.stop - turn.start for turn in self.turns], dtype=torch.int64)

    @cached_property
    def token_row(self) -> Tensor:
        """int64 [T]: the row of each response token."""
        return torch.repeat_interleave(torch.arange(len(self.turns)), self.response_length)

    @cached_property
    def conversation(self) -> Tensor | None:
        """int64 [N]: rows with one number share a sequence; None: each row stands alone."""
        numbers: dict[int, int] = {}
        column = [numbers.setdefault(id(turn.ids), len(numbers)) for turn in self.turns]
        places = {(number, turn.start) for number, turn in zip(column, self.turns, strict=True)}
        return torch.tensor(column) if len(numbers) < len(places) else None

    @property
    def different(self) -> int:
        """How many rows differ in prompt, response or what it could be."""
        numbers: dict[tuple[int, ...], int] = {}
        known = {id(turn.ids): turn.ids for turn in self.turns}
        number = {name: numbers.setdefault(ids, len(numbers)) for name, ids in known.items()}
        return len({(number[id(turn.ids)], *turn[1:]) for turn in self.turns})

    @property
    def tokens(self) -> int:
        """T."""
        return len(self.token_row)

    @property
    def forwarded(self) -> int:
        """Tokens of all rows, prompts included, at least 1."""
        return max(sum(turn.stop for turn in self.turns), 1)

    def select(self, rows: Tensor) -> TokenRows:
        """These rows alone, in the order of `rows` int64 [M]."""
        chosen = rows.tolist()
        part = TokenRows([self.turns[row] for row in chosen])
        part.__dict__["ids"] = [self.ids[row] for row in chosen]  # fills the cached property: no second conversion
        return part

    def places(self, rows: Tensor) -> Tensor:
        """int64: where the response tokens of these rows stand in this flat column, row after row."""
        first = (torch.cumsum(self.response_length, 0) - self.response_length)[rows]
        return spans(first, self.response_length[rows])

    def allowed(self, rows: Sequence[int]) -> Tensor | None:
        """int64 [T, K], then -1: what each response token of these rows could have been; None: any.

        Raises:
            RowsError: only some of the rows were restricted.
        """
        guided = [self.turns[row].allowed for row in rows]
        if not any(guided):
            return None
        if not all(guided):
            raise RowsError("want choices for every response or for none, got some responses without")
        numbers = [torch.tensor(unpack_int32(packed)) for packed in guided]
        lengths = self.response_length[torch.tensor(rows)].tolist()
        counts = torch.cat([one[:length] for one, length in zip(numbers, lengths, strict=True)])
        table = torch.full((len(counts), int(counts.max())), -1)
        filled = torch.arange(table.shape[1]) < counts[:, None]
        table[filled] = torch.cat([one[length:] for one, length in zip(numbers, lengths, strict=True)])
        return table

    def plan(
        self, token_budget: int, group: Tensor | None = None, layout: Literal["padded", "tree"] = "padded"
    ) -> list[MicroBatch]:
        """Micro-batches of sequences of like length, or of like beginnings, each different one once.

        Args:
            group: int64 [N]: rows of one group share a micro-batch, whatever the budget; None: they need not.
        """
        return plan_micro_batches(
            self.turns,
            token_budget=token_budget,
            layout=layout,
            row_group=None if group is None else group.tolist(),
        )


def spans(first: Tensor, length: Tensor) -> Tensor:
    """first[0], first[0] + 1, ... (length[0] numbers), then the same from first[1], and so on: int64 [sum(length)]."""
    owner = torch.repeat_interleave(torch.arange(len(length)), length)
    return torch.arange(len(owner)) - (torch.cumsum(length, 0) - length - first)[owner]
