"""One vLLM server's process group: starts, watches and ends it. The server listens on a Unix socket in its own folder.

vLLM's API key does not guard its control plane (pause, weight updates, RPC), so only this user can read the socket's
folder, and no port is open.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from services.inference.engine import EngineFailed
from services.inference.vllm_log import last_error
from services.inference.watch import Signs
from services.kit.process import kill_group

LOG_TAIL_BYTES = 200_000
"""Bytes of the log that are searched for the reason; a stack trace of vLLM has a few thousand."""


class VllmProcess:
    """A server in its own session, bound to this process's life.

    Args:
        log: file that takes its stdout and stderr, appended.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._begins = 0
        """The place in the log where this server's words begin, bytes."""
        self._folder = Path(tempfile.mkdtemp(prefix="gigpo-vllm-"))
        self.socket = self._folder / "api.sock"

    async def spawn(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start `command`, which serves on `self.socket`, with `environment` added to this process's.

        Call it on the main thread: the kernel ends the server with the thread that forked it.

        Raises:
            EngineFailed: there is no such program.
        """
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._begins = log.tell()
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **environment},  # a child needs PATH, HOME and the like
                    start_new_session=True,
                )
            except OSError as error:
                shutil.rmtree(self._folder, ignore_errors=True)
                raise EngineFailed(f"{command[0]}: {error.strerror}") from error

    @property
    def pid(self) -> int | None:
        """Process and group id while it runs."""
        return self._process.pid if self._process is not None and self.alive else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def engine_cpu_s(self) -> float:
        """CPU seconds that the processes which the API server started have used: the engine and its workers."""
        return sum(map(_cpu_s, self._processes()[1:]))

    def signs(self) -> Signs:
        """Signs of life while it starts: lines in its log, and the CPU time of all its processes."""
        return Signs(self._log.stat().st_size, sum(map(_cpu_s, self._processes())), "")

    def _processes(self) -> list[psutil.Process]:
        """The API server, and all that it started; none where it has ended."""
        with suppress(psutil.Error, ProcessLookupError):
            server = psutil.Process(self.pid) if self.alive else None
            return [] if server is None else [server, *server.children(recursive=True)]
        return []

    async def exited(self) -> int:
        """Wait for its end; the exit status, negative for a signal."""
        if self._process is None:
            return 0
        return await self._process.wait()

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, SIGKILL to the whole group after `grace_s` seconds, and nothing of it is left."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None and grace_s > 0:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
                with suppress(TimeoutError):
                    async with asyncio.timeout(grace_s):
                        await process.wait()
            kill_group(process.pid)  # the API server may be gone and its engine core not
            await process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def why(self) -> str:
        """Its last words since it was started, for an error's sentence."""
        with suppress(OSError), self._log.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(self._begins, log.tell() - LOG_TAIL_BYTES))
            return last_error(log.read().decode(errors="replace"))
        return ""


def _cpu_s(process: psutil.Process) -> float:
    """0 once it has ended."""
    with suppress(psutil.Error, ProcessLookupError):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0
