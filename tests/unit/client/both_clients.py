"""The same call on both clients, over a transport that answers from a function."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx

from gigpo.client import AsyncGigpoClient, GigpoClient, Retries

KINDS = ("sync", "async")
AT_ONCE = Retries(first_wait_s=0.0)

Handler = Callable[[httpx.Request], httpx.Response]


def ask(kind: str, handler: Handler, call: str, *arguments: Any, **options: Any) -> Any:
    """The value of a call; of one that iterates, the list of its items."""
    if kind == "sync":
        with GigpoClient("http://api", transport=httpx.MockTransport(handler), retries=AT_ONCE) as client:
            answer = getattr(client, call)(*arguments, **options)
            return list(answer) if isinstance(answer, Iterator) else answer

    async def run() -> Any:
        transport = httpx.MockTransport(handler)
        async with AsyncGigpoClient("http://api", transport=transport, retries=AT_ONCE) as client:
            answer = getattr(client, call)(*arguments, **options)
            return [item async for item in answer] if isinstance(answer, AsyncIterator) else await answer

    return asyncio.run(run())


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
        "name": None,
        "state": "RUNNING",
        "wish": "run",
        "phase": None,
        "environment": "grid",
        "advantage_estimator": "gigpo",
        "seed": 0,
        "total_batches": 3,
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
