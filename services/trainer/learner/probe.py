"""The probe by which a replica checks its weights: a few prompts and this policy's continuations."""

from __future__ import annotations

import torch

from services.contracts.policy import PolicyProbe
from services.trainer.learner.tempered import TemperedPolicy

PROMPTS = 4
PROMPT_TOKENS = 16
RESPONSE_TOKENS = 2
"""The first comes out of the engine's pass over the prompt, the second out of a step over one token."""


@torch.no_grad()
def probe_of(policy: TemperedPolicy, max_model_len: int, device: torch.device | None = None) -> PolicyProbe | None:
    """The likeliest continuations of fixed prompts: two passes over 4 sequences of 16 tokens. No randomness is used.

    Args:
        device: the one that computes; None: the model's.

    Returns:
        None where the model's length leaves no room for them.
    """
    model = policy.model
    length = min(PROMPT_TOKENS, max_model_len - RESPONSE_TOKENS)
    if length < 1:
        return None
    spread = (
        torch.arange(PROMPTS * length).mul(7_919).remainder(int(model.config.get_text_config().vocab_size))
    )  # a prime: all differ
    ids = spread.reshape(PROMPTS, length).to(device or model.device)
    logprobs = torch.empty(PROMPTS, 0, device=ids.device)
    for _ in range(RESPONSE_TOKENS):
        likeliest = torch.log_softmax(policy.next_logits(ids), dim=1).max(dim=1)
        ids = torch.cat([ids, likeliest.indices[:, None]], dim=1)
        logprobs = torch.cat([logprobs, likeliest.values[:, None]], dim=1)
    return PolicyProbe(
        prompts=ids[:, :length].tolist(), response_ids=ids[:, length:].tolist(), logprobs=logprobs.tolist()
    )
