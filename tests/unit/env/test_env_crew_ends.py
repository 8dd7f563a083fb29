"""A crew ends, at whatever instant of a worker's start it is told to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.env.sessions import crew as crews
from services.env.sessions.crew import Crew
from services.env.settings import Settings
from services.env.workers.listing import worker_config
from services.env.workers.wire import Answer, Described

TURNS_OF_A_START = 6


class StartingWorker:
    """A worker whose first answer is under way."""

    pid = 1

    def __init__(self) -> None:
        self.episodes: set[int] = set()
        self.gone, self.left = asyncio.Event(), asyncio.Event()
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.stopped = False

    def next_request(self) -> int:
        return 1

    async def call(self, order: Any, request: int) -> Answer:
        return await self.answer

    async def stop(self, patience_s: float) -> None:
        self.stopped = True


@pytest.mark.parametrize("turns", range(TURNS_OF_A_START))
async def test_a_crew_that_is_stopped_while_a_worker_comes_up_ends(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[StartingWorker]()

    class Starts:
        @staticmethod
        async def start(config: object) -> StartingWorker:
            started.append(StartingWorker())
            return started[-1]

    monkeypatch.setattr(crews, "WorkerProcess", Starts)
    settings = Settings()
    crew = Crew(settings, worker_config(settings), 1, told=())
    crew.start()
    while not started:
        await asyncio.sleep(0)
    started[0].answer.set_result(Described(1, []))
    for _ in range(turns):
        await asyncio.sleep(0)
    stopping = asyncio.create_task(crew.stop())
    for _ in range(100):  # turns of the loop, not seconds
        await asyncio.sleep(0)
    ended = stopping.done()
    for task in (stopping, *crew._slots):
        task.cancel()
    await asyncio.gather(stopping, *crew._slots, return_exceptions=True)
    assert ended
    assert started[0].stopped
