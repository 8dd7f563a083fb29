"""Bind a process to the life of the process that started it (Linux; elsewhere nothing happens).

A copy of what `services.kit.process` has, since nothing of the services is installed where vLLM runs.
vLLM's engine core goes on without its API server when that is killed with SIGKILL; the kernel's parent-death signal
ends it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with_parent(parent_pid: int) -> None:
    """Get SIGKILL when `parent_pid`, which must be this process's parent, dies; exit at once if it already has.

    The signal follows the thread that forked, so a parent must start its children from a thread that lives on.

    Raises:
        OSError: the kernel refused.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent_pid:
        os._exit(1)


def die_with_spawning_process() -> None:
    """`die_with_parent` for a child of `multiprocessing`; the main process is bound by its launcher instead."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        die_with_parent(parent.pid)
