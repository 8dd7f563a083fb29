"""The steps of one stream: taken as they come, answered as they are ready."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import partial

from gigpo.env.v1 import env_pb2

from services.env.errors import EnvServiceError
from services.env.leases import Fault
from services.env.service import EnvService
from services.env.translation import step_result
from services.env.wire import Stepped

STEPS_IN_FLIGHT = 8192
"""Steps that one stream may have under way; further requests wait in the transport."""


@dataclass(eq=False)
class _Asked:
    step: env_pb2.StepRequest
    answered: bool = False


class StreamedSteps:
    """One stream. `take` is called with what comes in; `results` gives what goes out, until `end` was called and all
    is answered."""

    def __init__(self, service: EnvService) -> None:
        self._service = service
        self._room = asyncio.Semaphore(STEPS_IN_FLIGHT)
        self._ready: asyncio.Queue[env_pb2.StepResult | None] = asyncio.Queue()
        self._unanswered = 0
        self._ended = False

    async def take(self, steps: Iterable[env_pb2.StepRequest]) -> None:
        """Begin these steps; each is answered within the service's time for a call."""
        begun = []
        for step in steps:
            await self._room.acquire()
            self._unanswered += 1
            asked = _Asked(step)
            try:
                answer = self._service.begin_step(step.lease, step.seq, step.action, step.response_tokens)
            except EnvServiceError as error:
                self._put(asked, error)
            else:
                begun.append(asked)
                answer.add_done_callback(partial(self._done, asked))
        asyncio.get_running_loop().call_later(self._service.call_timeout_s, self._expire, begun)

    def end(self) -> None:
        """Nothing more comes in."""
        self._ended = True
        self._close_if_done()

    async def results(self) -> AsyncIterator[list[env_pb2.StepResult]]:
        """What is ready, all of it at a time."""
        going_on = True
        while going_on:
            found = [await self._ready.get()]
            while not self._ready.empty():
                found.append(self._ready.get_nowait())
            going_on = found[-1] is not None
            if results := [result for result in found if result is not None]:
                yield results

    def _done(self, asked: _Asked, answer: "asyncio.Task[Stepped | Fault]") -> None:
        if not answer.cancelled():
            self._put(asked, answer.result())

    def _expire(self, begun: list[_Asked]) -> None:
        for asked in begun:
            self._put(asked, self._service.not_done())

    def _put(self, asked: _Asked, answer: Stepped | Fault | EnvServiceError) -> None:
        if asked.answered:
            return
        asked.answered = True
        self._ready.put_nowait(step_result(asked.step, answer))
        self._unanswered -= 1
        self._room.release()
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._ended and not self._unanswered:
            self._ready.put_nowait(None)
