"""The client itself: every call of the API on one session."""

from __future__ import annotations

from typing import Self

import httpx

from gigpo.client.asynchronous.access import AccessCalls
from gigpo.client.asynchronous.artifacts import ArtifactCalls
from gigpo.client.asynchronous.catalogue import CatalogueCalls
from gigpo.client.asynchronous.dead_letters import DeadLetterCalls
from gigpo.client.asynchronous.evaluations import EvaluationCalls
from gigpo.client.asynchronous.insight import InsightCalls
from gigpo.client.asynchronous.jobs import JobCalls
from gigpo.client.asynchronous.sessions import SessionCalls
from gigpo.client.http.retries import Retries
from gigpo.client.http.session import session_arguments


class AsyncGigpoClient(
    JobCalls, ArtifactCalls, InsightCalls, SessionCalls, EvaluationCalls, CatalogueCalls, DeadLetterCalls, AccessCalls
):
    """A session with one API; use it in one thread at a time.

        async with AsyncGigpoClient("http://127.0.0.1:8400") as gigpo:
            job = await gigpo.submit(spec)
            async for event in gigpo.events(job.id):
                print(event.kind, event.data)

    Every call may be repeated and is, when the connection breaks or the API asks for patience. A loop that may end
    early closes what it reads from: `async with contextlib.aclosing(gigpo.events(id)) as events`.

    Args:
        url: e.g. http://127.0.0.1:8400.
        key: API key, where the installation wants one.
        timeout_s: longest wait for a connection, and longest silence of an answer.
        retries: what is repeated, and how often.
        transport: httpx's; None: the network.
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
