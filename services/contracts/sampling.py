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
    """A response ends with the first of these, which belongs to it."""
    top_k: int = 0
    """>= 2: each token is one of the `top_k` most likely ones; 0: one of all. Not applied at temperature 0."""
    top_p: float = 1.0
    """In (0, 1]: only the most likely ones of these count that have this share of their probability together."""
    min_p: float = 0.0
    """In [0, 1): only those of these count that have at least this share of the most likely one's probability."""
    stop_words: tuple[str, ...] = ()
    """A response ends with the token that completes one of these texts; it belongs to it."""

    @property
    def truncated(self) -> bool:
        """Whether some tokens cannot be sampled, so that the engine says which ones could be."""
        return self.temperature > 0 and self.top_k > 0


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
    """float32 little-endian [R], natural logarithm under the distribution that was sampled: temperature, top_k, top_p,
    min_p and choices applied."""
    versions: bytes
    """int32 little-endian [R], policy version whose weights sampled each token."""
    finish_reason: str = "stop"
    """`stop` or `length`."""
    kept: bytes = b""
    """The ids that each token could have been, as `guidance.pack_allowed` has them; empty: any, or what choices say."""

    def shared(self) -> dict[str, Any]:
        """These fields by name, without those of a subclass: for another struct that carries the same tokens."""
        return {name: getattr(self, name) for name in SampledTokens.__struct_fields__}
