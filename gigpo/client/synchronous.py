"""The client that waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
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


class GigpoClient(JobCalls, ArtifactCalls, EvaluationCalls, CatalogueCalls, AccessCalls):
    """A session with one API; use it in one thread at a time.

        with GigpoClient("http://127.0.0.1:8400") as gigpo:
            job = gigpo.submit(spec)
            for event in gigpo.events(job.id):
                print(event.kind, event.data)

    Every call may be repeated and is, when the connection breaks or the API asks for patience.

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

    def run_flow(self, flow: Flow[T]) -> T:
        """Do what the flow says until it has its value."""
        hands = _Hands(self._http)
        try:
            verb = step(flow)
            while not isinstance(verb, Done):
                verb = step(flow, hands.outcome(verb))
            return cast(T, verb.value)
        finally:
            flow.close()  # what it holds is freed at once, also after Ctrl-C
            hands.close()

    def run_source(self, flow: Source[T]) -> Iterator[T]:
        """The items that the flow emits."""
        hands = _Hands(self._http)
        try:
            verb = step(flow)
            while not isinstance(verb, Done):
                if isinstance(verb, Emit):
                    yield verb.item
                    verb = step(flow)
                else:
                    verb = step(flow, hands.outcome(verb))
        finally:
            flow.close()
            hands.close()


class _Hands:
    """The doing of one flow's verbs."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._answer: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def outcome(self, verb: Verb) -> Any:
        """What the verb led to; a broken connection is an outcome too."""
        try:
            return self._do(verb)
        except httpx.TransportError as error:
            return error

    def _do(self, verb: Verb) -> Any:
        match verb:
            case Send(call):
                return self._http.send(call.request(self._http))
            case Open(call):
                self.close()
                self._answer = self._http.send(call.request(self._http), stream=True)
                self._chunks = self._answer.iter_bytes()
                return self._answer
            case Read():
                return next(self._chunks, None)
            case Sleep(seconds):
                return time.sleep(seconds)

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()
