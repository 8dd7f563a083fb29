"""The client calls what the API's OpenAPI document has, with parameters and fields that it knows, and all of it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from gigpo.client import AsyncGigpoClient, GigpoClient, GigpoError, Retries
from gigpo.client.main import app
from tests.unit.client.both_clients import problem

SAMPLES: dict[str, Any] = {
    "str": "x",
    "int": 1,
    "float": 1.5,
    "bool": True,
    "Sequence[str]": ["read"],
    "Mapping[str, JsonValue]": {},
    "Mapping[str, int | None]": {"max_concurrent_jobs": 1},
}
OF_OPENAI = {"POST /v1/sessions/{session_id}/chat/completions", "GET /v1/sessions/{session_id}/models"}
"""Calls of OpenAI's API, for which its own clients are there."""
CALLS = [name for name, _ in inspect.getmembers(GigpoClient, inspect.isfunction) if name[0] != "_" and name != "close"]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document as `gigpo openapi` prints it."""
    printed = CliRunner().invoke(app, ["openapi"])
    assert printed.exit_code == 0, printed.output
    found: dict[str, Any] = json.loads(printed.stdout)
    return found


def requests_of(name: str, folder: Path) -> list[httpx.Request]:
    """The request of a call when every argument is given and nothing is there."""
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return problem(404)

    with GigpoClient("http://api", transport=httpx.MockTransport(handler), retries=Retries(limit=0)) as client:
        call = getattr(client, name)
        arguments = {one.name: sample(one, folder) for one in inspect.signature(call).parameters.values()}
        try:
            answer = call(**arguments)
            list(answer) if isinstance(answer, Iterator) else None
        except GigpoError:
            pass
    return seen


def sample(parameter: inspect.Parameter, folder: Path) -> Any:
    kind = str(parameter.annotation).removesuffix(" | None")
    if parameter.name == "follow":
        return False
    return folder / parameter.name if kind == "Path" else SAMPLES[kind]


def operation(document: dict[str, Any], request: httpx.Request) -> tuple[str, dict[str, Any]]:
    """`METHOD path` and the operation that a request means."""
    for path, operations in document["paths"].items():
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/:]+", re.escape(path)), request.url.path):
            method = request.method.lower()
            if method in operations:
                return f"{request.method} {path}", operations[method]
    raise AssertionError(f"the API has no {request.method} {request.url.path}")


def fields_of(document: dict[str, Any], operation: dict[str, Any]) -> set[str]:
    """Names that an operation's JSON body may have."""
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return set(schema["properties"])


@pytest.mark.parametrize("name", CALLS)
def test_a_call_sends_what_the_document_knows(name: str, document: dict[str, Any], tmp_path: Path) -> None:
    seen = requests_of(name, tmp_path)
    assert seen
    for request in seen:
        _, found = operation(document, request)
        known = {one["name"].lower() for one in found.get("parameters", [])}
        assert set(request.url.params) <= known
        assert "idempotency-key" in known or "idempotency-key" not in request.headers
        if request.content:
            assert set(json.loads(request.content)) <= fields_of(document, found)


def test_the_client_has_every_call_of_the_document(document: dict[str, Any], tmp_path: Path) -> None:
    every = {f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations}
    called = {operation(document, request)[0] for name in CALLS for request in requests_of(name, tmp_path)}
    assert every - called == OF_OPENAI


def test_both_clients_have_the_same_calls() -> None:
    def calls(client: type) -> dict[str, str]:
        found = inspect.getmembers(client, inspect.isfunction)
        plain = ((name, str(inspect.signature(call)), call.__doc__) for name, call in found if name[0] != "_")
        return {name: f"{signature} {words}".replace("AsyncIterator", "Iterator") for name, signature, words in plain}

    assert calls(AsyncGigpoClient) == calls(GigpoClient)
    coroutines = {name for name in CALLS if inspect.iscoroutinefunction(getattr(AsyncGigpoClient, name))}
    assert set(CALLS) - coroutines == {
        "anchors",
        "audit",
        "dead_letters",
        "evaluation_jobs",
        "events",
        "jobs",
        "rollouts",
        "states",
        "watch_steps",
    }
    assert "async" not in (GigpoClient.__doc__ or "")
    assert "async with AsyncGigpoClient(" in (AsyncGigpoClient.__doc__ or "")
