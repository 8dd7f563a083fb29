"""Signs of life between processes of one machine: a file that the living one touches, and a count of looks in vain.

A parent notices a process that ended. A process that hangs or was stopped is noticed only by the file that it leaves
alone. It holds the process's id. `scripts/probe.sh` looks at it in a container, `Stillness` in a supervisor.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from services.kit.tasks import beside, ending_the_process

log = structlog.get_logger("kit")

PULSE_S = 2.0
TURN_S = 900.0
"""A loop that has not turned for so long is hung. A turn takes milliseconds; only what it waits for on the way, such as
a job's files on a slow disk, may take minutes."""
BUSY_SHARE = 60
"""A silent process is busy, not hung, when it has used one of so many seconds of CPU time: a starved one gets more than
that at a load of 25 a core, and one that waits for a lock gets nothing."""
BUSY_FACTOR = 15
"""It may be busy so many times as long as it may be silent and idle."""


@dataclass(frozen=True)
class Work:
    """The loop that does a process's work."""

    turns: Callable[[], int]
    """How often it has turned."""
    longest_s: float = TURN_S
    """One turn may take so long; then it has hung."""


class Turns:
    """Notes when an event loop last turned.

    Args:
        work: None: it is enough that the event loop turns.
    """

    def __init__(self, work: Work | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._work, self._clock = work, clock
        self._seen, self._worked, self._turned = -1, clock(), clock()

    def look(self) -> bool:
        """Note, from inside the loop, that it turns; False: its work has hung."""
        now = self._clock()
        if self._work is not None:
            turns = self._work.turns()
            if turns != self._seen:
                self._seen, self._worked = turns, now
            if now - self._worked >= self._work.longest_s:
                return False
        self._turned = now
        return True

    def silent_s(self) -> float:
        """Seconds since the loop last turned with its work alive; any thread may ask."""
        return self._clock() - self._turned


@asynccontextmanager
async def pulse(file: Path | None, work: Work | None = None) -> AsyncIterator[Turns]:
    """Note from this event loop that it turns, and touch `file`, while the block runs; None: there is no file.

    Args:
        work: see `Turns`; when it has hung, the file is left alone.
    """
    turns = Turns(work)

    async def beat() -> None:
        while True:
            if turns.look() and file is not None:
                _touch(file)
            await asyncio.sleep(PULSE_S)

    if file is not None:
        _begin(file)
    async with beside(beat):
        yield turns


def pulse_thread(file: Path) -> None:
    """Touch `file` from a thread as long as the process lives: for one whose main thread may compute for hours."""

    def beat() -> None:
        while True:
            _touch(file)
            time.sleep(PULSE_S)

    _begin(file)
    threading.Thread(target=ending_the_process(beat), name="pulse", daemon=True).start()


@dataclass(frozen=True)
class Sign:
    """The result of one look at a process."""

    life: object
    """Another value than the one before: it lives. None: nothing can be said of it."""
    cpu_s: float = 0.0
    """CPU time that its own threads have used."""


class Stillness:
    """Counts looks in a row that found no new sign of life.

    Looks, not seconds: who looks may have been stopped too, with the machine or its container.

    Args:
        looks: after so many without any life and hardly any CPU time, it hangs.
    """

    def __init__(self, looks: int) -> None:
        self._looks = looks
        self._last, self._cpu_s = Sign(None), 0.0
        self._still = self._idle = 0

    def hangs(self, sign: Sign) -> bool:
        """Whether a process of which this sign was found now is to be given up."""
        if sign.life is None or sign.life != self._last.life:
            self._last, self._cpu_s, self._still, self._idle = sign, sign.cpu_s, 0, 0
            return False
        self._still += 1
        self._idle += 1
        if self._idle >= self._looks and sign.cpu_s - self._cpu_s > self._looks / BUSY_SHARE:
            self._cpu_s, self._idle = sign.cpu_s, 0
        return self._idle >= self._looks or self._still >= BUSY_FACTOR * self._looks


def sign_in(file: Path, pid: int) -> Sign:
    """The sign in the file that a process touches, and the CPU time that the process has used."""
    try:
        file.with_suffix(".looked").touch()  # the process can't write where we can't
        return Sign(file.stat().st_mtime_ns, cpu_s(pid))
    except OSError:  # the process writes none, or the disk is read-only or gone
        return Sign(None)


def pulse_of_child(pulse_file: Path, pid: int) -> Path:
    """The file that a process touches which was started by the one that touches `pulse_file`, or by its children."""
    return pulse_file.with_name(f"{pulse_file.name}-child-{pid}")


def cpu_s(pid: int) -> float:
    """CPU time of a process's own threads, seconds; 0 where nobody can tell."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _begin(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(os.getpid()))
    except OSError as error:
        log.error("no sign of life can be given", file=str(file), error=str(error))


def _touch(file: Path) -> None:
    with suppress(OSError):  # a disk that is away: whoever looks finds that out by itself
        os.utime(file)
