"""The OpenEnv client against OpenEnv's own server, and against servers that misbehave."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from env_caller import workers
from gigpo_proto.env.v1 import env_pb2
from websockets.sync.server import ServerConnection, serve

from services.env.tools import openenv_echo
from services.env.tools.bench_openenv import PYTHON
from services.env.tools.conformance import Result, check_environments

INFRA, ENV_BUG = env_pb2.FAULT_CLASS_INFRA, env_pb2.FAULT_CLASS_ENV_BUG
SEEN = {"type": "observation", "data": {"observation": {"text": "seen"}, "reward": 0.0, "done": False}}


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """host:port of OpenEnv's echo environment, with room for 8 sessions."""
    if not PYTHON.exists():
        if os.environ.get("CI"):
            pytest.fail("OpenEnv is not installed: make install-openenv")
        pytest.skip("OpenEnv is not installed: make install-openenv")
    command = [str(PYTHON), openenv_echo.__file__, "--sessions", "8"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        urlopen(f"http://{address}/health", timeout=600).close()  # its imports take long on a busy machine
        yield address
        process.terminate()


@contextlib.contextmanager
def pretender(answer: Callable[[ServerConnection, dict[str, Any]], object]) -> Iterator[str]:
    """A server of the protocol that answers as told; nothing where `answer` gives None."""

    def talk(connection: ServerConnection) -> None:
        for message in connection:
            reply = answer(connection, json.loads(message))
            if reply is not None:
                connection.send(json.dumps(reply))

    with serve(talk, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


def kwargs(address: str, **more: Any) -> str:
    return json.dumps({"url": f"ws://{address}", "action": "message", "show": ["echoed_message"], **more})


def allowing(*addresses: str) -> dict[str, Any]:
    return {"options": {"openenv": {"allowed": list(addresses)}}, "step_timeout_s": 60.0}


async def test_a_group_plays_on_the_real_server(served, echo):
    caller = await served(**allowing(echo))
    leases = await caller.open("openenv", n=3, kwargs_json=kwargs(echo, max_turns=2, task="say something"))
    results = await caller.batch(*((lease, 1, f"word {number}") for number, lease in enumerate(leases)))
    assert [result.outcome.observation.text for result in results] == ["word 0", "word 1", "word 2"]
    assert [round(result.outcome.reward, 3) for result in results] == [0.6, 0.6, 0.6]
    last = await caller.step(leases[0], 2, "four")
    assert (last.observation.task, round(last.score, 3), last.truncated) == ("say something", 1.0, True)
    await caller.stub.Close(env_pb2.CloseRequest(leases=leases))


async def test_an_action_that_its_schema_refuses_is_invalid_and_changes_nothing(served, echo):
    caller = await served(**allowing(echo))
    (lease,) = await caller.open("openenv", kwargs_json=kwargs(echo, action=""))
    first = await caller.step(lease, 1, '{"message": "hello"}')
    assert (first.observation.text, first.action_valid) == ("hello", True)
    for seq, action in enumerate(("no JSON", "[1]", '{"words": "hello"}'), start=2):
        outcome = await caller.step(lease, seq, action)
        assert not outcome.HasField("fault")
        assert (outcome.observation.text, outcome.action_valid, outcome.reward) == ("hello", False, 0.0)
    await caller.stub.Close(env_pb2.CloseRequest(leases=[lease]))


async def test_a_session_is_replayed_after_its_worker_died_where_the_job_says_that_it_can_be(served, echo):
    caller = await served(**allowing(echo))
    kept = await caller.open("openenv", kwargs_json=kwargs(echo, deterministic=True))
    lost = await caller.open("openenv", kwargs_json=kwargs(echo))
    await caller.batch((kept[0], 1, "one"), (lost[0], 1, "one"))
    for worker in workers():
        os.kill(worker.pid, signal.SIGKILL)
    assert (await caller.step(kept[0], 2, "two")).observation.text == "two"
    assert (await caller.step(lost[0], 2, "two")).fault.fault_class == INFRA
    await caller.stub.Close(env_pb2.CloseRequest(leases=kept))


async def test_a_full_server_is_no_fault_of_the_environment(served, echo):
    caller = await served(**allowing(echo))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.open("openenv", n=9, kwargs_json=kwargs(echo))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "CAPACITY_REACHED" in refused.value.details()


def test_the_real_server_keeps_the_contract(echo, monkeypatch):
    import asyncio

    monkeypatch.setenv("ENV_SERVICE_OPTIONS", json.dumps({"openenv": {"allowed": [echo]}}))
    given = json.loads(kwargs(echo))
    findings = asyncio.run(check_environments(["openenv"], lambda _: None, kwargs=given))
    assert [finding for finding in findings if finding.result is Result.FAILED] == []


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "http://169.254.169.254", "ws://localhost:{port}", "file:///etc"])
async def test_only_addresses_that_the_operator_allows_are_called(served, url):
    asked = []
    with pretender(lambda _, message: asked.append(message) or SEEN) as address:
        caller = await served(**allowing(address))
        wanted = url.replace("{port}", address.partition(":")[2])
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await caller.open("openenv", kwargs_json=json.dumps({"url": wanted}))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details().startswith("url: ")
    assert address not in refused.value.details()  # what the operator allows is not the submitter's to know
    assert asked == []


async def test_a_redirect_is_not_followed(served):
    asked = []
    with pretender(lambda _, message: asked.append(message) or SEEN) as elsewhere:

        def redirect(connection: ServerConnection, _: object) -> object:
            response = connection.respond(HTTPStatus.FOUND, "elsewhere")
            response.headers["Location"] = f"ws://{elsewhere}/ws"
            return response

        with serve(lambda _: None, "127.0.0.1", 0, process_request=redirect) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            address = f"127.0.0.1:{server.socket.getsockname()[1]}"
            caller = await served(**allowing(address))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await caller.open("openenv", kwargs_json=kwargs(address))
            server.shutdown()
            thread.join()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert asked == []


@pytest.mark.parametrize(
    ("reply", "fault_class", "sentence"),
    [
        (None, INFRA, "Timeout"),
        ("hang up", INFRA, "was lost during step"),
        ({"type": "error", "data": {"code": "SESSION_ERROR", "message": "gone"}}, INFRA, "SESSION_ERROR"),
        ({"type": "error", "data": {"code": "EXECUTION_ERROR", "message": "broken"}}, ENV_BUG, "EXECUTION_ERROR"),
        ({"type": "observation", "data": {"observation": "no object"}}, ENV_BUG, "want an object"),
        ([1, 2], ENV_BUG, "answered with list"),
        ({"type": "error", "data": {"code": "FACTORY_ERROR", "message": "no image"}}, INFRA, "FACTORY_ERROR: no image"),
        ({"type": "observation", "data": {"text": "x" * (4 << 20)}}, ENV_BUG, "is larger than 4194304 bytes"),
    ],
)
async def test_what_a_server_does_wrong_has_its_class_and_never_a_reward(served, reply, fault_class, sentence):
    def answer(connection: ServerConnection, message: dict[str, Any]) -> object:
        if message["type"] == "reset":
            return SEEN
        if reply == "hang up":
            connection.close()
            return None
        return reply

    with pretender(answer) as address:
        caller = await served(**allowing(address))
        (lease,) = await caller.open("openenv", kwargs_json=kwargs(address, timeout_s=1.0, show=["text"]))
        outcome = await caller.step(lease, 1, "hello")
        assert outcome == env_pb2.Outcome(fault=outcome.fault)
        assert outcome.fault.fault_class == fault_class
        assert sentence in outcome.fault.message


async def test_a_server_that_is_not_there_is_no_fault_of_the_environment(served):
    caller = await served(**allowing("127.0.0.1:1"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.open("openenv", kwargs_json=kwargs("127.0.0.1:1"))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_the_service_waits_for_a_slow_server_as_long_as_the_job_says(served):
    together = threading.Barrier(4)

    def slow(_: ServerConnection, message: dict[str, Any]) -> object:
        if message["type"] == "step":
            together.wait(60.0)  # four steps are asked side by side
            time.sleep(2.0)
        return SEEN

    with pretender(slow) as address:
        caller = await served(options={"openenv": {"allowed": [address]}}, step_timeout_s=1.0)
        leases = await caller.open("openenv", n=4, kwargs_json=kwargs(address, show=["text"], timeout_s=60.0))
        results = await caller.batch(*((lease, 1, "go") for lease in leases))
        assert [result.outcome.observation.text for result in results] == ["seen"] * 4
        await caller.stub.Close(env_pb2.CloseRequest(leases=leases))
