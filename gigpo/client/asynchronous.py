"""The client that is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Self, TypeVar, cast

import httpx

from gigpo.client.endpoints.access import AccessCalls
from gigpo.client.endpoints.artifacts import ArtifactCalls
from gigpo.client.endpoints.catalogue import CatalogueCalls
from gigpo.client.endpoints.evaluations import EvaluationCalls
from gigpo.client.endpoints.jobs import JobCalls
from gigpo.client.http.flow import Done, Emit, Flow, Open, Read, Send, Sleep, Source, Verb, step
from gigpo.client.http.retries import Retries
from gigpo.client.http.session import session_arguments

T = TypeVar("T")


class AsyncGigpoClient(JobCalls, ArtifactCalls, EvaluationCalls, CatalogueCalls, AccessCalls):
    """GigpoClient for asyncio: the same calls, awaited; what iterates there is `async for` here.

        async with AsyncGigpoClient("http://127.0.0.1:8400") as gigpo:
            job = await gigpo.submit(spec)
            async for event in gigpo.events(job.id):
                print(event.kind, event.data)

    Who leaves a loop early closes it: `async with contextlib.aclosing(gigpo.events(id)) as events`.

    Args: as GigpoClient's.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout_s: float = 30.0,
        retries: Retries | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url, self.retries = url, retries or Retries()
        self._http = httpx.AsyncClient(**session_arguments(url, key, timeout_s), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def run_flow(self, flow: Flow[T]) -> T:
        """Do what the flow says until it has its value."""
        hands = _Hands(self._http)
        try:
            verb = step(flow)
            while not isinstance(verb, Done):
                verb = step(flow, await hands.outcome(verb))
            return cast(T, verb.value)
        finally:
            flow.close()  # what it holds is freed at once, also after Ctrl-C
            await hands.close()

    async def run_source(self, flow: Source[T]) -> AsyncIterator[T]:
        """The items that the flow emits."""
        hands = _Hands(self._http)
        try:
            verb = step(flow)
            while not isinstance(verb, Done):
                if isinstance(verb, Emit):
                    yield verb.item
                    verb = step(flow)
                else:
                    verb = step(flow, await hands.outcome(verb))
        finally:
            flow.close()
            await hands.close()


class _Hands:
    """The doing of one flow's verbs."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._answer: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def outcome(self, verb: Verb) -> Any:
        """What the verb led to; a broken connection is an outcome too."""
        try:
            return await self._do(verb)
        except httpx.TransportError as error:
            return error

    async def _do(self, verb: Verb) -> Any:
        match verb:
            case Send(call):
                return await self._http.send(call.request(self._http))
            case Open(call):
                await self.close()
                self._answer = await self._http.send(call.request(self._http), stream=True)
                self._chunks = self._answer.aiter_bytes()
                return self._answer
            case Read():
                return None if self._chunks is None else await anext(self._chunks, None)
            case Sleep(seconds):
                return await asyncio.sleep(seconds)

    async def close(self) -> None:
        if self._answer is not None:
            await self._answer.aclose()
