"""Processes on Linux: who dies with whom, and a port that is free.

The plugin that runs inside vLLM's own environment cannot import this and has a copy of `die_with_parent`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec of a process with threads nothing may be loaded


def die_with_parent(by: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send this process the signal when the thread that started it dies, however that dies: no orphans.

    For `preexec_fn`, or at the start of a child. Start the child from the main thread, else it ends with a thread of
    yours. Elsewhere than on Linux nothing happens.
    """
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, by)


def kill_group(leader: int) -> None:
    """SIGKILL to a process group: to its leader, who may be gone already, and to what it has started there."""
    with suppress(ProcessLookupError, PermissionError):  # gone, or the number is another user's by now
        os.killpg(leader, signal.SIGKILL)


def kill_marked(name: str, value: str) -> None:
    """SIGKILL to every process of ours that has this variable among those that it was started with: it passes to
    children, also to such as lead a group or a session of their own."""
    mark = f"{name}={value}".encode()
    found = True
    while found:  # one may start another meanwhile
        found = False
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # gone, or another user's
                process = os.pidfd_open(int(folder.name))  # first: the number cannot become another's then
                try:
                    if mark in (folder / "environ").read_bytes().split(b"\0"):
                        signal.pidfd_send_signal(process, signal.SIGKILL)
                        found = True
                finally:
                    os.close(process)


def free_port() -> int:
    """A loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
