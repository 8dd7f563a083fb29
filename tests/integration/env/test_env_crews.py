"""Environments that are not light have worker processes of their own: what goes wrong in one touches no other."""

import asyncio
import contextlib
import os
import re
import signal

import grpc
import psutil
import pytest
from env_caller import Caller, reached, workers
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc

from services.env.edge.server import running_server
from services.env.workers.process import WorkerProcess
from services.env.workers.worker import WorkerConfig

SHOWS_PROCESS = '{"shows_process": true}'
WITHIN_S = 120.0
"""Only what hangs takes so long."""


def process_in(observation: env_pb2.Observation) -> int:
    """Process id of the worker that the session is in."""
    return int(re.fullmatch(r"count \d+ in (\d+)", observation.text)[1])


async def home_of(caller: Caller, environment: str, **spec) -> int:
    """Process id of the worker that opens a session of this environment."""
    group = await caller.group(environment, kwargs_json=SHOWS_PROCESS, **spec)
    return process_in(group.observation)


async def ended(pid: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while psutil.pid_exists(pid):
            await asyncio.sleep(0.05)


async def test_light_environments_share_a_worker_and_every_other_has_its_own(served):
    caller = await served()
    (standing,) = workers()
    light = await home_of(caller, "faulty")
    await caller.open("grid")
    assert [worker.pid for worker in workers()] == [standing.pid] == [light]
    own = [await home_of(caller, environment) for environment in ("moderate", "unthreaded", "moderate", "unthreaded")]
    assert own[:2] == own[2:]
    assert {worker.pid for worker in workers()} == {standing.pid, *own}
    assert len(workers()) == 3


async def test_the_operator_says_how_many_workers_an_environment_has(served):
    caller = await served(own_workers={"faulty": 2, "moderate": 0})
    (standing,) = workers()
    assert await home_of(caller, "moderate") == standing.pid
    leases = await caller.open("faulty", n=4)
    await caller.batch(*((lease, 1, "spawn sleeper") for lease in leases))
    own = {worker.pid: worker for worker in workers() if worker.pid != standing.pid}
    assert [len(worker.children()) for worker in own.values()] == [2, 2]  # a group's sessions are spread over them
    for worker in own.values():
        worker.kill()


async def test_a_step_that_takes_long_in_one_environment_delays_no_other(served, tmp_path):
    caller = await served(step_timeout_s=WITHIN_S)
    light = await caller.open("faulty", n=2)
    (slow,) = await caller.open("moderate")
    gate = tmp_path / "gate"
    held = asyncio.create_task(caller.step(slow, 1, f"wait-for {gate}"))
    await reached(tmp_path / "gate.reached")
    for seq in range(1, 4):  # answered, though the gate is closed until they are
        results = await caller.batch(*((lease, seq, "") for lease in light))
        assert [result.outcome.observation.text for result in results] == [f"count {seq}"] * 2
    assert await caller.open("unthreaded")
    assert not held.done()
    gate.touch()
    assert (await held).observation.text == "count 1"


async def test_a_step_that_hangs_in_one_environment_ends_no_session_of_another(served):
    caller = await served(step_timeout_s=1.0)
    light = await caller.group("faulty", kwargs_json=SHOWS_PROCESS)  # a replay elsewhere would show another process
    guilty, other = await caller.open("moderate", n=2)
    assert (await caller.step(guilty, 1, "sleep 600")).fault.fault_class == env_pb2.FAULT_CLASS_INFRA
    assert (await caller.step(other, 1)).observation.text == "count 1"
    outcome = await caller.step(light.leases[0], 1)
    assert process_in(outcome.observation) == process_in(light.observation)


@pytest.mark.parametrize("killed", ["faulty", "moderate"])
async def test_a_worker_that_is_killed_ends_no_session_of_another_environment(served, killed):
    caller = await served()
    (kept,) = {"faulty", "moderate"} - {killed}
    group = await caller.group(kept, kwargs_json=SHOWS_PROCESS)
    (lost,) = await caller.open(killed, seed=3)
    assert (await caller.step(lost, 1)).observation.text == "count 4"
    os.kill(await home_of(caller, killed), signal.SIGKILL)
    assert (await caller.step(lost, 2)).observation.text == "count 5"
    outcome = await caller.step(group.leases[0], 1)
    assert process_in(outcome.observation) == process_in(group.observation)


async def test_workers_of_an_environment_end_when_it_is_idle_and_start_again_for_the_next_session(served):
    caller = await served(worker_idle_s=0.3)
    (standing,) = workers()
    group = await caller.group("moderate", kwargs_json=SHOWS_PROCESS)
    first = process_in(group.observation)
    younger = await home_of(caller, "unthreaded")
    await caller.stub.Close(env_pb2.CloseRequest(leases=[caller.leases[-1]]))
    await ended(younger)  # being idle; the older one is not, as a session keeps its home
    assert process_in((await caller.step(group.leases[0], 1)).observation) == first
    await caller.stub.Close(env_pb2.CloseRequest(leases=group.leases))
    await ended(first)
    assert [worker.pid for worker in workers()] == [standing.pid]
    assert await home_of(caller, "moderate") not in (first, standing.pid)


async def test_an_episode_goes_on_whose_workers_ended_as_idle_after_its_own_was_lost(served):
    caller = await served(worker_idle_s=0.3)
    (lease,) = await caller.open("moderate")
    assert (await caller.step(lease, 1)).observation.text == "count 1"
    home = await home_of(caller, "moderate")
    await caller.stub.Close(env_pb2.CloseRequest(leases=[caller.leases[-1]]))
    os.kill(home, signal.SIGKILL)
    await ended(home)
    async with asyncio.timeout(WITHIN_S):
        while len(workers()) != 1:
            await asyncio.sleep(0.05)
    assert (await caller.step(lease, 2)).observation.text == "count 2"


async def test_workers_of_an_environment_are_recycled_and_its_sessions_undisturbed(served):
    caller = await served(episodes_per_worker=2, max_leases=8)
    first = await caller.group("moderate", kwargs_json=SHOWS_PROCESS)
    assert await home_of(caller, "moderate") == process_in(first.observation)
    assert await home_of(caller, "moderate") != process_in(first.observation)
    outcome = await caller.step(first.leases[0], 1)
    assert process_in(outcome.observation) == process_in(first.observation)


async def test_a_memory_bomb_in_workers_of_their_own_meets_the_limit_there(served):
    caller = await served(worker_memory_mb=1024)
    guilty, other = await caller.open("moderate", n=2)
    light = await caller.group("faulty", kwargs_json=SHOWS_PROCESS)
    outcome = await caller.step(guilty, 1, "bomb")
    assert outcome.fault.fault_class == env_pb2.FAULT_CLASS_ENV_BUG
    assert "MemoryError" in outcome.fault.message
    assert (await caller.step(other, 1)).observation.text == "count 1"
    outcome = await caller.step(light.leases[0], 1)
    assert process_in(outcome.observation) == process_in(light.observation)


async def test_workers_that_do_not_start_leave_the_other_environments_alone(served, monkeypatch):
    caller = await served(worker_start_timeout_s=20.0)
    light = await caller.open("faulty")
    with monkeypatch.context() as without_python:
        without_python.setattr("sys.executable", "/nowhere/python")
        opening = asyncio.create_task(caller.open("moderate"))
        assert (await caller.step(light[0], 1)).observation.text == "count 1"
        problem = (await asyncio.gather(opening, return_exceptions=True))[0]
    assert problem.code().name == "UNAVAILABLE"
    assert problem.details().startswith("no worker came up within 20 s: ")
    assert "/nowhere/python" in problem.details()
    async with asyncio.timeout(WITHIN_S):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):  # between two starts lies a pause
                await caller.open("moderate")
                break


async def test_a_worker_that_dies_while_it_starts_for_a_session_is_replaced(served):
    caller = await served()
    (standing,) = workers()
    opening = asyncio.create_task(caller.open("moderate"))
    async with asyncio.timeout(WITHIN_S):
        while not (own := [worker for worker in workers() if worker.pid != standing.pid]):
            await asyncio.sleep(0)
    assert not opening.done()
    own[0].kill()
    (lease,) = await opening
    assert (await caller.step(lease, 1)).observation.text == "count 1"


async def test_workers_are_not_idle_while_a_session_is_being_opened(served):
    caller = await served(worker_idle_s=0.05)
    spec = {"kwargs_json": '{"shows_process": true, "reset": "sleep 1"}'}
    group = await caller.group("moderate", **spec)
    outcome = await caller.step(group.leases[0], 1)
    assert process_in(outcome.observation) == process_in(group.observation)


async def test_workers_of_their_own_are_limited_in_all_and_those_without_a_session_make_room(served):
    caller = await served(max_own_workers=2, own_workers={"faulty": 1}, worker_idle_s=5.0)
    moderate, unthreaded = await caller.open("moderate"), await caller.open("unthreaded")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.open("faulty")
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "at most 2 may run, and these run: 1 of 'moderate', 1 of 'unthreaded'" in refused.value.details()
    assert int(dict(refused.value.trailing_metadata())["retry-after-ms"]) > 0
    assert await caller.open("grid")
    await caller.stub.Close(env_pb2.CloseRequest(leases=moderate))
    assert await caller.open("faulty")
    assert (await caller.step(unthreaded[0], 1)).observation.text == "count 1"


async def test_one_environment_may_have_more_workers_than_all_together_may(served):
    caller = await served(max_own_workers=1, own_workers={"moderate": 2}, worker_idle_s=0.3)
    leases = await caller.open("moderate", n=2)
    assert len(workers()) == 3
    await caller.stub.Close(env_pb2.CloseRequest(leases=leases))


async def test_a_recycled_worker_that_hangs_ends_with_the_service(settings, tmp_path):
    async with (
        running_server(settings(episodes_per_worker=1)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        caller = Caller(env_pb2_grpc.EnvironmentServiceStub(channel), address)
        (lease,) = await caller.open("moderate")
        stuck = asyncio.create_task(caller.step(lease, 1, f"wait-for {tmp_path / 'gate'}"))
        await reached(tmp_path / "gate.reached")
    await asyncio.gather(stuck, return_exceptions=True)
    assert workers() == []


async def test_a_start_that_is_given_up_leaves_no_process():
    config = WorkerConfig({}, {}, 0, 0.0)
    for turns in range(1, 6):
        starting = asyncio.create_task(WorkerProcess.start(config))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not starting.cancel():
            await (await starting).stop(0.0)
        await asyncio.gather(starting, return_exceptions=True)
        assert workers() == []
