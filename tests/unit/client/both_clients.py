"""The same call on both clients, over a transport that answers from a function."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from gigpo.client import AsyncGigpoClient, GigpoClient, Retries

KINDS = ("sync", "async")
AT_ONCE = Retries(first_wait_s=0.0)

Handler = Callable[[httpx.Request], httpx.Response]


def ask(kind: str, handler: Handler, call: str, *arguments: Any, retries: Retries = AT_ONCE, **options: Any) -> Any:
    """The value of a call; of one that iterates, the list of its items."""
    if kind == "sync":
        with GigpoClient("http://api", transport=httpx.MockTransport(handler), retries=retries) as client:
            answer = getattr(client, call)(*arguments, **options)
            return list(answer) if isinstance(answer, Iterator) else answer

    async def run() -> Any:
        transport = httpx.MockTransport(handler)
        async with AsyncGigpoClient("http://api", transport=transport, retries=retries) as client:
            answer = getattr(client, call)(*arguments, **options)
            return [item async for item in answer] if isinstance(answer, AsyncIterator) else await answer

    return asyncio.run(run())


def recorded_sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that either client wants to sleep; it sleeps none of them."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    for module in ("base", "jobs", "downloads"):
        monkeypatch.setattr(f"gigpo.client.synchronous.{module}.time", SimpleNamespace(sleep=slept.append))
        monkeypatch.setattr(f"gigpo.client.asynchronous.{module}.asyncio", SimpleNamespace(sleep=sleep))
    return slept


class Cut(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body whose connection breaks behind these chunks."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        raise httpx.ReadError("cut")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        raise httpx.ReadError("cut")


def job(**fields: Any) -> dict[str, Any]:
    """A job as the API shows it."""
    return {
        "id": "j1",
        "project_id": "default",
        "kind": "training",
        "name": None,
        "state": "RUNNING",
        "wish": "run",
        "phase": None,
        "environment": "grid",
        "advantage_estimator": "gigpo",
        "seed": 0,
        "total_batches": 3,
        "parent_job": None,
        "origin": None,
        "created_unix_s": 1.0,
        "started_unix_s": None,
        "finished_unix_s": None,
        "error": None,
        "metrics": None,
        **fields,
    }


def problem(status: int, detail: str = "no", **headers: str) -> httpx.Response:
    body = {"title": "t", "status": status, "detail": detail, "errors": [{"field": "f", "message": "m"}]}
    return httpx.Response(status, json=body, headers=headers)
