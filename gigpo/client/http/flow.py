"""Calls as flows: generators that say what is to be done and leave the doing to a client, which may wait or await.

A flow yields verbs and is sent back their outcome:

    Send(call)   -> the whole answer
    Open(call)   -> the answer, its body not yet read
    Read()       -> the next bytes of that body; None at its end
    Sleep(s)     -> None
    Emit(item)   -> None; a source hands an item to whoever iterates

A connection that breaks is thrown into the flow as httpx.TransportError.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx

from gigpo.client.errors import ApiRefused, NotFound, Unreachable
from gigpo.client.http.call import Call, refusal
from gigpo.client.http.retries import Retries

T = TypeVar("T")


@dataclass(frozen=True)
class Send:
    call: Call[Any]


@dataclass(frozen=True)
class Open:
    call: Call[Any]


@dataclass(frozen=True)
class Read:
    pass


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Emit(Generic[T]):
    item: T


@dataclass(frozen=True)
class Done(Generic[T]):
    """The flow has ended with this value."""

    value: T


Verb = Send | Open | Read | Sleep
Flow = Generator[Verb, Any, T]
Source = Generator[Verb | Emit[T], Any, None]


def step(flow: Generator[Any, Any, T], outcome: Any = None) -> Any:
    """Tell a flow what its verb led to, a TransportError is thrown into it. Returns its next verb, or `Done`."""
    try:
        return flow.throw(outcome) if isinstance(outcome, httpx.TransportError) else flow.send(outcome)
    except StopIteration as end:
        return Done(end.value)


def perform(call: Call[T], retries: Retries) -> Flow[T]:
    """The value of one call, repeated as `retries` has it.

    Raises:
        ApiRefused: it answered with a problem.
        Unreachable: it did not answer.
        BadAnswer.
    """
    attempt = 0
    while True:
        failure: httpx.TransportError | ApiRefused
        try:
            return call.value((yield Send(call)))
        except (httpx.TransportError, ApiRefused) as error:
            if attempt and call.method == "DELETE" and isinstance(error, NotFound):
                return call.parse(httpx.Response(204))  # an earlier attempt did it, and its answer was lost
            failure = error
        yield Sleep(wait_or_raise(failure, attempt, retries, repeatable=call.repeatable))
        attempt += 1


def wait_or_raise(
    failure: httpx.TransportError | ApiRefused, attempt: int, retries: Retries, *, repeatable: bool = True
) -> float:
    """Seconds until the next attempt. Raises the refusal, or Unreachable, when there is to be none."""
    wait_s = retries.wait_s(attempt, failure, repeatable=repeatable)
    if wait_s is not None:
        return wait_s
    if isinstance(failure, ApiRefused):
        raise failure
    raise _unreachable(failure) from failure


def opened(call: Call[Any]) -> Flow[httpx.Response]:
    """The answer whose body can be read. Raises ApiRefused for a problem, httpx.TransportError."""
    answer: httpx.Response = yield Open(call)
    if answer.is_success:
        return answer
    body = b""
    while (chunk := (yield Read())) is not None:
        body += chunk
    headers = {name: value for name, value in answer.headers.items() if name != "content-encoding"}
    raise refusal(httpx.Response(answer.status_code, headers=headers, content=body, request=answer.request))


def _unreachable(error: httpx.TransportError) -> Unreachable:
    """One sentence for a connection that broke or was not made."""
    try:
        url = f"{error.request.url.scheme}://{error.request.url.netloc.decode()}"
    except RuntimeError:  # httpx's word for an error without a request
        url = "the API"
    kind = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "does not answer"
    return Unreachable(f"{url} {kind}: {error or type(error).__name__}")
