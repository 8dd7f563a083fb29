"""A crew: worker processes for the same environments. It chooses the worker of a new session and replaces workers."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Sequence

from services.env.sessions.errors import NoWorkerError, WorkerLostError
from services.env.settings import Settings
from services.env.workers.process import WorkerProcess
from services.env.workers.wire import (
    CloseEpisode,
    Describe,
    Described,
    EnvironmentEntry,
    EpisodeSpec,
    Failed,
    FailedReason,
    History,
    Opened,
    OpenEpisode,
    Stepped,
    TakeStep,
)
from services.env.workers.worker import WorkerConfig

log = logging.getLogger(__name__)

STOP_PATIENCE_S = 2.0
RESTART_PAUSE_S = (0.0, 0.2, 1.0, 5.0)
"""Pause before a worker is started again, by how many in a row died before they were ready."""


class RemoteSession:
    """A session in a worker process."""

    def __init__(self, crew: "Crew", worker: WorkerProcess, episode: int) -> None:
        self._crew = crew
        self._worker = worker
        self._episode = episode

    async def step(self, action: str, response_tokens: int) -> Stepped | Failed:
        """Apply one action; WorkerLostError where the worker ends first."""
        request = self._worker.next_request()
        answer = await self._worker.call(TakeStep(request, self._episode, action, response_tokens), request)
        assert isinstance(answer, Stepped | Failed)
        self._crew.leave_if_hung(self._worker, answer)
        if isinstance(answer, Failed) or answer.terminated or answer.truncated:
            self._crew.forget(self._worker, self._episode)
        return answer

    def close(self) -> None:
        """Free the session; fine when it is gone."""
        if self._episode in self._worker.episodes and not self._worker.gone.is_set():
            self._worker.tell(CloseEpisode(self._episode))
        self._crew.forget(self._worker, self._episode)


class Crew:
    """Keeps `size` workers alive from `start` to `stop`. A session goes to the one with the fewest.

    Args:
        size: worker processes, >= 1.
        told: ids of the environments that a worker must have imported before it is ready.
        on_ready: told whether at least one worker can open sessions, whenever that changes.
    """

    def __init__(
        self,
        settings: Settings,
        config: WorkerConfig,
        size: int,
        *,
        told: Sequence[str],
        on_ready: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._config = config
        self._size = size
        self._told = tuple(told)
        self._on_ready = on_ready
        self._open: set[WorkerProcess] = set()
        self._retiring: set[WorkerProcess] = set()
        self._entries: asyncio.Future[list[EnvironmentEntry]] = asyncio.get_running_loop().create_future()
        self._some_open = asyncio.Event()
        self._all_open = asyncio.Event()
        """Set once, when the crew is complete for the first time."""
        self._tries = 0
        self._tried = asyncio.Event()
        """Set once, when as many workers as the crew has came up or did not."""
        self._opening = 0
        self._busy_at = time.monotonic()
        self._episodes = itertools.count(1)
        self._last_failure = ""
        """Why a worker did not start; empty: the last one did."""
        self._slots: list[asyncio.Task[None]] = []
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def size(self) -> int:
        """How many workers it keeps alive."""
        return self._size

    def start(self) -> None:
        """Begin to start every worker."""
        self._slots = [asyncio.create_task(self._keep_slot()) for _ in range(self._size)]

    async def complete(self) -> None:
        """Wait until all can open sessions; TimeoutError where they do not get there."""
        await asyncio.wait_for(self._all_open.wait(), self._settings.worker_start_timeout_s)

    async def stop(self) -> None:
        """End every worker and wait until none is left."""
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)
        workers = self._open | self._retiring
        self._open.clear()
        self._announce()
        await asyncio.gather(*(worker.stop(STOP_PATIENCE_S) for worker in workers), *self._leaving)

    async def describe(self) -> list[EnvironmentEntry]:
        """The first worker's answer that `told` holds. NoWorkerError: none came up."""
        try:
            return await asyncio.wait_for(asyncio.shield(self._entries), self._settings.worker_start_timeout_s)
        except TimeoutError as error:
            raise self._none_up() from error

    async def open(self, spec: EpisodeSpec, history: History) -> tuple[RemoteSession, Opened] | Failed:
        """Open a session and replay its history; see wire.OpenEpisode. WorkerLostError: its worker ended.
        NoWorkerError: none came up."""
        self._opening += 1
        try:
            worker = await self._fewest_sessions()
            episode = next(self._episodes)
            worker.episodes.add(episode)
            worker.opened += 1
        finally:
            self._opening -= 1
            self._busy_at = time.monotonic()
        if self._settings.episodes_per_worker and worker.opened >= self._settings.episodes_per_worker:
            self._retire(worker)
        request = worker.next_request()
        try:
            answer = await worker.call(OpenEpisode(request, episode, spec, history), request)
        except asyncio.CancelledError:
            RemoteSession(self, worker, episode).close()
            raise
        if isinstance(answer, Opened):
            return RemoteSession(self, worker, episode), answer
        assert isinstance(answer, Failed)
        self.leave_if_hung(worker, answer)
        self.forget(worker, episode)
        return answer

    def forget(self, worker: WorkerProcess, episode: int) -> None:
        """A session ended: a retiring worker without sessions can go."""
        worker.episodes.discard(episode)
        if worker in self._retiring and not worker.episodes:
            self._retiring.discard(worker)
            leaving = asyncio.create_task(worker.stop(STOP_PATIENCE_S))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    def leave_if_hung(self, worker: WorkerProcess, answer: Stepped | Failed) -> None:
        """Open no more sessions in a worker that has a thread which hangs: nothing else ends such a thread."""
        if isinstance(answer, Failed) and answer.reason is FailedReason.HUNG and worker in self._open:
            log.warning("a session of worker %d hung; it opens no more", worker.pid)
            self._retire(worker)

    def look_after(self) -> None:
        """Kill workers whose call takes too long; drop retiring ones that died. To be called again and again."""
        for worker in self._open | self._retiring:
            if worker.gone.is_set():
                self._retiring.discard(worker)
            elif worker.is_stuck(self._settings.step_timeout_s):
                log.warning("worker %d hung; killing it", worker.pid)
                worker.kill(hung=True)

    @property
    def busy(self) -> bool:
        """Whether a session lives or is being opened."""
        return self._opening > 0 or any(worker.episodes for worker in self._open | self._retiring)

    def idle_for_s(self) -> float:
        """Seconds since a session was last seen here; it is only as exact as the calls of this method are frequent."""
        if self.busy:
            self._busy_at = time.monotonic()
        return time.monotonic() - self._busy_at

    async def _fewest_sessions(self) -> WorkerProcess:
        """The worker that opens the next session. NoWorkerError: none came up.

        The first sessions wait until every worker has been started; otherwise those of one group would all go to one.
        """
        try:
            async with asyncio.timeout(self._settings.worker_start_timeout_s):
                await self._tried.wait()
                while not (live := [worker for worker in self._open if not worker.gone.is_set()]):
                    # some are gone and their slots have not had their turn to see it, or none is up
                    await (asyncio.sleep(0) if self._open else self._some_open.wait())
        except TimeoutError as error:
            raise self._none_up() from error
        return min(live, key=lambda candidate: len(candidate.episodes))

    def _none_up(self) -> NoWorkerError:
        why = f": {self._last_failure}" if self._last_failure else ""
        return NoWorkerError(f"no worker came up within {self._settings.worker_start_timeout_s:g} s{why}")

    def _announce(self) -> None:
        if len(self._open) == self._size:
            self._all_open.set()
        ready = bool(self._open)
        if ready != self._some_open.is_set():
            (self._some_open.set if ready else self._some_open.clear)()
            self._on_ready(ready)

    def _retire(self, worker: WorkerProcess) -> None:
        """Let it finish its sessions and open no more; its slot starts another."""
        self._open.discard(worker)
        self._retiring.add(worker)
        worker.left.set()
        self._announce()

    async def _keep_slot(self) -> None:
        """Hold one worker up for ever: start it, wait until it ends or retires, start the next."""
        failures = 0
        while True:
            await asyncio.sleep(RESTART_PAUSE_S[min(failures, len(RESTART_PAUSE_S) - 1)])
            try:
                worker = await self._started()
            except (WorkerLostError, OSError) as error:  # TimeoutError is an OSError
                failures += 1
                self._last_failure = str(error) or "it did not answer"
                log.exception("a worker did not start; %d in a row", failures)
                self._count_try()
                continue
            failures, self._last_failure = 0, ""
            self._open.add(worker)
            self._count_try()
            self._announce()
            await worker.left.wait()
            if worker.gone.is_set():
                log.warning("worker %d ended with %d sessions", worker.pid, len(worker.episodes))
            self._open.discard(worker)
            self._announce()

    def _count_try(self) -> None:
        self._tries += 1
        if self._tries >= self._size:
            self._tried.set()

    async def _started(self) -> WorkerProcess:
        """A worker that has answered. OSError, TimeoutError, WorkerLostError: there is none, and nothing is left."""
        worker = await WorkerProcess.start(self._config)
        try:
            await self._greet(worker)
        except BaseException:
            await worker.stop(0.0)
            raise
        return worker

    async def _greet(self, worker: WorkerProcess) -> None:
        request = worker.next_request()
        order = Describe(request, self._told)
        async with asyncio.timeout(self._settings.worker_start_timeout_s):  # wait_for may lose the end of the slot
            answer = await worker.call(order, request)
        assert isinstance(answer, Described)
        if not self._entries.done():
            self._entries.set_result(answer.environments)
