"""The service as a process: what it prints, how it ends, what it leaves behind."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
from env_caller import Caller
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc

HERE = Path(__file__).parent


Started = tuple["subprocess.Popen[str]", str]


@contextlib.contextmanager
def running(tmp_path: Path, **changed: str) -> Iterator[Started]:
    """The service in a process of its own, and its address."""
    settings = {
        "ENV_SERVICE_ADDRESS_FILE": str(tmp_path / "address.json"),
        "ENV_SERVICE_EXTRA_ENVIRONMENTS": '{"faulty": "faulty_environment:Faulty"}',
        "ENV_SERVICE_WORKERS": "2",
        "ENV_SERVICE_DRAIN_S": "30",
        "PYTHONPATH": os.pathsep.join([str(HERE), *(path for path in sys.path if path)]),
        **changed,
    }
    command = [sys.executable, "-m", "services.env.main"]
    with subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert ready["service"] == "env"
            assert json.loads((tmp_path / "address.json").read_text())["address"] == ready["address"]
            yield process, ready["address"]
        finally:
            process.kill()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    with running(tmp_path) as service:
        yield service


@contextlib.asynccontextmanager
async def calling(address: str):
    async with grpc.aio.insecure_channel(address) as channel:
        yield Caller(env_pb2_grpc.EnvironmentServiceStub(channel), address)


def family(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


async def open_and_close_for_ever(caller: Caller) -> None:
    while True:
        await caller.stub.Close(env_pb2.CloseRequest(leases=await caller.open()))


async def ended(process: "subprocess.Popen[str]") -> int:
    return await asyncio.wait_for(asyncio.to_thread(process.wait), 30)


async def test_sigterm_drains_ends_with_status_zero_and_leaves_no_process(started):
    process, address = started
    assert len(family(process)) == 2
    children = family(process)
    async with calling(address) as caller:
        leases = await caller.open(n=2)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await open_and_close_for_ever(caller)  # until the signal has arrived
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in refused.value.details()
        results = await caller.batch(*((lease, 1, "") for lease in leases))  # what was open can end in peace
        assert [result.outcome.observation.text for result in results] == ["count 1"] * 2
        await caller.stub.Close(env_pb2.CloseRequest(leases=leases))
    assert await ended(process) == 0
    assert psutil.wait_procs(children, timeout=0)[1] == []


async def test_an_idle_service_ends_at_ctrl_c(started):
    process, _ = started
    process.send_signal(signal.SIGINT)
    assert await ended(process) == 0


async def test_a_killed_service_leaves_no_worker(started):
    process, address = started
    children = family(process)
    async with calling(address) as caller:
        (lease,) = await caller.open()
        call = caller.stub.Step(env_pb2.StepRequest(lease=lease, seq=1, action="spin"))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(call)), 0.5)
        process.kill()
        assert psutil.wait_procs(children, timeout=10)[1] == []
        call.cancel()


async def play(caller: Caller, lease: str, seen: env_pb2.Observation, seqs: range) -> list[env_pb2.Outcome]:
    """Outcomes that a fixed plan leads to."""
    outcomes = []
    for seq in seqs:
        able = seen.admissible_actions
        outcomes.append(await caller.step(lease, seq, able[seq * 7 % len(able)]))
        seen = outcomes[-1].observation
    return outcomes


async def test_an_episode_goes_on_after_its_service_was_killed_and_started_again(tmp_path):
    spec = {"seed": 4, "kwargs_json": '{"receptacles": [8], "task_types": ["pick_heat_then_place_in_recep"]}'}
    with running(tmp_path) as (process, address):
        async with calling(address) as caller:
            groups = [await caller.group("alfworld", **spec) for _ in range(2)]
            undisturbed = await play(caller, groups[0].leases[0], groups[0].observation, range(1, 13))
            before = await play(caller, groups[1].leases[0], groups[1].observation, range(1, 6))
        children = family(process)
        process.kill()
        assert psutil.wait_procs(children, timeout=30)[1] == []
    port = address.rpartition(":")[2]
    with running(tmp_path, ENV_SERVICE_PORT=port, ENV_SERVICE_MAX_LEASES="2") as (process, address):
        async with calling(address) as caller:
            old = groups[1].leases[0]
            assert (await caller.batch((old, 6, "look")))[0].refusal.code == grpc.StatusCode.NOT_FOUND.value[0]
            shown = [groups[1].observation, *(outcome.observation for outcome in before)]
            actions = [
                shown[seq - 1].admissible_actions[seq * 7 % len(shown[seq - 1].admissible_actions)]
                for seq in range(1, 6)
            ]
            start = env_pb2.OpenGroupRequest(idempotency_key="again", environment="alfworld", n=1, **spec)
            request = env_pb2.RebuildRequest(start=start, actions=actions, digests=[seen.digest for seen in shown])
            rebuilt = await caller.stub.Rebuild(request)
            assert (rebuilt.observation, rebuilt.seq, rebuilt.score) == (shown[-1], 5, before[-1].score)
            assert await caller.stub.Rebuild(request) == rebuilt
            after = await play(caller, rebuilt.leases[0], rebuilt.observation, range(6, 13))
            assert [*before, *after] == undisturbed
            await caller.stub.Close(env_pb2.CloseRequest(leases=rebuilt.leases))
            assert len(await caller.open(n=2)) == 2  # the lease of the killed service takes no room here


async def test_what_an_environment_prints_does_not_mix_with_what_the_service_answers(started):
    process, address = started
    async with calling(address) as caller:
        (lease,) = await caller.open()
        await caller.step(lease, 1, "print spoiled")
        await caller.stub.Close(env_pb2.CloseRequest(leases=[lease]))
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0
    assert process.stdout.read() == ""


def test_a_wrong_setting_stops_the_start():
    command = [sys.executable, "-m", "services.env.main"]
    settings = {"ENV_SERVICE_WORKERS": "0", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert done.stderr == "ENV_SERVICE_WORKERS: want a number >= 1, got '0'\n"


async def test_the_side_port_tells_a_service_that_serves_from_one_that_drains(started: Started, tmp_path: Path):
    process, address = started
    port = json.loads((tmp_path / "address.json").read_text())["metrics"]
    async with calling(address) as caller, httpx.AsyncClient(base_url=port, timeout=30) as http:
        leases = await caller.open()
        assert (await http.get("/readyz")).text == "workers: ok\n"
        assert f"gigpo_env_sessions {len(leases)}.0" in (await http.get("/metrics")).text.splitlines()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            while (await http.get("/readyz")).text != "draining\n":
                await asyncio.sleep(0.02)
        assert (await http.get("/livez")).status_code == 200
        await caller.stub.Close(env_pb2.CloseRequest(leases=leases))
    assert await ended(process) == 0
