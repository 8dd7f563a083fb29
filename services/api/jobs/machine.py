"""The resources of the machine, when trainer and engines run on the same machine as the API."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_GPU_QUERY = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Machine:
    """In bytes; 0 where it is not known."""

    memory: int
    """Main memory and swap, or what a container may use of it."""
    available: int
    """Free memory, now."""
    gpu: int
    """Memory of the largest GPU; 0: there is none."""
    disk: int
    """Size of the disk that jobs are written to."""
    disk_free: int


def this_machine(data_dir: Path) -> Machine:
    """The machine now; `data_dir` need not exist."""
    place = next(folder for folder in (data_dir.absolute(), *data_dir.absolute().parents) if folder.exists())
    disk, (memory, available) = shutil.disk_usage(place), _memory()
    return Machine(memory, available, _gpu(), disk.total, disk.free)


def _memory() -> tuple[int, int]:
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


@cache
def _gpu() -> int:
    try:
        told = subprocess.run(_GPU_QUERY, capture_output=True, text=True, timeout=10, check=True).stdout
        return max((int(line) for line in told.split()), default=0) << 20
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0
