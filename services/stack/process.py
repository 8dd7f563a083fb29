"""Helpers for processes and ports on Linux."""

from __future__ import annotations

import ctypes
import signal
import socket

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec of a process with threads nothing may be loaded


def die_with_parent() -> None:
    """For `preexec_fn`: the child gets SIGTERM when the thread that started it dies, however that dies: no orphans.

    Start the child from the main thread, else it ends with a thread of yours.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port() -> int:
    """A loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
