"""Faults in workers: whatever it is, no reward is made up, nobody else is harmed, nothing is left behind."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys

import grpc
import psutil
import pytest
from env_caller import Caller, reached, room_for, workers
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

RECOVERED_WITHIN_S = 30.0
"""Longest wait for the answers after a worker was killed: 10 s are promised, a busy machine gets more."""
FAULT_WITHIN_S = 20.0
"""Longest wait for a hung step's fault beyond its deadline: 1 s is promised."""
INFRA, ENV_BUG = env_pb2.FAULT_CLASS_INFRA, env_pb2.FAULT_CLASS_ENV_BUG


def assert_fault(outcome: env_pb2.Outcome, fault_class: int) -> None:
    """A fault and nothing else: no reward, no end, no observation."""
    assert outcome == env_pb2.Outcome(fault=outcome.fault)
    assert outcome.fault.fault_class == fault_class
    assert outcome.fault.message


async def played(caller: Caller, leases: list[str], turns: int) -> None:
    for seq in range(1, turns + 1):
        results = await caller.batch(*((lease, seq, "") for lease in leases))
        assert [result.outcome.observation.text for result in results] == [f"count {seq}"] * len(leases)


async def test_a_worker_killed_in_the_middle_of_a_step_costs_nobody_anything(served, tmp_path):
    caller = await served()
    leases = await caller.open(n=4)
    await played(caller, leases, 3)
    gate = tmp_path / "gate"
    held = asyncio.create_task(caller.step(leases[0], 4, f"wait-for {gate}"))
    waiting = asyncio.create_task(caller.batch((leases[1], 4, ""), (leases[2], 4, "")))
    await reached(tmp_path / "gate.reached")
    gate.touch()  # the second time the step goes through
    (worker,) = workers()
    os.kill(worker.pid, signal.SIGKILL)
    async with asyncio.timeout(RECOVERED_WITHIN_S):
        assert (await held).observation.text == "count 4"
        assert [result.outcome.observation.text for result in await waiting] == ["count 4"] * 2
        assert (await caller.step(leases[3], 4)).observation.text == "count 4"
    assert (await caller.step(leases[0], 5)).score == 5.0


async def test_a_worker_that_dies_of_a_step_is_replaced_and_the_step_taken_once(served, tmp_path):
    caller = await served()
    lease = (await caller.open())[0]
    await played(caller, [lease], 2)
    outcome = await caller.step(lease, 3, f"die-once {tmp_path / 'died'}")
    assert (outcome.observation.text, outcome.reward, outcome.score) == ("count 3", 1.0, 3.0)
    assert await caller.step(lease, 3, "") == outcome


async def test_a_step_that_always_kills_its_worker_is_a_fault_and_harms_no_neighbour(served):
    caller = await served()
    guilty, *others = await caller.open(n=4)
    await played(caller, [guilty, *others], 2)
    results = await caller.batch((others[0], 3, ""), (guilty, 3, "die"), (others[1], 3, ""), (others[2], 3, ""))
    assert_fault(results[1].outcome, INFRA)
    texts = [results[index].outcome.observation.text for index in (0, 2, 3)]
    assert texts == ["count 3"] * 3
    assert_fault(await caller.step(guilty, 3), INFRA)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.step(guilty, 4)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize("action", ["sleep 600", "spin"])
async def test_a_hung_step_ends_at_its_deadline_and_harms_no_neighbour(served, action):
    caller = await served(step_timeout_s=1.0)
    guilty, *others = await caller.open(n=3)
    await played(caller, [guilty, *others], 2)
    hanging = asyncio.create_task(caller.step(guilty, 3, action))
    async with asyncio.timeout(1.0 + FAULT_WITHIN_S):
        results = await caller.batch(*((lease, 3, "") for lease in others))
        assert [result.outcome.observation.text for result in results] == ["count 3"] * 2
        assert_fault(await hanging, INFRA)
    results = await caller.batch(*((lease, 4, "") for lease in others))
    assert [result.outcome.observation.text for result in results] == ["count 4"] * 2


async def test_a_frozen_worker_is_replaced(served):
    caller = await served(step_timeout_s=1.0)
    leases = await caller.open(n=2)
    await played(caller, leases, 2)
    (worker,) = workers()
    os.kill(worker.pid, signal.SIGSTOP)
    results = await caller.batch(*((lease, 3, "") for lease in leases))
    assert [result.outcome.observation.text for result in results] == ["count 3"] * 2


async def test_an_exception_in_a_step_is_the_environments_bug(served):
    caller = await served()
    guilty, other = await caller.open(n=2)
    outcome = await caller.step(guilty, 1, "raise")
    assert_fault(outcome, ENV_BUG)
    assert re.fullmatch(rf"RuntimeError: broken on purpose {PLACE}", outcome.fault.message)
    assert (await caller.step(other, 1)).reward == 1.0


PLACE = r"\(faulty_environment\.py, line \d+, in \w+\)"
BUGS = {
    "panic index out of bounds": "PanicException: index out of bounds",
    "cancel": "CancelledError",
    "interrupt": "KeyboardInterrupt",
    "leave": "SystemExit: 3",
    "number": "task: want a text, got int 7",
}


@pytest.mark.parametrize("action", BUGS)
async def test_what_is_no_exception_and_what_is_no_text_is_a_bug_and_ends_no_worker(served, action):
    caller = await served()
    (before,) = workers()
    guilty, other = await caller.open(n=2)
    outcome = await caller.step(guilty, 1, action)
    assert_fault(outcome, ENV_BUG)
    place = "" if action == "number" else f" {PLACE}"  # what is handed over wrongly has no line
    assert re.fullmatch(re.escape(BUGS[action]) + place, outcome.fault.message)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.open(kwargs_json=json.dumps({"reset": action}))
    assert refused.value.code() is grpc.StatusCode.INTERNAL
    assert re.fullmatch(re.escape(BUGS[action]) + place, refused.value.details())
    assert (await caller.step(other, 1)).observation.text == "count 1"
    assert [worker.pid for worker in workers()] == [before.pid]


@pytest.mark.parametrize("action", ["bomb", "hoard"])
async def test_a_memory_bomb_meets_the_limit_and_harms_no_neighbour(served, action):
    caller = await served(worker_memory_mb=256)
    guilty, other = await caller.open(n=2)
    outcome = await caller.step(guilty, 1, action)
    assert_fault(outcome, ENV_BUG)
    assert "MemoryError" in outcome.fault.message
    assert (await caller.step(other, 1)).observation.text == "count 1"


@pytest.mark.parametrize("action", ["spin", "spin-alive"])
async def test_a_step_that_uses_up_its_cpu_time_is_a_fault_and_harms_no_neighbour(served, action):
    caller = await served(step_cpu_s=0.5, step_timeout_s=60.0)
    guilty, other = await caller.open(n=2)
    assert_fault(await caller.step(guilty, 1, action), INFRA)
    assert (await caller.step(other, 1)).observation.text == "count 1"
    for seq in range(2, 8):  # each has its own: together they use up more
        assert (await caller.step(other, seq, "compute 0.2")).observation.text == f"count {seq}"


async def test_a_reset_that_uses_up_its_cpu_time_opens_nothing(served):
    caller = await served(step_cpu_s=0.5, step_timeout_s=60.0)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.open(kwargs_json='{"reset": "spin-alive"}')
    assert refused.value.code() is grpc.StatusCode.ABORTED
    assert await caller.open()


async def test_a_process_that_an_environment_started_is_not_under_the_limit_of_one_step(served, tmp_path):
    caller = await served(step_cpu_s=0.5)
    (lease,) = await caller.open()
    done = tmp_path / "done"
    await caller.step(lease, 1, f"compute-elsewhere {done}")
    await reached(done)
    for worker in workers():  # nobody waits for what it started
        worker.kill()


async def test_sessions_whose_shared_engine_is_lost_are_replayed(served, tmp_path):
    caller = await served()
    (lease,) = await caller.open()
    await played(caller, [lease], 2)
    outcome = await caller.step(lease, 3, f"lose-home {tmp_path / 'first'}")
    assert (outcome.observation.text, outcome.reward, outcome.score) == ("count 3", 1.0, 3.0)
    reset = json.dumps({"reset": f"lose-home {tmp_path / 'second'}"})
    assert await caller.open(kwargs_json=reset)


async def test_an_engine_that_is_lost_again_or_cannot_be_replayed_is_an_infra_fault(served, tmp_path):
    caller = await served()
    (lease,) = await caller.open()
    assert_fault(await caller.step(lease, 1, "lose-home-always"), INFRA)
    (lease,) = await caller.open(kwargs_json='{"deterministic": false}')
    assert_fault(await caller.step(lease, 1, f"lose-home {tmp_path / 'once'}"), INFRA)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.open(kwargs_json='{"reset": "lose-home-always"}')
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_group_that_can_never_have_room_is_the_callers_mistake(served):
    caller = await served(max_leases=4)
    with pytest.raises(grpc.aio.AioRpcError, match="n: want 1 to 4, got 5") as refused:
        await caller.open(n=5)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("reset", "code"),
    [
        ("raise", grpc.StatusCode.INTERNAL),
        ("die", grpc.StatusCode.UNAVAILABLE),
        ("sleep 600", grpc.StatusCode.ABORTED),
        ("bomb", grpc.StatusCode.INTERNAL),
    ],
)
async def test_a_reset_that_fails_opens_nothing_and_the_service_goes_on(served, reset, code):
    caller = await served(step_timeout_s=1.0)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.open(kwargs_json=f'{{"reset": "{reset}"}}', n=2)
    assert refused.value.code() is code
    assert await caller.open(n=2)


async def test_what_is_not_deterministic_is_not_replayed(served):
    caller = await served()
    lease = (await caller.open(kwargs_json='{"deterministic": false}'))[0]
    await played(caller, [lease], 2)
    (worker,) = workers()
    os.kill(worker.pid, signal.SIGKILL)
    assert_fault(await caller.step(lease, 3), INFRA)


async def test_a_replay_that_shows_something_else_is_a_fault(served):
    caller = await served()
    lease = (await caller.open(kwargs_json='{"shows_process": true}'))[0]
    await caller.step(lease, 1)
    (worker,) = workers()
    os.kill(worker.pid, signal.SIGKILL)
    assert_fault(await caller.step(lease, 2), INFRA)


async def test_a_client_that_goes_away_leaves_a_step_that_can_be_fetched(served, tmp_path):
    caller = await served()
    lease = (await caller.open())[0]
    gate = tmp_path / "gate"
    call = caller.stub.Step(env_pb2.StepRequest(lease=lease, seq=1, action=f"wait-for {gate}"))
    asking = asyncio.ensure_future(call)
    await reached(tmp_path / "gate.reached")
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    gate.touch()
    assert (await caller.step(lease, 1)).observation.text == "count 1"


async def test_health_says_not_serving_while_no_worker_is_up(served):
    caller = await served()
    async with grpc.aio.insecure_channel(caller.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        (worker,) = workers()
        os.kill(worker.pid, signal.SIGKILL)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


@pytest.mark.parametrize("verb", ["spawn", "spawn-apart"])  # in the worker's group, in a session of its own
async def test_processes_that_an_environment_started_end_with_its_worker(served, verb):
    caller = await served()
    lease = (await caller.open())[0]
    await caller.step(lease, 1, f"{verb} left-behind-by-an-environment")
    (worker,) = workers()
    (grandchild,) = worker.children()
    os.kill(worker.pid, signal.SIGKILL)
    assert (await caller.step(lease, 2)).observation.text == "count 2"
    assert psutil.wait_procs([grandchild], timeout=30)[1] == []
    for worker in workers():  # its replay started another one
        os.kill(worker.pid, signal.SIGKILL)


async def outcomes_of_a_fixed_plan(caller: Caller, *, kill_every: int) -> list[bytes]:
    """Every outcome of 12 episodes of the household under a fixed plan; workers are killed every so many batches."""
    groups = [await caller.group("alfworld", seed=seed, n=4) for seed in range(3)]
    able = {lease: group.observation.admissible_actions for group in groups for lease in group.leases}
    order, outcomes = list(able), []
    for seq in range(1, 21):
        steps = [(lease, seq, able[lease][(seq * 7 + order.index(lease)) % len(able[lease])]) for lease in able]
        asking = asyncio.create_task(caller.batch(*steps))
        if kill_every and seq % kill_every == 0:
            await asyncio.sleep(0)
            for worker in workers():
                worker.kill()
        for result in await asking:
            assert not result.outcome.HasField("fault")
            outcomes.append(result.outcome.SerializeToString(deterministic=True))
            able[result.lease] = result.outcome.observation.admissible_actions
            if result.outcome.terminated or result.outcome.truncated:
                del able[result.lease]
    return outcomes


async def test_killing_workers_again_and_again_changes_no_outcome(served):
    undisturbed = await outcomes_of_a_fixed_plan(await served(), kill_every=0)
    assert len(undisturbed) > 100
    assert await outcomes_of_a_fixed_plan(await served(workers=2), kill_every=3) == undisturbed


async def test_a_thousand_groups_leave_nothing_behind(served):
    caller = await served()
    (worker,) = workers()
    sizes = []
    for cycle in range(4):
        for number in range(250):
            leases = await caller.open("grid", n=4, seed=number, key=f"{cycle} {number}")
            await caller.batch(*((lease, 1, "go north") for lease in leases))
            await caller.stub.Close(env_pb2.CloseRequest(leases=leases))
        sizes.append(worker.memory_info().rss)
    assert sizes[-1] < sizes[0] * 1.1


async def test_a_client_that_goes_away_for_good_leaves_no_lease_and_no_session(served):
    caller = await served(lease_ttl_s=1.0, max_leases=8)
    async with grpc.aio.insecure_channel(caller.address) as channel:
        gone = Caller(env_pb2_grpc.EnvironmentServiceStub(channel), caller.address)
        leases = await gone.open(n=8, key="of the one who goes")
        await gone.batch(*((lease, 1, "") for lease in leases[:4]))
        stream = gone.stub.StepStream()
        await stream.write(env_pb2.StepBatchRequest(steps=[env_pb2.StepRequest(lease=leases[5], seq=1)]))
    # that all its leases end is what `served` looks at


async def test_a_repeated_seq_acts_once_and_answers_as_before(served, tmp_path):
    caller = await served()
    (lease,) = await caller.open()
    gate = tmp_path / "gate"
    first = asyncio.create_task(caller.step(lease, 1, f"wait-for {gate}"))
    await reached(tmp_path / "gate.reached")
    again = asyncio.create_task(caller.step(lease, 1, "raise"))  # whatever the action: it was taken already
    gate.touch()
    assert await first == await again == await caller.step(lease, 1, "die")
    assert (await caller.step(lease, 2)).observation.text == "count 2"


async def test_a_gap_in_seq_is_refused_and_takes_no_step(served):
    caller = await served()
    (lease,) = await caller.open()
    await caller.step(lease, 1)
    for seq in (3, 0, 4_294_967_295):
        with pytest.raises(grpc.aio.AioRpcError, match=f"want 1 again or 2, got {seq}") as refused:
            await caller.step(lease, seq)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    outcome = await caller.step(lease, 2)
    assert (outcome.observation.text, outcome.score) == ("count 2", 2.0)


async def test_a_step_on_an_expired_lease_is_refused_and_takes_no_step(served):
    caller = await served(lease_ttl_s=0.5, max_leases=1)
    (lease,) = await caller.open()
    await room_for(caller, 1)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.step(lease, 1)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_full_environment_refuses_at_once_with_a_hint_and_others_have_room(served):
    caller = await served(max_sessions={"alfworld": 2})
    leases = await caller.open("alfworld", n=2)
    with pytest.raises(grpc.aio.AioRpcError, match="2 leases of 'alfworld' live") as refused:
        await caller.open("alfworld")
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 100 <= int(dict(refused.value.trailing_metadata())["retry-after-ms"]) <= 5000
    assert await caller.open("grid", n=2)
    await caller.stub.Close(env_pb2.CloseRequest(leases=leases[:1]))
    assert await caller.open("alfworld")


async def test_an_environment_that_what_it_stands_on_left_is_an_infra_fault(served):
    caller = await served()
    (lease,) = await caller.open()
    assert_fault(await caller.step(lease, 1, "lose-server"), INFRA)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.open(kwargs_json='{"reset": "lose-server"}')
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_long_work_that_shows_life_is_not_taken_for_a_hang(served):
    caller = await served(step_timeout_s=2.0)
    (lease,) = await caller.open(kwargs_json='{"reset": "work 8"}')
    assert not (await caller.step(lease, 1, "work 8")).HasField("fault")
    assert_fault(await caller.step(lease, 2, "sleep 60"), INFRA)


async def test_work_in_one_piece_has_the_time_that_it_announced_and_no_more(served):
    caller = await served(step_timeout_s=1.0)
    (lease,) = await caller.open(kwargs_json='{"reset": "unseen 60 3"}')
    assert not (await caller.step(lease, 1, "unseen 60 3")).HasField("fault")
    assert_fault(await caller.step(lease, 2, "sleep 60"), INFRA)  # what is done is done
    (lease,) = await caller.open()
    assert_fault(await caller.step(lease, 1, "unseen 2 600"), INFRA)


async def test_a_worker_that_cannot_be_started_is_tried_again_and_leaves_no_file_open(served, monkeypatch, caplog):
    caller = await served()
    lease = (await caller.open())[0]
    await played(caller, [lease], 2)
    open_files = len(os.listdir("/proc/self/fd"))
    (worker,) = workers()
    with monkeypatch.context() as without_python:
        without_python.setattr(sys, "executable", "/nowhere/python")
        os.kill(worker.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while "a worker did not start; 2 in a row" not in caplog.text:
                await asyncio.sleep(0.05)
    async with asyncio.timeout(RECOVERED_WITHIN_S):
        assert (await caller.step(lease, 3)).observation.text == "count 3"
    assert len(os.listdir("/proc/self/fd")) == open_files
