"""Log-probabilities of response tokens under a policy, exact and with the least forward work.

Sequences are padded on the right and attention is causal, so no real token sees a pad and no mask is needed; what comes
after the body runs on response positions only; equal sequences are forwarded once (`gigpo_core.plan_micro_batches`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from gigpo_core import MicroBatch, plan_micro_batches
from services.trainer.learner.tempered import HEAD_ELEMENTS, Entropy, TemperedPolicy


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


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there; from the CPU by pinned memory, so that the host goes on while a device still computes."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Scorer:
    """A model seen as the distribution that was sampled from: softmax(logits / temperature)."""

    model: PreTrainedModel
    temperature: float
    token_budget: int
    """Padded tokens of one forward pass."""
    autocast: bool = False
    """Multiply in bfloat16, keep weights in float32."""
    head_elements: int = HEAD_ELEMENTS

    @torch.no_grad()
    def constants(self, rows: TokenRows, entropy: Entropy = "skip") -> tuple[Tensor, Tensor | None]:
        """(log-probability, entropy in nats) float32 [T] of every response token, on the CPU, without gradients."""
        column = torch.empty(rows.tokens)
        spreads = None if entropy == "skip" else torch.empty(rows.tokens)
        for micro in rows.plan(self.token_budget):
            logprob, spread = self.score(rows, micro, entropy)
            at = rows.places(micro.row)
            column[at] = logprob.cpu()
            if spreads is not None and spread is not None:
                spreads[at] = spread.cpu()
        return column, spreads

    def score(self, rows: TokenRows, micro: MicroBatch, entropy: Entropy = "skip") -> tuple[Tensor, Tensor | None]:
        """(log-probability, entropy in nats) float32 [T] of the tokens of `micro`'s rows, on the model's device."""
        chosen, device = micro.sequence_row, self.model.device
        ids = pad_sequence([rows.ids[row] for row in chosen.tolist()], batch_first=True)
        length = rows.response_length[chosen]
        first = torch.arange(len(chosen)) * ids.shape[1] + rows.prompt_length[chosen]
        target_at = on_device(spans(first, length), device)
        micro = replace(micro, token_index=on_device(micro.token_index, device))
        logprob, spread = self.policy(on_device(ids, device), target_at, entropy)
        return micro.gather(logprob), None if spread is None else micro.gather(spread)

    @cached_property
    def policy(self) -> TemperedPolicy:
        """The module whose forward gives what the loss needs.

        Raises:
            LearnerError: see `Parts`.
        """
        return TemperedPolicy(self.model, self.temperature, autocast=self.autocast, head_elements=self.head_elements)
