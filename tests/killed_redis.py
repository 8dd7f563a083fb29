"""A real Redis-compatible server that ends by SIGKILL, and the file that it leaves behind."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.stack.valkey import ValkeyPlan


@contextmanager
def killed_redis(plan: ValkeyPlan) -> Iterator[None]:
    """It runs in the block; started again it has what its file holds."""
    process = subprocess.Popen(plan.command)
    try:
        while not plan.answers():
            assert process.poll() is None
        yield
    finally:
        process.kill()
        process.wait()


def appended(folder: Path) -> Path:
    """The file in the folder of its data to which it appends its commands."""
    (file,) = folder.glob("appendonlydir/*.incr.aof")
    return file
