"""Sessions that wait for something else have a thread each, and limits of their own; real worker processes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from env_caller import Caller, workers
from gigpo_proto.env.v1 import env_pb2

INFRA, ENV_BUG = env_pb2.FAULT_CLASS_INFRA, env_pb2.FAULT_CLASS_ENV_BUG


def kwargs(**given: Any) -> str:
    return json.dumps({"deterministic": False, "shows_process": True, **given})


async def texts(caller: Caller, leases: list[str], seq: int, action: str = "") -> list[str]:
    return [one.outcome.observation.text for one in await caller.batch(*((lease, seq, action) for lease in leases))]


def owner() -> int:
    """The one worker that is the environment's own: the standing one is older."""
    return max(workers(), key=lambda worker: worker.create_time()).pid


async def test_steps_of_one_worker_are_taken_side_by_side(served, tmp_path: Path):
    caller = await served()
    leases = await caller.open("overlapping", n=4, kwargs_json=kwargs())
    seen = f"count 1 in {owner()}, 1 thread"
    assert await texts(caller, leases, 1, f"meet {tmp_path} 4") == [seen] * 4


async def test_resets_of_one_group_are_taken_side_by_side_after_its_first(served, tmp_path: Path):
    caller = await served()
    (tmp_path / "the first").touch()
    (tmp_path / "and one more").touch()
    groups = [caller.open("overlapping", seed=1, kwargs_json=kwargs(reset=f"meet {tmp_path} 4")) for _ in range(2)]
    assert len(await asyncio.gather(*groups)) == 2


@pytest.mark.parametrize("ends", [1.0, 600.0])
async def test_a_session_that_hangs_is_lost_alone_and_its_worker_retires(served, ends, tmp_path: Path):
    caller = await served(step_timeout_s=1.0)
    guilty, *others = await caller.open("overlapping", n=3, kwargs_json=kwargs())
    before = owner()
    outcome = await caller.step(guilty, 1, f"sleep {ends + 1}")
    assert (outcome.fault.fault_class, outcome.fault.message) == (INFRA, "it took too long")
    assert await texts(caller, others, 1) == [f"count 1 in {before}, 1 thread"] * 2
    (later,) = await caller.open("overlapping", kwargs_json=kwargs())
    assert await texts(caller, [later], 1) != [f"count 1 in {before}, 1 thread"]
    assert await texts(caller, others, 2) == [f"count 2 in {before}, 1 thread"] * 2


@pytest.mark.parametrize("environment", ["overlapping", "moderate", "faulty"])
async def test_an_environment_may_take_as_long_as_it_says(served, environment):
    caller = await served(step_timeout_s=0.5)
    patient, *others = await caller.open(environment, n=3, kwargs_json=kwargs())
    before = await texts(caller, others, 1)
    assert (await caller.step(patient, 1, "unseen 60 2")).reward == 1.0
    assert await texts(caller, others, 2) == [text.replace("count 1", "count 2") for text in before]
    (short,) = await caller.open(environment, kwargs_json=kwargs())
    assert (await caller.step(short, 1, "sleep 600")).fault.fault_class == INFRA


async def test_a_report_of_work_counts_for_the_session_that_gives_it(served):
    caller = await served(step_timeout_s=1.0)
    busy, hung = await caller.open("overlapping", n=2, kwargs_json=kwargs())
    worked, slept = await caller.batch((busy, 1, "work 6"), (hung, 1, "sleep 600"))
    assert worked.outcome.reward == 1.0
    assert slept.outcome.fault.fault_class == INFRA


@pytest.mark.parametrize(("action", "message"), [("panic rust", "PanicException: rust"), ("leave", "SystemExit: 3")])
async def test_what_a_session_raises_in_its_thread_is_its_own_bug(served, action, message):
    caller = await served()
    guilty, other = await caller.open("overlapping", n=2, kwargs_json=kwargs())
    outcome = await caller.step(guilty, 1, action)
    assert outcome.fault.fault_class == ENV_BUG
    assert outcome.fault.message.startswith(message)
    assert await texts(caller, [other], 1) == [f"count 1 in {owner()}, 1 thread"]


async def test_a_worker_that_dies_under_several_calls_is_replaced(served, tmp_path: Path):
    caller = await served()
    leases = await caller.open("overlapping", n=3, kwargs_json=kwargs(deterministic=True, shows_process=False))
    await texts(caller, leases, 1)
    asked = ((leases[0], 2, f"die-once {tmp_path / 'died'}"), *((lease, 2, "sleep 0.5") for lease in leases[1:]))
    results = await caller.batch(*asked)
    assert [one.outcome.observation.text for one in results] == ["count 2, 1 thread"] * 3


async def test_an_action_that_always_ends_the_worker_is_given_up_after_two(served):
    caller = await served()
    (lease,) = await caller.open("overlapping", kwargs_json=kwargs(deterministic=True, shows_process=False))
    outcome = await caller.step(lease, 1, "die")
    assert outcome.fault.message.startswith("2 workers died in this step")
