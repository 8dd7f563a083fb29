"""Tools of MCP servers as an environment: real servers of the official package, over stdio and HTTP."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
import psutil
import pytest
from env_caller import HANGS_S, family, words
from gigpo_proto.env.v1 import env_pb2

from gigpo.env.environment import InfraFault, KwargsError, Observation
from services.env.environments.mcp import Mcp
from services.env.workers.registry import valid_kwargs
from services.kit.process import free_port

pytest.importorskip("mcp", reason="the extra mcp is not installed")
SERVER = str(Path(__file__).with_name("mcp_server.py"))
STDIO = {"command": sys.executable, "args": [SERVER]}
ROWS = {"rows": [{"prompt": "What is 17 + 25?", "solution": "42"}], "split_dataset_ratio": 0, "timeout_s": 120}
GAME = {"start": "begin", "tools": ["guess"], "reward": "reward", "done": "done", "timeout_s": 120}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The URL of the server over HTTP."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    with subprocess.Popen([sys.executable, SERVER, "http", str(port)]) as process:
        while process.poll() is None:
            try:
                urlopen(url, timeout=60).close()
            except HTTPError as refusal:  # it wants a question, and is there
                refusal.close()
                break
            except OSError:
                time.sleep(0.2)
        yield url
        process.kill()  # it would wait for whoever is still connected


def call(name: str, /, **arguments: Any) -> str:
    return json.dumps({"name": name, "arguments": arguments})


def environment(servers: Any, **kwargs: Any) -> Mcp:
    """Make it as a worker does, with the operator's servers."""
    found = type("Told", (Mcp,), {"options": {"servers": servers}})
    return found(valid_kwargs(found, json.dumps({"server": "tests", **kwargs})))


@pytest.mark.parametrize("over", ["stdio", "http"])
def test_a_question_is_answered_with_the_servers_tools(over: str, request: pytest.FixtureRequest) -> None:
    described = STDIO if over == "stdio" else {"url": request.getfixturevalue("address")}
    env = environment({"tests": {**described, "tools": ["add", "fail"]}}, **ROWS)
    with closing(env):
        task = env.reset(0, "train").task
        assert task.splitlines()[:3] == [
            "What is 17 + 25?",
            "Tools:",
            "- add(a: integer, b: integer): Add two numbers.",
        ]
        assert [tool["name"] for tool in env.tools] == ["add", "fail", "answer"]
        for action, valid, said in (
            (call("add", a=17, b=25), True, "42"),
            (call("add", a="x", b=1), False, "valid integer"),
            (call("fail", why="now"), False, "Error executing tool fail"),
            (call("guess", digit=1), False, 'There is no tool "guess"; there are: add, fail, answer'),
            ("42", False, "This is no call of a tool"),
            (call("answer", answer=[42]), False, "arguments: want one text, answer"),
        ):
            outcome = env.step(action)
            assert (outcome.action_valid, outcome.reward, outcome.terminated) == (valid, 0.0, False)
            assert said in outcome.observation.text
        last = env.step(call("answer", answer="42"))
        assert (last.won, last.reward, last.terminated) == (True, 1.0, True)


def test_a_server_that_is_a_game_gives_rewards_and_ends() -> None:
    def played() -> list[tuple[float, bool, bool]]:
        with closing(environment({"tests": STDIO}, **GAME)) as env:
            first: Observation = env.reset(5, "test")
            assert first.text == "guess a digit"
            assert "begin" not in first.task
            seen = []
            for digit in range(10):
                outcome = env.step(call("guess", digit=digit))
                seen.append((outcome.reward, outcome.won, outcome.terminated))
                if outcome.terminated:
                    break
            return seen

    once = played()
    assert once[-1] == (1.0, True, True)
    assert set(once[:-1]) <= {(0.0, False, False)}
    assert played() == once  # a seed is a task


def test_a_program_sees_only_what_the_operator_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "secret")
    with closing(environment({"tests": {**STDIO, "env": {"GIVEN": "this"}}}, **ROWS)) as env:
        env.reset(0, "train")
        assert env.step(call("environment", name="MY_API_KEY")).observation.text == ""
        assert env.step(call("environment", name="GIVEN")).observation.text == "this"


@pytest.mark.parametrize(
    ("servers", "kwargs", "said"),
    [
        ({}, ROWS, "server: 'tests' is not one that the operator of this service allows"),
        (
            {"tests": {"command": "x", "url": "http://a"}},
            ROWS,
            "options of the operator: servers.tests: .*one of command",
        ),
        ({"tests": {"comand": "x"}}, ROWS, "options of the operator: servers.tests.comand: Extra inputs"),
        ({"tests": STDIO}, {**ROWS, "tools": ["ad"]}, "tools: want one of add, begin, .*, got 'ad'"),
        ({"tests": {**STDIO, "tools": ["add"]}}, {**ROWS, "tools": ["leave"]}, "tools: want one of add, got 'leave'"),
        ({"tests": {**STDIO, "tools": ["add"]}}, GAME, "want one of add, got"),
        ({"tests": STDIO}, {**ROWS, "rows": [{"prompt": "what?"}]}, "data: want a solution in every row"),
        ({"tests": STDIO}, {}, "want questions"),
    ],
)
def test_what_is_not_allowed_or_not_there_is_refused(servers: Any, kwargs: Any, said: str) -> None:
    def opened() -> None:
        with closing(environment(servers, **kwargs)) as env:
            env.reset(0, "train")

    with pytest.raises(KwargsError, match=said):
        opened()


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({"command": "/no/such/program"}, "the MCP server does not start"),
        ({"command": "true"}, "the MCP server does not start"),
        ({"url": "http://127.0.0.1:1/mcp"}, "the MCP server does not start"),
    ],
)
def test_a_server_that_is_not_there_is_no_fault_of_the_environment(described: Any, said: str) -> None:
    with (
        closing(environment({"tests": described}, **{**ROWS, "timeout_s": 60})) as env,
        pytest.raises(InfraFault, match=said),
    ):
        env.reset(0, "train")


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (call("leave"), "the MCP server"),
        (call("sleep", seconds=600), "does not call sleep within timeout_s = 5 s|sleep"),
    ],
)
def test_a_server_that_goes_or_hangs_is_no_fault_of_the_environment(action: str, said: str) -> None:
    env = environment({"tests": STDIO}, **ROWS)
    with closing(env):
        env.reset(0, "train")
        assert env._session is not None
        env._session._timeout_s = 5.0
        with pytest.raises(InfraFault, match=said):
            env.step(action)


async def test_a_service_plays_it_and_leaves_no_server_behind(served: Any) -> None:
    caller = await served(options={"mcp": {"servers": {"tests": STDIO}}}, step_timeout_s=120.0, call_timeout_s=300.0)
    given = json.dumps({"server": "tests", **ROWS})
    leases = await caller.open("mcp", n=2, kwargs_json=given)
    programs = [one for one in family() if words(one)[-1:] == [SERVER]]
    assert len(programs) == 2
    outcome = await caller.step(leases[0], 1, call("add", a=1, b=2))
    assert (outcome.observation.text, outcome.action_valid) == ("3", True)
    for worker in {parent for one in programs if (parent := one.parent()) is not None}:
        worker.kill()  # without a word: the programs end all the same
    assert psutil.wait_procs(programs, timeout=HANGS_S)[1] == []
    await caller.stub.Close(env_pb2.CloseRequest(leases=leases))


async def test_a_job_cannot_name_a_program(served: Any) -> None:
    caller = await served()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.open("mcp", kwargs_json=json.dumps({"server": "tests", **ROWS, "command": "true"}))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "command: unknown key" in refused.value.details()
