"""The service's side of one worker process: start it, call it, see it die, kill it.

Workers are fresh interpreters (never forked from the service, whose gRPC threads do not survive a fork), each the
leader of a process group of its own, with a short list of environment variables: environment code sees no secret.
"""

import asyncio
import contextlib
import itertools
import logging
import mmap
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping

import msgspec

from services.env.sessions.errors import WorkerLostError
from services.env.workers.wire import HEADER, MAX_FRAME_BYTES, Answer, Order, answers, frame
from services.env.workers.worker import ANY_REQUEST, PROGRESS, WorkerConfig
from services.kit.process import kill_group, kill_marked

log = logging.getLogger(__name__)

STDERR_FD = 2
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "JAVA_HOME", "JAVA_TOOL_OPTIONS")
"""Environment variables that every worker inherits."""


MARK = "GIGPO_ENV_WORKER"
"""The variable by which the processes that a worker's environments have started are known for its own."""


def worker_environment(inherited: Mapping[str, str], config: WorkerConfig) -> dict[str, str]:
    """A few of `inherited` and those that the operator named, our import path, and one hash seed: sets have one order
    in all workers."""
    kept = {name: inherited[name] for name in PASSED_ON if name in inherited}
    named = {name: inherited[name] for name in config.pass_env if name in inherited}
    paths = [*sys.path, config.import_folder]
    return {
        **kept,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        **named,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONHASHSEED": "0",
    }


class WorkerProcess:
    """One worker. `episodes` holds the ids of sessions that live in it; `opened` counts all it ever had."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        page: mmap.mmap,
        mark: str,
    ) -> None:
        self._mark = mark
        self.episodes: set[int] = set()
        self.opened = 0
        self.gone = asyncio.Event()
        """Set once the process has ended; calls under way get their error then."""
        self.left = asyncio.Event()
        """Set once the worker opens no more sessions: it is gone, or was told to retire."""
        self._process = process
        self._reader, self._writer = streams
        self._page = page
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._requests = itertools.count(1)
        self._outbox: list[Order] = []
        self._stopping = False
        self._hung = False
        self._last_tick: tuple[object, ...] = ()
        self._ticked_at = time.monotonic()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, config: WorkerConfig) -> "WorkerProcess":
        """Spawn a worker; it answers as soon as its imports are done. OSError where no process can be made."""
        with contextlib.ExitStack() as parents, contextlib.ExitStack() as childs:
            ours, theirs = socket.socketpair()
            parents.enter_context(ours)
            childs.enter_context(theirs)
            page_fd = os.memfd_create("worker-progress")
            childs.callback(os.close, page_fd)
            os.ftruncate(page_fd, PROGRESS.size)
            page = parents.enter_context(mmap.mmap(page_fd, PROGRESS.size))
            mark = secrets.token_hex(8)
            command = [sys.executable, "-P", "-m", "services.env.workers.worker", str(theirs.fileno()), str(page_fd)]
            process = subprocess.Popen(
                [*command, msgspec.json.encode(config).decode()],
                pass_fds=(theirs.fileno(), page_fd),
                stdin=subprocess.DEVNULL,
                stdout=STDERR_FD,  # what environments print must not mix with what the service answers
                process_group=0,
                env={**worker_environment(os.environ, config), MARK: mark},
            )
            parents.pop_all()  # the descriptors are the worker's now
        try:
            streams = await asyncio.open_connection(sock=ours)
        except BaseException:  # cancelled, as a rule: nobody else knows of the process yet
            kill_group(process.pid)
            process.wait()
            ours.close()
            page.close()
            raise
        return cls(process, streams, page, mark)

    @property
    def pid(self) -> int:
        """Process id, which is the process group's id too."""
        return self._process.pid

    def next_request(self) -> int:
        """A request id for the next order to this worker."""
        return next(self._requests)

    async def call(self, order: Order, request: int) -> Answer:
        """Send one order and wait for its answer; WorkerLostError where the worker ends first."""
        if self.gone.is_set():
            raise WorkerLostError("the worker is gone")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if not self._waiting:
            self._ticked_at = time.monotonic()  # nothing was due until now
        self._waiting[request] = answer
        self.tell(order)
        try:
            return await answer
        finally:
            self._waiting.pop(request, None)

    def tell(self, order: Order) -> None:
        """Send one order that is not answered. Orders of one turn of the event loop go out in one frame."""
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.append(order)

    def kill(self, *, hung: bool = False) -> None:
        """End the process group at once; calls under way raise WorkerLostError."""
        self._hung = self._hung or hung
        if not self.gone.is_set():
            kill_group(self.pid)

    async def stop(self, patience_s: float) -> None:
        """Let the worker end by itself for `patience_s` seconds, then kill it."""
        self._stopping = True
        self._writer.close()
        try:
            await asyncio.wait_for(self.gone.wait(), patience_s)
        except TimeoutError:
            self.kill()
            await self.gone.wait()

    def is_stuck(self, after_s: float) -> bool:
        """Whether a call waits for the worker, which has shown no life for `after_s` seconds, or for as long as it
        announced where that is longer. To be asked often."""
        tick = PROGRESS.unpack_from(self._page)
        if tick != self._last_tick:
            self._last_tick, self._ticked_at = tick, time.monotonic()
        return bool(self._waiting) and time.monotonic() - self._ticked_at > max(after_s, tick[-1])

    def _flush(self) -> None:
        messages, self._outbox = self._outbox, []
        if not self._writer.is_closing():
            self._writer.write(frame(messages))

    async def _read(self) -> None:
        try:
            while True:
                (length,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
                if length > MAX_FRAME_BYTES:
                    raise ValueError(f"frame of {length} bytes")
                for answer in answers(await self._reader.readexactly(length)):
                    waiting = self._waiting.get(answer.request)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            log.debug("worker %d closed its connection", self.pid)
        except (ValueError, msgspec.DecodeError, RecursionError):
            log.exception("worker %d sent an invalid frame", self.pid)
        finally:
            await self._bury()

    async def _bury(self) -> None:
        """See the process end, leave nothing that it started, then tell every waiting call."""
        self._writer.close()
        if not self._stopping:
            kill_group(self.pid)
        # WNOWAIT: until it is reaped, its group id cannot become another's, so the group can be killed safely
        await asyncio.to_thread(os.waitid, os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        kill_group(self.pid)
        status = self._process.wait()
        await asyncio.to_thread(kill_marked, MARK, self._mark)  # what left its group
        running, *_ = PROGRESS.unpack_from(self._page)
        self.gone.set()
        self.left.set()
        self._page.close()
        spent = status == -signal.SIGPROF
        cause = "hung and was killed" if self._hung else f"ended with status {status}"
        if spent:
            cause = "used up the CPU time of one step and was killed"
        for request, waiting in self._waiting.items():
            if not waiting.done():
                guilty = running in (request, ANY_REQUEST)
                waiting.set_exception(
                    WorkerLostError(f"the worker {cause}", running=guilty, hung=guilty and (self._hung or spent))
                )
