"""Archives of a few steps as the trainer writes them, every figure told apart from the others."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

from services.contracts.archive import FOLDER, ArchiveName, packed
from services.contracts.arrays import pack_float32, pack_int32
from services.contracts.messages import Episode, ScoredGroup, Step, encode


def step(index: int, reward: float) -> Step:
    return Step(
        step_index=index,
        prompt_ids=pack_int32([7, 8]),
        response_ids=pack_int32([index, 1]),
        logprobs=pack_float32([-0.5, -0.25]),
        versions=pack_int32([3, 3]),
        reward=reward,
        anchor_key=b"a" * 16,
        state_key=b"s" * 16,
        anchor="here",
        action=f"act {index}",
        action_valid=True,
    )


def episode(k: int, rewards: list[float]) -> Episode:
    steps = [step(index, reward) for index, reward in enumerate(rewards)]
    return Episode(
        group_id="tabc",
        episode_id=f"tabc/{k}",
        k=k,
        attempt=1,
        task="put it",
        steps=steps,
        won=rewards[-1] > 0,
        score=sum(rewards),
        terminated=True,
        truncated=False,
        worker="w",
    )


def scored(group_id: str, labels: list[int]) -> ScoredGroup:
    def column(start: float) -> bytes:
        return array("d", [start + row for row in range(len(labels))]).tobytes()

    return ScoredGroup(
        group_id=group_id,
        purpose="train",
        cursor=5,
        advantage=column(0.0),
        episode_advantage=column(10.0),
        step_advantage=column(20.0),
        step_return=column(30.0),
        step_group=array("q", labels).tobytes(),
        episodes_sha="x",
    )


def write(folder: Path, batch: int, groups: list[Any], name: str = "") -> None:
    path = folder / FOLDER / (f"{name}.msgpack.zlib" if name else str(ArchiveName(batch)))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(packed([(encode(scores), [encode(one) for one in episodes]) for scores, episodes in groups]))
