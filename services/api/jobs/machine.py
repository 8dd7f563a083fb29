"""The resources of the machine, when trainer and engines run on the same machine as the API."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from services.kit.memory import main_memory

_GPU_QUERY = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Machine:
    """The machine's sizes in bytes; 0 where one is not known."""

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
    disk, (memory, available) = shutil.disk_usage(place), main_memory()
    return Machine(memory, available, _gpu(), disk.total, disk.free)


@cache
def _gpu() -> int:
    try:
        told = subprocess.run(_GPU_QUERY, capture_output=True, text=True, timeout=10, check=True).stdout
        return max((int(line) for line in told.split()), default=0) << 20
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0
