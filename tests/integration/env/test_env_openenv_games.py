"""The OpenEnv client against environments that OpenEnv 0.10 itself serves: paths, templates, tools, tokens, faults."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from gigpo_proto.env.v1 import env_pb2

from services.env.tools.bench_openenv import PYTHON
from services.env.tools.conformance import Result, check_environments

TOKEN = "Bearer let-me-in"
SHELF = {
    "action": {"where": {"column": "{words}"}},
    "show": ["board.rows.0", "messages.-1.content"],
    "anchor": ["board.rows"],
    "admissible": "legal",
    "timeout_s": 60,
}


@pytest.fixture(scope="module")
def games() -> Iterator[str]:
    """host:port of the server of openenv_games.py."""
    if not PYTHON.exists():
        if os.environ.get("CI"):
            pytest.fail("OpenEnv is not installed: make install-openenv")
        pytest.skip("OpenEnv is not installed: make install-openenv")
    command = [str(PYTHON), str(Path(__file__).with_name("openenv_games.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["address"]
        process.terminate()


def kwargs(address: str, name: str, **more: Any) -> str:
    return json.dumps({"url": f"http://{address}/envs/{name}", "timeout_s": 60, **more})


def allowing(address: str, **more: Any) -> dict[str, Any]:
    openenv = {"allowed": [address], "headers": {address: {"Authorization": TOKEN}}}
    return {"options": {"openenv": openenv}, "step_timeout_s": 60.0, "call_timeout_s": 120.0, **more}


async def test_nested_fields_a_template_and_admissible_actions(served: Any, games: str) -> None:
    caller = await served(**allowing(games))
    (lease,) = await caller.open("openenv", kwargs_json=kwargs(games, "shelf", **SHELF))
    first = await caller.step(lease, 1, "1")
    seen = first.observation
    assert (seen.text, seen.anchor) == ("[0, 1, 0]\nplaced in 1", "[[0, 1, 0]]")
    assert (list(seen.admissible_actions), first.action_valid) == (["0", "2"], True)
    second = await caller.step(lease, 2, "1")  # taken: not sent at all
    assert (second.action_valid, second.observation.text) == (False, seen.text)
    await caller.step(lease, 3, "0")
    last = await caller.step(lease, 4, "2")
    assert (last.won, last.terminated, last.reward) == (True, True, 1.0)


async def test_a_misspelt_field_is_refused_with_the_names_there_are(served: Any, games: str) -> None:
    """OpenEnv 601."""
    caller = await served(**allowing(games))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.open("openenv", kwargs_json=kwargs(games, "shelf", show=["board.row"]))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "show: want a field" in refused.value.details()
    assert "board.rows, board.turn" in refused.value.details()


async def test_an_answer_may_take_as_long_as_the_job_says_and_costs_no_neighbour(served: Any, games: str) -> None:
    """OpenEnv 875: the worker was killed as hung after the service's own limit, with its neighbours."""
    caller = await served(**allowing(games, step_timeout_s=2.0))
    (neighbour,) = await caller.open("openenv", kwargs_json=kwargs(games, "shelf", **SHELF))
    slow = kwargs(games, "shelf", **SHELF, reset={"delay_s": 6.0})
    (lease,) = await caller.open("openenv", kwargs_json=slow)
    for one in (lease, neighbour):
        outcome = await caller.step(one, 1, "0")
        assert (outcome.observation.text, outcome.action_valid) == ("[1, 0, 0]\nplaced in 0", True)
    await caller.stub.Close(env_pb2.CloseRequest(leases=[lease, neighbour]))


@pytest.mark.parametrize("errors", ["fault", "invalid"])
async def test_an_error_of_the_servers_code_is_a_fault_or_an_invalid_action(
    served: Any, games: str, errors: str
) -> None:
    caller = await served(**allowing(games))
    given = kwargs(games, "shelf", action=SHELF["action"], show=["board.rows"], errors=errors)
    (lease,) = await caller.open("openenv", kwargs_json=given)
    outcome = await caller.step(lease, 1, "nine")
    if errors == "fault":
        assert outcome.fault.fault_class == env_pb2.FAULT_CLASS_ENV_BUG
        assert "EXECUTION_ERROR" in outcome.fault.message
        return
    assert (outcome.action_valid, outcome.observation.anchor) == (False, "[[0, 0, 0]]")
    assert outcome.observation.text == "[[0, 0, 0]]\ninvalid literal for int() with base 10: 'nine'"
    assert (await caller.step(lease, 2, "2")).observation.text == "[[0, 0, 1]]"
    await caller.stub.Close(env_pb2.CloseRequest(leases=[lease]))


async def test_the_tools_of_a_server_are_shown_and_called(served: Any, games: str) -> None:
    caller = await served(**allowing(games))
    given = kwargs(games, "tools", tools=True, errors="invalid", task="add 2 and 3")
    (lease,) = await caller.open("openenv", kwargs_json=given)
    calls = [
        ('{"name": "add", "arguments": {"a": 2, "b": 3}}', True, "5"),
        ('{"name": "add", "arguments": {"a": "x", "b": 3}}', False, "valid integer"),
        ('{"name": "fail", "arguments": {"why": "so"}}', False, "failed: so"),
        ('{"name": "subtract"}', False, 'There is no tool "subtract"; there are: add, fail'),
        ("2 + 3", False, "This is no call of a tool"),
    ]
    for seq, (action, valid, said) in enumerate(calls, start=1):
        outcome = await caller.step(lease, seq, action)
        assert (outcome.action_valid, said in outcome.observation.text) == (valid, True), outcome
        assert "- add(a: integer, b: integer): Add two numbers." in outcome.observation.task
    await caller.stub.Close(env_pb2.CloseRequest(leases=[lease]))


@pytest.mark.parametrize("token", ["", "Bearer wrong"])
async def test_without_the_operators_token_the_server_refuses(served: Any, games: str, token: str) -> None:
    caller = await served(options={"openenv": {"allowed": [f"{games}/envs"]}}, step_timeout_s=60.0)
    headers = {"Authorization": token} if token else {}
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.open("openenv", kwargs_json=kwargs(games, "shelf", headers=headers))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    (lease,) = await caller.open(
        "openenv", kwargs_json=kwargs(games, "shelf", headers={"authorization": TOKEN}, **{"show": ["board"]})
    )
    await caller.stub.Close(env_pb2.CloseRequest(leases=[lease]))


async def test_a_full_server_says_so_in_the_refusal(served: Any, games: str) -> None:
    caller = await served(**allowing(games))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.open("openenv", n=2, kwargs_json=kwargs(games, "single", action="word"))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "CAPACITY_REACHED: Server at capacity: 1/1 sessions active" in refused.value.details()


def test_a_server_that_ignores_its_seed_is_warned_of(games: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenEnv 1102: first observations are equal, and yet each session has a task of its own."""
    monkeypatch.setenv("ENV_SERVICE_OPTIONS", json.dumps({"openenv": {"allowed": [games]}}))
    given = json.loads(kwargs(games, "secret", action="word", show=["text"], max_turns=3))
    findings = asyncio.run(check_environments(["openenv"], lambda _: None, kwargs=given))
    warned = [finding for finding in findings if finding.result is Result.WARNED]
    assert any(finding.check == "one seed" for finding in warned), findings
