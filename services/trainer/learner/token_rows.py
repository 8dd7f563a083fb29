"""Rows as flat columns of tokens, and the micro-batches in which a model is to see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gigpo_core import MicroBatch, plan_micro_batches


@dataclass(frozen=True)
class TokenRows:
    """N rows' tokens. Flat columns over their T response tokens stand row after row."""

    prompts: Sequence[Sequence[int]]
    responses: Sequence[Sequence[int]]

    @cached_property
    def ids(self) -> list[Tensor]:
        """int64 [P + R] of each row."""
        return [torch.tensor([*p, *r]) for p, r in zip(self.prompts, self.responses, strict=True)]

    @cached_property
    def prompt_length(self) -> Tensor:
        """int64 [N]."""
        return torch.tensor([len(prompt) for prompt in self.prompts], dtype=torch.int64)

    @cached_property
    def response_length(self) -> Tensor:
        """int64 [N]."""
        return torch.tensor([len(response) for response in self.responses], dtype=torch.int64)

    @cached_property
    def token_row(self) -> Tensor:
        """int64 [T]: the row of each response token."""
        return torch.repeat_interleave(torch.arange(len(self.prompts)), self.response_length)

    @property
    def tokens(self) -> int:
        """T."""
        return len(self.token_row)

    def select(self, rows: Tensor) -> TokenRows:
        """These rows alone, in the order of `rows` int64 [M]."""
        chosen = rows.tolist()
        part = TokenRows([self.prompts[row] for row in chosen], [self.responses[row] for row in chosen])
        part.__dict__["ids"] = [self.ids[row] for row in chosen]  # fills the cached property: no second conversion
        return part

    def places(self, rows: Tensor) -> Tensor:
        """int64: where the response tokens of these rows stand in this flat column, row after row."""
        first = (torch.cumsum(self.response_length, 0) - self.response_length)[rows]
        return spans(first, self.response_length[rows])

    def plan(self, token_budget: int, group: Tensor | None = None) -> list[MicroBatch]:
        """Micro-batches of rows of like length, each different sequence once.

        Args:
            group: int64 [N]: rows of one group share a micro-batch, whatever the budget; None: they need not.
        """
        return plan_micro_batches(
            self.prompts,
            self.responses,
            token_budget=token_budget,
            layout="padded",
            row_group=None if group is None else group.tolist(),
        )


def spans(first: Tensor, length: Tensor) -> Tensor:
    """first[0], first[0] + 1, ... (length[0] numbers), then the same from first[1], and so on: int64 [sum(length)]."""
    owner = torch.repeat_interleave(torch.arange(len(length)), length)
    return torch.arange(len(owner)) - (torch.cumsum(length, 0) - length - first)[owner]
