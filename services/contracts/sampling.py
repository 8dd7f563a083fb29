"""A prompt for a policy and the sampled response, as engines, messages and episodes share them."""

from __future__ import annotations

from typing import Any

import msgspec


class Sampling(msgspec.Struct, frozen=True):
    """How to sample; hashable, so that prompts can be grouped by it."""

    temperature: float
    """>= 0; 0 is greedy, with the log-probabilities of temperature 1."""
    max_tokens: int
    """Longest response, >= 1; shorter where the model's length ends."""
    stop_token_ids: tuple[int, ...]
    """A response ends with the first of these, which belongs to it; nothing else stops it."""


class Prompt(msgspec.Struct, frozen=True):
    """One prompt to continue."""

    prompt_ids: bytes
    """int32 little-endian [P], P >= 1."""
    seed: int
    """[0, 2**31): equal prompts with equal seeds under equal weights get equal responses."""
    choices: tuple[bytes, ...] = ()
    """Replies of which the response must be one, int32 little-endian each, its stop token included; empty: any reply.
    Probabilities are then among the tokens that go on one of them."""


def most_tokens(prompt: Prompt, sampling: Sampling) -> int:
    """Load of a prompt: its own tokens, and the most that may be sampled after it."""
    return len(prompt.prompt_ids) // 4 + sampling.max_tokens


class SampledTokens(msgspec.Struct, frozen=True):
    """A response exactly as it was sampled: arrays of one length R >= 1.

    A new field needs a default; the structs that inherit from this one then carry it too.
    """

    response_ids: bytes
    """int32 little-endian [R], the stop token included."""
    logprobs: bytes
    """float32 little-endian [R], natural logarithm under the distribution that was sampled: temperature and
    choices applied."""
    versions: bytes
    """int32 little-endian [R], policy version whose weights sampled each token."""
    finish_reason: str = "stop"
    """`stop` or `length`."""

    def shared(self) -> dict[str, Any]:
        """These fields by name, without those of a subclass: for another struct that carries the same tokens."""
        return {name: getattr(self, name) for name in SampledTokens.__struct_fields__}
