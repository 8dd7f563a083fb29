"""Limits on a start count wall time, and on a busy machine imports take 25 times as long: none may be tight."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.env.settings import Settings as Env
from services.inference.settings import Settings as Inference
from services.rollout.settings import Settings as Rollout
from services.stack.child import ServicePlan
from services.trainer.settings import Settings as Trainer

LIMITS = {
    "trainer's child": Trainer(redis_url="redis://x").child_start_s,
    "environment worker": Env().worker_start_timeout_s,
    "vLLM": Inference(redis_url="redis://x", data_dir=Path("x")).vllm_start_s,
    "service of the stack": ServicePlan("any", ["any"]).start_s,
}


@pytest.mark.parametrize("what", LIMITS)
def test_a_start_may_take_minutes(what: str) -> None:
    assert LIMITS[what] >= 120


def test_who_waits_for_a_start_waits_longer_than_it_may_take() -> None:
    rollout = Rollout(redis_url="redis://x", env_address="x:1")
    assert rollout.open_timeout_s > LIMITS["environment worker"]
    assert LIMITS["service of the stack"] > LIMITS["environment worker"]
    assert Trainer(redis_url="redis://x").ack_timeout_s > LIMITS["vLLM"]
