"""Finds a pool's child, or a rank of its learner, that hangs or was stopped, for the parent to kill it.

Celery notices a child only when it has ended, and a child its ranks.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil
import structlog

from services.kit.pulse import Stillness, pulse_of_child, sign_in

log = structlog.get_logger("trainer")


class ChildWatch:
    """Looks at the children of a pool and at all that they started; who gives no signs of life is left alone.

    Args:
        pulse_file: the parent's own; None: nobody gives signs of life.
        looks: after so many in vain a child is killed; the pool starts another, and the job's message comes again.
    """

    def __init__(self, pulse_file: Path | None, looks: int) -> None:
        self._pulse_file, self._looks = pulse_file, looks
        self._still: dict[int, Stillness] = {}

    def look(self, pids: Iterable[int]) -> str | None:
        """Kill what hangs; a sentence about it, once."""
        if self._pulse_file is None:
            return None
        living, told = {pid for child in pids for pid in _family(child)}, None
        for pid in living:
            stillness = self._still.setdefault(pid, Stillness(self._looks))
            if stillness.hangs(sign_in(pulse_of_child(self._pulse_file, pid), pid)):
                told = f"the trainer's process {pid} hung, without a sign of life, and was killed"
                log.warning("a child hangs and is killed", pid=pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for pid in self._still.keys() - living:
            del self._still[pid]
            for file in (path := pulse_of_child(self._pulse_file, pid), path.with_suffix(".looked")):
                with suppress(OSError):
                    file.unlink()
        return told


def _family(pid: int) -> list[int]:
    """The process and all that it and they started."""
    with suppress(psutil.Error):  # it has ended
        return [pid, *(one.pid for one in psutil.Process(pid).children(recursive=True))]
    return [pid]
