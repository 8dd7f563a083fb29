"""The main memory of this machine, or what a container may use of it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def main_memory() -> tuple[int, int]:
    """Bytes in all, swap included, and bytes that are available now; 0, 0: not known."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        figures = {name: int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable", "SwapTotal")}
    except (OSError, KeyError, ValueError, IndexError):
        return 0, 0
    limits = [figures["MemTotal"] + figures["SwapTotal"]]
    for file in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # not there, or `max`
            limits.append(int(Path(file).read_text()))
    return min(limits), min(figures["MemAvailable"], *limits)
