"""The probe by which a replica checks its weights: a few prompts and this policy's continuations."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from services.contracts.policy import PolicyProbe

PROMPTS = 4
PROMPT_TOKENS = 16
RESPONSE_TOKENS = 2
"""The first comes out of the engine's pass over the prompt, the second out of a step over one token."""


@torch.no_grad()
def probe_of(model: PreTrainedModel, max_model_len: int, *, autocast: bool = False) -> PolicyProbe | None:
    """The likeliest continuations of fixed prompts: two passes over 4 sequences of 16 tokens. No randomness is used.

    Returns:
        None where the model's length leaves no room for them.
    """
    length = min(PROMPT_TOKENS, max_model_len - RESPONSE_TOKENS)
    if length < 1:
        return None
    spread = (
        torch.arange(PROMPTS * length).mul(7_919).remainder(int(model.config.get_text_config().vocab_size))
    )  # a prime: all differ
    ids = spread.reshape(PROMPTS, length).to(model.device)
    logprobs = torch.empty(PROMPTS, 0, device=model.device)
    anything: Any = model
    for _ in range(RESPONSE_TOKENS):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=autocast):
            logits = anything(input_ids=ids, use_cache=False).logits[:, -1]
        likeliest = torch.log_softmax(logits.float(), dim=1).max(dim=1)
        ids = torch.cat([ids, likeliest.indices[:, None]], dim=1)
        logprobs = torch.cat([logprobs, likeliest.values[:, None]], dim=1)
    return PolicyProbe(
        prompts=ids[:, :length].tolist(), response_ids=ids[:, length:].tolist(), logprobs=logprobs.tolist()
    )
