"""Deterministic ids: the same job seed opens the same groups on the same tasks, on every machine and at every attempt.

Nothing here is random or depends on the job's id, so two runs of one spec can be compared group by group.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum


class Purpose(StrEnum):
    """Why a group is played."""

    TRAINING = "train"
    EVALUATION = "eval"
    """Groups that measure a pinned policy version."""
    WARMSTART = "warmstart"
    """Groups of the format warm start."""


SEED_BITS = 31  # seeds travel through numpy, gymnasium and vLLM, which all take a non-negative int32


def _digest(*parts: object) -> bytes:
    return hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).digest()


def group_id(fingerprint: str, purpose: Purpose, round_: int, cursor: int) -> str:
    """Name of the `cursor`-th group of one purpose.

    Args:
        fingerprint: `JobSpec.fingerprint()`: seed and environment, not the job's id.
        purpose: training, evaluation and warm start have name spaces of their own.
        round_: dataset epoch for training, number of the evaluation for evaluations, >= 0.
        cursor: position in that round, >= 0.

    Returns:
        20 characters: the purpose's first letter, then 19 hexadecimal digits.
    """
    return purpose[0] + _digest("group", fingerprint, purpose, round_, cursor).hex()[:19]


def purpose_of(group: str) -> Purpose:
    """Why a group of this id is played. Raises ValueError: no purpose begins as it does."""
    for purpose in Purpose:
        if group.startswith(purpose[0]):
            return purpose
    raise ValueError(f"want the id of a group, got {group!r}")


def episode_id(group: str, k: int) -> str:
    """Name of the k-th episode of a group, k in 0..n-1; the same on every attempt."""
    return f"{group}/{k}"


def task_seed(seed: int, purpose: Purpose, cursor: int) -> int:
    """Environment seed of a group, in [0, 2**31): a function of the panel's seed, purpose and cursor only."""
    return int.from_bytes(_digest("task", seed, purpose, cursor)[:8], "little") % (1 << SEED_BITS)


def member_point(seed: int, purpose: Purpose, cursor: int) -> float:
    """Where in [0, 1) the draw of a mixture's member falls for a group; independent of the group's `task_seed`."""
    return int.from_bytes(_digest("member", seed, purpose, cursor)[:6], "little") / (1 << 48)


def sampling_seed(episode: str, step_index: int, draw: int) -> int:
    """Sampling seed of one step, in [0, 2**31): distinct per episode, step and draw, so no two rows share noise.

    An attempt that repeats one which the machinery cut short has the same draw, >= 1: it samples the same tokens.
    """
    return int.from_bytes(_digest("sample", episode, step_index, draw)[:8], "little") % (1 << SEED_BITS)
