"""A batch's passes through a transformers model: the prompts, then one token a row at a time. Imports torch.

Architectures keep what they have seen in different ways, and not each bears padding on the left. `way_of` tries the
fastest way first and compares its logits with those of plain passes; what is left computes whole sequences again.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

log = structlog.get_logger("inference")

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Largest difference that rounding explains, as a share of the largest logit."""
UNSUPPORTED = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""Errors of models on a cache, a mask or positions that they were not written for."""


@dataclass(frozen=True)
class Way:
    """How batches pass through a model.

    Args:
        pads: prompts of different lengths share a batch; else only equally long ones do.
        cache: the argument that takes the cache; None: each token takes a pass over the whole sequence.
    """

    pads: bool
    cache: str | None


class Steps:
    """One batch's passes. Rows keep their order; equal prompts are computed once and then selected more than once."""

    def __init__(self, model: PreTrainedModel, way: Way, prompts: Sequence[Sequence[int]]) -> None:
        """Args: prompts: U different ones, none empty; of one length unless the way pads."""
        self._model: Any = model
        self._way = way
        self._cache: Any = DynamicCache(config=model.config) if way.cache is not None else None
        self._ids, self._mask = _left_padded(prompts, model.device)  # [U, L], [U, L]
        self._takes = inspect.signature(model.forward).parameters

    def prompts(self) -> Tensor:
        """The logits behind each prompt, [U, V]."""
        return self._pass(self._ids, (self._mask.cumsum(1) - 1).clamp_min(0))

    def select(self, rows: Tensor) -> None:
        """Go on with these rows, int64 [B]; each may occur more than once."""
        self._ids, self._mask = self._ids[rows], self._mask[rows]
        if self._cache is not None:
            cache: Any = self._cache  # its annotation wants a LongTensor
            cache.reorder_cache(rows)

    def tokens(self, tokens: Tensor) -> Tensor:
        """The logits behind one more token a row, int64 [B]: [B, V]."""
        self._ids = torch.cat([self._ids, tokens[:, None]], dim=1)
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=1)
        positions = (self._mask.cumsum(1) - 1).clamp_min(0)
        if self._cache is None:
            return self._pass(self._ids, positions)
        return self._pass(tokens[:, None], positions[:, -1:])

    def _pass(self, ids: Tensor, positions: Tensor) -> Tensor:
        arguments: dict[str, Any] = {"use_cache": self._cache is not None, "logits_to_keep": 1}
        if self._way.cache is not None:
            arguments[self._way.cache] = self._cache
        if self._way.pads:
            arguments |= {"attention_mask": self._mask, "position_ids": positions}
        known = {name: value for name, value in arguments.items() if name in self._takes}
        logits: Tensor = self._model(input_ids=ids, **known).logits[:, -1]
        return logits


@torch.inference_mode()
def way_of(model: PreTrainedModel) -> Way:
    """The fastest way that gives the logits of plain passes over single sequences."""
    takes = inspect.signature(model.forward).parameters
    cache = next((name for name in ("past_key_values", "cache_params") if name in takes), None)
    for way in (Way(True, cache), Way(False, cache)) if cache is not None else ():
        reason = _difference(model, way)
        if reason is None:
            return way
        log.info("a way to sample does not fit the model", model=type(model).__name__, way=way, reason=reason)
    log.warning("each sampled token takes a pass over the whole sequence", model=type(model).__name__)
    return Way(False, None)


def _difference(model: PreTrainedModel, way: Way) -> str | None:
    """Why the way gives other logits than plain passes; None: it doesn't."""
    prompts = [[1, 2, 3, 1], [2, 3, 1, 1]] if not way.pads else [[1, 2, 3], [3, 1, 2, 1, 3, 2]]
    rows = torch.tensor([1, 0, 1], device=model.device)
    try:
        steps = Steps(model, way, prompts)
        found = [steps.prompts()[rows]]
        steps.select(rows)
        found += [steps.tokens(torch.full_like(rows, token)) for token in (2, 3)]
    except UNSUPPORTED as error:
        return f"{type(error).__name__}: {error}"
    anything: Any = model
    for after, logits in enumerate(found):
        for row, prompt in enumerate([1, 0, 1]):
            ids = torch.tensor([[*prompts[prompt], *(2, 3)[:after]]], device=model.device)
            wanted = anything(input_ids=ids, use_cache=False).logits[0, -1]
            off = float((logits[row] - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))
            if not off <= TOLERANCE[wanted.dtype]:
                return f"logits differ by {off:.2g} of the largest"
    return None


def _left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, int64 [U, longest]; padding is masked, so its id is never seen."""
    longest = max(map(len, rows))
    ids = [[0] * (longest - len(row)) + [*row] for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
