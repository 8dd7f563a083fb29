"""Log-probabilities of response tokens under a policy, exact and with the least forward work.

Sequences are padded on the right and attention is causal, so no real token sees a pad and no mask is needed; what comes
after the body runs on response positions only; equal sequences are forwarded once (`gigpo_core.plan_micro_batches`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from gigpo_core import MicroBatch
from services.contracts.learner_memory import HEAD_ELEMENTS
from services.trainer.learner.ranks import ALONE, Ranks
from services.trainer.learner.tempered import Entropy, TemperedPolicy
from services.trainer.learner.token_rows import TokenRows, spans


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there; from the CPU by pinned memory, so that the host goes on while a device still computes."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Scorer:
    """A model seen as the distribution that was sampled from: softmax(logits / temperature), over the tokens that a
    row's turn allows where it is restricted."""

    model: PreTrainedModel
    temperature: float
    token_budget: int
    """Padded tokens of one forward pass."""
    autocast: bool = False
    """Multiply in bfloat16, keep weights in float32."""
    head_elements: int = HEAD_ELEMENTS
    ranks: Ranks = ALONE

    @torch.no_grad()
    def constants(self, rows: TokenRows, entropy: Entropy = "skip") -> tuple[Tensor, Tensor | None]:
        """(log-probability, entropy in nats) float32 [T] of every response token, on the CPU, without gradients."""
        column = torch.zeros(rows.tokens)
        spreads = None if entropy == "skip" else torch.zeros(rows.tokens)
        mine = self.ranks.share(rows)
        part = rows.select(mine)
        for micro in self.ranks.rounds(part.plan(self.token_budget)):
            if micro is None:
                self.idle()
                continue
            logprob, spread = self.score(part, micro, entropy)
            at = rows.places(mine[micro.row])
            column[at] = logprob.cpu()
            if spreads is not None and spread is not None:
                spreads[at] = spread.cpu()
        return self.ranks.total(column), None if spreads is None else self.ranks.total(spreads)

    def idle(self) -> Tensor:
        """A forward that the other ranks wait for, of a rank that has no rows left: 0, with a gradient of 0."""
        ids = torch.zeros(1, 2, dtype=torch.int64, device=self.model.device)
        logprob: Tensor = self.policy(ids, ids.new_ones(1), "skip")[0]
        return logprob.sum() * 0.0

    def score(self, rows: TokenRows, micro: MicroBatch, entropy: Entropy = "skip") -> tuple[Tensor, Tensor | None]:
        """(log-probability, entropy in nats) float32 [T] of the tokens of `micro`'s rows, on the model's device."""
        device = self.model.device
        ends = [(row, rows.turns[row].stop) for row in micro.sequence_row.tolist()]
        ids = pad_sequence([rows.ids[row][:stop] for row, stop in ends], batch_first=True)
        length = rows.response_length[micro.span_row]
        first = micro.span_sequence * ids.shape[1] + rows.prompt_length[micro.span_row]
        target_at = on_device(spans(first, length), device)
        allowed = rows.allowed(micro.span_row.tolist())
        if allowed is not None:
            allowed = on_device(allowed, device)
        micro = replace(micro, token_index=on_device(micro.token_index, device))
        logprob, spread = self.policy(on_device(ids, device), target_at, entropy, allowed)
        return micro.gather(logprob), None if spread is None else micro.gather(spread)

    @cached_property
    def policy(self) -> TemperedPolicy:
        """The module whose forward gives what the loss needs.

        Raises:
            LearnerError: see `Parts`.
        """
        return TemperedPolicy(self.model, self.temperature, autocast=self.autocast, head_elements=self.head_elements)
