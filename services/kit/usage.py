"""CPU time of this process and of all that it started."""

from __future__ import annotations

from contextlib import suppress

import psutil


def cpu_s() -> float:
    """CPU seconds since this process began, those of its children included, also of ended ones that were waited for."""
    process = psutil.Process()
    found = 0.0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):  # it has ended meanwhile
            found += sum(one.cpu_times()[:4])  # user, system, and the same of its ended children
    return found
