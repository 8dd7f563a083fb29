"""Handles the steps of one stream: takes them in order of arrival and answers each when it is ready."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable
from functools import partial

from gigpo_proto.env.v1 import env_pb2

from services.env.edge.translation import step_result
from services.env.sessions.errors import EnvServiceError
from services.env.sessions.leases import Fault
from services.env.sessions.service import EnvService
from services.env.workers.wire import Stepped

STEPS_IN_FLIGHT = 8192
"""Steps that one stream may have under way or answered but not sent; further requests wait in the transport."""


class StreamedSteps:
    """One stream. `take` is called with what comes in; `results` gives what goes out, until `end` was called and all
    is answered."""

    def __init__(self, service: EnvService) -> None:
        self._service = service
        self._room = asyncio.Semaphore(STEPS_IN_FLIGHT)
        self._ready: asyncio.Queue[env_pb2.StepResult | None] = asyncio.Queue()
        self._numbers = itertools.count()
        self._unanswered: dict[int, tuple[env_pb2.StepRequest, float]] = {}
        """Steps by number, and so in order of time, each with the moment when waiting for its answer ends (the loop's
        clock)."""
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    async def take(self, steps: Iterable[env_pb2.StepRequest]) -> None:
        """Begin these steps, as room comes; each is answered within the service's time for a call."""
        loop = asyncio.get_running_loop()
        for step in steps:
            await self._room.acquire()
            until = loop.time() + self._service.call_timeout_s
            number = next(self._numbers)
            self._unanswered[number] = (step, until)
            try:
                answer = self._service.begin_step(step.lease, step.seq, step.action, step.response_tokens)
            except EnvServiceError as error:
                self._put(number, error)
            else:
                answer.add_done_callback(partial(self._done, number))
            if self._timer is None:
                self._timer = loop.call_at(until, self._expire)

    def end(self) -> None:
        """Accept no further request."""
        self._ended = True
        self._close_if_done()

    async def results(self) -> AsyncIterator[list[env_pb2.StepResult]]:
        """Everything that is ready."""
        going_on = True
        while going_on:
            found = [await self._ready.get()]
            while not self._ready.empty():
                found.append(self._ready.get_nowait())
            going_on = found[-1] is not None
            if results := [result for result in found if result is not None]:
                yield results
                for _ in results:  # answers are sent only now: a client that does not read fills its own stream
                    self._room.release()

    def _done(self, number: int, answer: "asyncio.Task[Stepped | Fault]") -> None:
        if not answer.cancelled():
            self._put(number, answer.result())

    def _expire(self) -> None:
        """Answer what waited too long, and look again when the next one will have."""
        loop, self._timer = asyncio.get_running_loop(), None
        for number, (_, until) in list(self._unanswered.items()):
            if until > loop.time():
                self._timer = loop.call_at(until, self._expire)
                return
            self._put(number, self._service.not_done())

    def _put(self, number: int, answer: Stepped | Fault | EnvServiceError) -> None:
        asked = self._unanswered.pop(number, None)
        if asked is None:
            return  # it waited too long and was told so
        self._ready.put_nowait(step_result(asked[0], answer))
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._ended and not self._unanswered:
            self._ready.put_nowait(None)
