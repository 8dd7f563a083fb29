"""A causal language model in two parts: its body, and all that its own forward does with the last hidden states.

The second part is cheap for a few positions and dear for all, so it runs on the positions that are wanted. It stays the
model's own code, whatever that does to logits: soft caps, factors, biases.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from services.trainer.learner.errors import LearnerError
from services.trainer.learner.prefixes import may_take_trees, prefix_tree

PROBE_TOKENS = 6
TOLERANCE = 1e-4
"""Tolerated share of the largest logit: sums in another order give 1e-6 in float32."""


class Parts:
    """The body and the rest of one model, which stays usable as a whole.

    Raises:
        LearnerError: no part of it gives last hidden states.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model: Any = model
        self._body, self._output = _body_of(model)

    def hidden(self, ids: Tensor, positions: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """The last hidden states, [B, L, H], of ids int64 [B, L] without padding on the left.

        Args:
            positions, mask: of a tree, see `PrefixTree`; None: each token sees all before it.
        """
        tree = {} if mask is None else {"position_ids": positions, "attention_mask": mask}
        states: Tensor = self._body(input_ids=ids, use_cache=False, **tree).last_hidden_state
        return states

    @torch.no_grad()
    def takes_trees(self) -> bool:
        """Whether hidden states of a tree are those of its sequences."""
        if not may_take_trees(self._model):
            return False
        device, most = self._model.device, int(self._model.config.get_text_config().vocab_size) - 1
        one = torch.arange(1, PROBE_TOKENS + 1).clamp_max(most)
        other = torch.cat([one[:3], one[3:].flip(0)])
        tree = prefix_tree([one, other])
        try:
            got = self.hidden(*(part.to(device) for part in (tree.ids, tree.positions, tree.mask)))[0]
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError):  # other people's forward passes
            return False
        wanted = [self.hidden(ids[None].to(device))[0] for ids in (one, other)]
        return all(_same(states, got[path.to(device)]) for states, path in zip(wanted, tree.paths, strict=True))

    def logits(self, hidden: Tensor) -> Tensor:
        """The model's logits of hidden states [T, H]: [T, V]."""
        self._body.forward = lambda *_, **__: self._output(last_hidden_state=hidden[None])
        try:
            ids = torch.zeros(1, len(hidden), dtype=torch.int64, device=hidden.device)
            logits: Tensor = self._model(input_ids=ids, use_cache=False).logits[0]
        finally:
            del self._body.forward  # the class's own is seen again
        return logits

    @torch.no_grad()
    def check(self) -> None:
        """Make sure that log-probabilities can be computed from the parts, on sequences that are padded on the right.

        Raises:
            LearnerError: they can't, or the model's logits are no numbers; says which.
        """
        kind = type(self._model).__name__
        ids = torch.arange(1, PROBE_TOKENS + 1, device=self._model.device)[None]
        ids = ids.clamp_max(int(self._model.config.get_text_config().vocab_size) - 1)
        wanted = self._whole(ids)
        if not bool(wanted.isfinite().all()):
            raise LearnerError(
                f"{kind}: its logits are not finite, so its weights hold NaN, infinity or too large numbers"
            )
        if not _same(wanted, self._whole(ids)):
            raise LearnerError(
                f"{kind}: two passes over the same tokens give other logits, so something in it is random"
            )
        if not _same(wanted[:, :-1], self._whole(ids[:, :-1])):
            raise LearnerError(f"{kind}: the logits of a token change with the tokens after it; want a causal model")
        if not _same(wanted[0].flip(0), self.logits(self.hidden(ids)[0].flip(0))):
            raise LearnerError(f"{kind}: its logits can't be computed from its last hidden states position by position")

    def _whole(self, ids: Tensor) -> Tensor:
        logits: Tensor = self._model(input_ids=ids, use_cache=False).logits
        return logits


def checkpoint_activations(model: PreTrainedModel, *, required: bool = True) -> None:
    """Let each layer keep its inputs alone, and compute the rest again in the backward pass.

    transformers does so in training mode only, which switches dropout and router noise on; this model stays in
    evaluation mode.

    Args:
        required: False: a model whose layers can't be computed again keeps all activations.

    Raises:
        LearnerError: it is required, and the model's layers can't be computed again.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if required and not layers:
        raise LearnerError(
            f"gradient_checkpointing: {type(model).__name__} has no layers that can be computed again, want false"
        )
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def _body_of(model: PreTrainedModel) -> tuple[Any, Any]:
    """The outermost module within that gives last hidden states, and the class of what it returns."""
    found: list[tuple[nn.Module, Any]] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        if module is not model and getattr(output, "last_hidden_state", None) is not None:
            found.append((module, type(output)))

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    anything: Any = model
    try:
        with torch.no_grad():
            anything(input_ids=torch.tensor([[0, 1]], device=model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise LearnerError(
            f"{type(model).__name__}: no part of it gives last hidden states, from which logits are made"
        )
    return found[-1]


def _same(wanted: Tensor, got: Tensor) -> bool:
    return bool((wanted - got).abs().max() <= TOLERANCE * wanted.abs().max())
