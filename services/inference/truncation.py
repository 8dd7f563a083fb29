"""top_k, top_p and min_p in the transformers engine; vllm_plugin/gigpo_vllm/truncation.py does the same in vLLM."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from services.contracts.sampling import Sampling


def truncated(logits: Tensor, sampling: Sampling) -> Tensor:
    """Logits [B, V] with -inf for every token that may not be sampled.

    What stays: the top_k likeliest; of these the ones with min_p of the likeliest one's probability; of these the
    likeliest ones that have top_p of their probability together.
    """
    values, ids = logits.topk(min(sampling.top_k, logits.shape[1]))  # [B, K], descending
    if sampling.min_p:
        values = values.masked_fill(values < values[:, :1] + math.log(sampling.min_p), -torch.inf)
    share = values.softmax(1)
    if sampling.top_p < 1:
        values = values.masked_fill(share.cumsum(1) - share >= sampling.top_p, -torch.inf)
    return torch.full_like(logits, -torch.inf).scatter_(1, ids, values)
