"""Sampling among the likeliest tokens alone: what a job may ask for."""

from __future__ import annotations

from collections.abc import Mapping

MOST_KEPT = 256
"""Largest top_k: a rollout's token takes 4 bytes for each id that it could have been."""
MOST_KEPT_BYTES = 2**25
"""Most bytes of kept ids in an episode: half of what a message may hold."""
OFF = {"top_p": 1.0, "min_p": 0.0}


def kept_bytes(top_k: int, tokens: int) -> int:
    """Most that a rollout of so many response tokens records of the ids that each could have been."""
    return 4 * (1 + top_k) * tokens if top_k else 0


def why_not_truncated(top_k: int, others: Mapping[str, float], tokens: int) -> str | None:
    """Why a job cannot sample so, one sentence; None: it can.

    Args:
        others: top_p and min_p.
        tokens: of the responses of an episode, at most.
    """
    for name, value in others.items():
        if value != OFF[name] and not top_k:
            return (
                f"{name}: want top_k with it (2 to {MOST_KEPT}), because a rollout records the tokens that could have "
                f"been sampled; got {value:g} without"
            )
    if top_k == 1:
        return "top_k: want 0 or at least 2, because a token without an alternative teaches nothing; got 1"
    if kept_bytes(top_k, tokens) > MOST_KEPT_BYTES:
        return (
            f"top_k: want at most {max(0, MOST_KEPT_BYTES // (4 * tokens) - 1)} where an episode may have {tokens:,} "
            f"response tokens, because each records the ids that it could have been; got {top_k}"
        )
    return None
