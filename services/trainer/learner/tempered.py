"""A policy as the distribution that was sampled from: everything the loss needs comes out of one module's forward.

Whoever shards the weights hooks into that forward: inside it they are whole, for the body and for the head alike.
"""

from __future__ import annotations

from itertools import repeat
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from services.contracts.learner_memory import HEAD_ELEMENTS
from services.trainer.learner.parts import Parts

Entropy = Literal["skip", "value", "gradient"]
"""Whether the entropy is computed, and whether it carries a gradient."""


IMPOSSIBLE = -1e9
"""Logit of a token that cannot be: its probability is 0, and unlike with -inf so is its part of the entropy."""


class Wanted(NamedTuple):
    """Tokens whose log-probabilities are wanted, in their sequences, all on one device."""

    ids: Tensor
    """int64 [B, L]: padded on the right, or [1, N] a tree."""
    before: Tensor
    """int64 [T]: where in the flattened ids the token before each of them stands."""
    target: Tensor
    """int64 [T]: where they stand themselves."""
    allowed: Tensor | None = None
    """int64 [T, K], then -1: the ids that the distribution is over, the token's own among them; None: over all."""
    positions: Tensor | None = None
    mask: Tensor | None = None
    """Positions and mask of a tree, see `PrefixTree`; None: rows."""


class TemperedPolicy(nn.Module):
    """softmax(logits / temperature) of a causal language model, over all tokens or over those that are allowed.

    Args:
        autocast: multiply in bfloat16, keep weights in float32.
        head_elements: most logits held at once; more are recomputed in the backward pass, part by part.

    Raises:
        LearnerError: see `Parts`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        temperature: float = 1.0,
        *,
        autocast: bool = False,
        head_elements: int = HEAD_ELEMENTS,
    ) -> None:
        super().__init__()
        self.model = model
        self.parts = Parts(model)
        self._temperature, self._autocast, self._head_elements = temperature, autocast, head_elements
        self._vocabulary = int(model.config.get_text_config().vocab_size)

    def forward(self, wanted: Wanted, entropy: Entropy) -> tuple[Tensor, Tensor | None]:
        """(log-probability, entropy in nats) float32 [T]."""
        ids = wanted.ids
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self._autocast):
            states = self.parts.hidden(ids, wanted.positions, wanted.mask)
            hidden = states.flatten(0, 1).index_select(0, wanted.before)
            return self._head(hidden, ids.flatten().index_select(0, wanted.target), wanted.allowed, entropy)

    def next_logits(self, ids: Tensor) -> Tensor:
        """float32 [B, V]: the model's own logits of the token that follows ids int64 [B, L]; no temperature."""
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self._autocast):
            logits: Tensor = self.model(input_ids=ids, use_cache=False).logits[:, -1]
        return logits.float()

    def _head(
        self, hidden: Tensor, target: Tensor, allowed: Tensor | None, entropy: Entropy
    ) -> tuple[Tensor, Tensor | None]:
        parts = -(-len(hidden) * self._vocabulary // self._head_elements)
        if parts <= 1:
            return self._distribution(hidden, target, allowed, entropy)
        choices = repeat(None, len(target.chunk(parts))) if allowed is None else allowed.chunk(parts)
        scored = [
            checkpoint(self._distribution, *part, entropy, use_reentrant=False)
            for part in zip(hidden.chunk(parts), target.chunk(parts), choices, strict=True)
        ]
        logprob = torch.cat([part[0] for part in scored])
        return logprob, None if entropy == "skip" else torch.cat([part[1] for part in scored])

    def _distribution(
        self, hidden: Tensor, target: Tensor, allowed: Tensor | None, entropy: Entropy
    ) -> tuple[Tensor, Tensor | None]:
        logits = self.parts.logits(hidden)
        if allowed is not None:
            logits = logits.gather(1, allowed.clamp_min(0))
            target = (allowed == target[:, None]).long().argmax(1)
        logits = logits.float()
        if self._temperature != 1.0:  # otherwise one more copy of all logits is made
            logits = logits / self._temperature
        if allowed is not None:
            logits = logits.masked_fill(allowed < 0, IMPOSSIBLE)
        everything = torch.log_softmax(logits, -1)
        logprob = everything.gather(1, target[:, None]).sum(1)  # returns no view: FSDP hooks into what comes out
        if entropy == "skip":
            return logprob, None
        if entropy == "gradient":
            return logprob, -(everything.exp() * everything).sum(-1)
        constant = everything.detach()
        return logprob, -constant.exp().mul_(constant).sum(-1)
