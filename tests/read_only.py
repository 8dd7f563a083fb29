"""A folder that becomes read-only under running processes, as a mount does whose disk has failed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let whatever is opened below the folder for writing meet EROFS while the block runs; what is open stays so.

    Skips the test where nothing may be mounted, and fails it in CI.
    """
    _mount("--bind", str(folder), str(folder))
    try:
        _mount("-o", "remount,bind,ro", str(folder))
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*words: str) -> None:
    try:
        done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
        refused = done.stderr if done.returncode else ""
    except OSError as error:
        refused = str(error)
    if refused:
        message = f"this system lets the test mount nothing: {refused.strip()}"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
