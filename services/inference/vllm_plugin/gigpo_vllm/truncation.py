"""top_k, top_p and min_p: sampling among the likeliest tokens, of which at most top_k are left.

vLLM's logits processor of the requests whose `extra_args` have `keep`, [top_k, top_p, min_p]. vLLM's own top_k keeps
every token that is as likely as the last one; this one keeps top_k at most, so that as many log-probabilities name all
tokens that could have been sampled. services/inference/truncation.py says the same.
"""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

KEEP = "keep"


class Truncation(LogitsProcessor):
    """-inf for every token that a request may not sample; it works behind the temperature."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._device = device
        self._rows: dict[int, tuple[int, float, float]] = {}
        """Place in the batch -> top_k, top_p, min_p."""

    def is_argmax_invariant(self) -> bool:
        return True

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._rows, batch_update, _keep)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        alike: dict[tuple[int, float, float], list[int]] = defaultdict(list)
        for row, limits in self._rows.items():
            alike[limits].append(row)
        for limits, rows in alike.items():
            if len(rows) == len(logits):
                return truncated(logits, *limits)
            places = torch.tensor(rows, device=self._device)
            logits[places] = truncated(logits[places], *limits)
        return logits


def truncated(logits: torch.Tensor, top_k: int, top_p: float, min_p: float) -> torch.Tensor:
    """Logits [B, V] with -inf for every token that may not be sampled.

    What stays: the top_k likeliest; of these the ones with min_p of the likeliest one's probability; of these the
    likeliest ones that have top_p of their probability together.
    """
    values, ids = logits.topk(top_k)  # [B, K], descending
    if min_p:
        values = values.masked_fill(values < values[:, :1] + math.log(min_p), -torch.inf)
    share = values.softmax(1)
    if top_p < 1:
        values = values.masked_fill(share.cumsum(1) - share >= top_p, -torch.inf)
    return torch.full_like(logits, -torch.inf).scatter_(1, ids, values)


def _keep(params: SamplingParams, prompt_ids: list[int] | None, said: list[int]) -> tuple[int, float, float] | None:
    keep = (params.extra_args or {}).get(KEEP)
    return tuple(keep) if keep else None
