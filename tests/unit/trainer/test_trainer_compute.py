"""Costs of a phase: CPU seconds of trainer and engines, and seconds of the GPUs that they hold."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from services.contracts import keys
from services.contracts.policy import ReplicaStatus
from services.trainer.replicas.compute import computing
from services.trainer.storage.progress import Progress, decode_progress, encode_progress
from tests.unit.trainer.trainer_loop import Beating


class Replicas:
    """Redis with the replicas' rows; each look finds the next state of them."""

    def __init__(self, *looks: dict[str, tuple[str, float, int]]) -> None:
        self._looks = list(looks)

    async def hgetall(self, key: str) -> dict[bytes, bytes]:
        assert key == keys.REPLICAS
        rows = {
            name: ReplicaStatus(
                replica=name, job_id=job, version=0, engine="fake", state="serving", cpu_s=used, gpus=gpus
            )
            for name, (job, used, gpus) in self._looks.pop(0).items()
        }
        return {name.encode(): row.model_dump_json().encode() for name, row in rows.items()}

    def pipeline(self, *, transaction: bool) -> Beating:
        return Beating()


def session(replicas: Replicas, device: str = "cpu", ranks: int = 1) -> Any:
    return SimpleNamespace(
        job="j", redis=replicas, progress=Progress(), learner=SimpleNamespace(device=device),
        settings=SimpleNamespace(ranks=ranks),
    )  # fmt: skip


async def test_cpu_seconds_of_the_trainer_and_of_the_engines_of_this_job_are_added() -> None:
    before = {"a": ("j", 100.0, 0), "b": ("other", 5.0, 0), "c": ("j", 80.0, 0)}
    after = {"a": ("j", 107.0, 0), "b": ("other", 95.0, 0), "c": ("j", 2.0, 0), "d": ("j", 50.0, 0)}
    found = session(Replicas(before, after, after, after))
    async with computing(found, "training"):
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
    assert 7.1 <= found.progress.cpu_s["training"] + 0.03 < 50  # the clock of processes ticks every .01 s
    assert found.progress.gpu_s == {"training": 0.0}
    once = found.progress.cpu_s["training"]
    async with computing(found, "training"):
        pass
    assert found.progress.cpu_s["training"] >= once
    assert decode_progress(encode_progress(found.progress)) == found.progress


async def test_gpus_that_are_held_count_for_as_long_as_the_phase_lasts() -> None:
    looks = [{"a": ("j", 0.0, 2)}, {"a": ("j", 0.0, 2)}]
    alone, shared = session(Replicas(*looks)), session(Replicas(*looks), device="NVIDIA H200", ranks=4)
    for one in (alone, shared):
        async with computing(one, "evaluation"):
            until = time.monotonic() + 0.05
            while time.monotonic() < until:
                pass
    assert alone.progress.gpu_s["evaluation"] >= 2 * 0.05
    assert shared.progress.gpu_s["evaluation"] >= 6 * 0.05


async def test_a_phase_that_is_broken_off_adds_nothing() -> None:
    found = session(Replicas({}))
    with pytest.raises(KeyError):
        async with computing(found, "training"):
            raise KeyError
    assert found.progress.cpu_s == {}
