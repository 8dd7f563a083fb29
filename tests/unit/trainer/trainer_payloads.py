"""Small payloads for the trainer's unit tests."""

from __future__ import annotations

import hashlib
import struct

from services.contracts.arrays import pack_float32, pack_float64, pack_int32
from services.contracts.messages import Episode, ScoredGroup, Step, encode
from services.trainer.groups.payloads import Payload, payload_of


def step(index: int, *, tokens: int = 2, version: int = 0, reward: float = 0.0, valid: bool = True) -> Step:
    return Step(
        step_index=index, prompt_ids=pack_int32([5]), response_ids=pack_int32(range(tokens)),
        logprobs=pack_float32([-1.0] * tokens), versions=pack_int32([version] * tokens), reward=reward,
        anchor_key=bytes(16), state_key=bytes(16), anchor="a", action="go", action_valid=valid,
    )  # fmt: skip


def episode(group: str, k: int, steps: list[Step], won: bool = False) -> Episode:
    return Episode(
        group_id=group, episode_id=f"{group}/{k}", k=k, attempt=1, task="t", steps=steps, won=won, score=0.0,
        terminated=won, truncated=not won, worker="w", moments=pack_float64([0.0] * (2 + 2 * len(steps))),
    )  # fmt: skip


def scores_bytes(name: str, cursor: int, payloads: list[bytes], n: int, diagnostics: dict[str, float]) -> bytes:
    column = struct.pack(f"<{n}d", *[0.5] * n)
    return encode(
        ScoredGroup(
            group_id=name, purpose="train", cursor=cursor, advantage=column, episode_advantage=column,
            step_advantage=column, step_return=column, step_group=struct.pack(f"<{n}q", *range(n)),
            episodes_sha=hashlib.sha256(b"".join(payloads)).hexdigest(), diagnostics=diagnostics,
        )
    )  # fmt: skip


def payload(name: str, cursor: int, episodes: list[list[Step]], diagnostics: dict[str, float] | None = None) -> Payload:
    payloads = [encode(episode(name, k, steps)) for k, steps in enumerate(episodes)]
    rows = sum(map(len, episodes))
    return payload_of(name, scores_bytes(name, cursor, payloads, rows, diagnostics or {}), payloads)
