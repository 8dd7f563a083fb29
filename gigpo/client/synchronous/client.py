"""The client itself: every call of the API on one session."""

from __future__ import annotations

from typing import Self

import httpx

from gigpo.client.http.retries import Retries
from gigpo.client.http.session import session_arguments
from gigpo.client.synchronous.access import AccessCalls
from gigpo.client.synchronous.artifacts import ArtifactCalls
from gigpo.client.synchronous.catalogue import CatalogueCalls
from gigpo.client.synchronous.dead_letters import DeadLetterCalls
from gigpo.client.synchronous.evaluations import EvaluationCalls
from gigpo.client.synchronous.insight import InsightCalls
from gigpo.client.synchronous.jobs import JobCalls
from gigpo.client.synchronous.sessions import SessionCalls


class GigpoClient(
    JobCalls, ArtifactCalls, InsightCalls, SessionCalls, EvaluationCalls, CatalogueCalls, DeadLetterCalls, AccessCalls
):
    """A session with one API; use it in one thread at a time.

        with GigpoClient("http://127.0.0.1:8400") as gigpo:
            job = gigpo.submit(spec)
            for event in gigpo.events(job.id):
                print(event.kind, event.data)

    Every call may be repeated and is, when the connection breaks or the API asks for patience. A loop that may end
    early closes what it reads from: `with contextlib.closing(gigpo.events(id)) as events`.

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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url, self.retries = url, retries or Retries()
        self._http = httpx.Client(**session_arguments(url, key, timeout_s), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
