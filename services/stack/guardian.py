"""`python -m services.stack.guardian`: outlives a killed supervisor just long enough to end its processes.

When a supervisor dies, the kernel sends every service SIGTERM; a service that hangs, or waits for a Redis that died
too, would stay. The supervisor writes lines `+PID` and `-PID` to stdin for session leaders that it started and that
ended, and `done` at a regular end. If stdin ends without `done`, the guardian cleans up.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

from services.kit.process import kill_group

GRACE_S = 8.0
"""Seconds from the supervisor's death to SIGKILL."""
DONE = "done"


def main() -> int:
    """Exit status 0."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    leaders: dict[int, int] = {}  # pid -> pidfd, which still names the process when its number is another's
    for line in sys.stdin:
        word = line.strip()
        if word == DONE:
            return 0
        sign, pid = word[:1], int(word[1:])
        if sign == "+":
            with suppress(ProcessLookupError):
                leaders[pid] = os.pidfd_open(pid)
        elif pid in leaders:
            os.close(leaders.pop(pid))
    _wait_until_ended(leaders.values(), time.monotonic() + GRACE_S)
    for pid in leaders:
        kill_group(pid)
    return 0


def _wait_until_ended(pidfds: Iterable[int], deadline: float) -> None:
    poll, left = select.poll(), set(pidfds)
    for pidfd in left:
        poll.register(pidfd, select.POLLIN)
    while left and (wait_s := deadline - time.monotonic()) > 0:
        for pidfd, _ in poll.poll(wait_s * 1000):
            poll.unregister(pidfd)
            left.discard(pidfd)


class Guardian:
    """The supervisor's end of it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> Guardian:
        """Start it in a session of its own and unbound to our life."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.stack.guardian", stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
        return cls(process)

    def watch(self, pid: int) -> None:
        """A session leader was started."""
        self._tell(f"+{pid}")

    def forget(self, pid: int) -> None:
        """It has ended, and so has everything in its session."""
        self._tell(f"-{pid}")

    async def dismiss(self) -> None:
        """A regular end: nothing is left to clean up."""
        self._tell(DONE)
        await self._process.wait()

    def _tell(self, word: str) -> None:
        if self._process.returncode is None and self._process.stdin is not None:
            self._process.stdin.write(f"{word}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
