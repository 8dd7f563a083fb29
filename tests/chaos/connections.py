"""Cuts the TCP connections of another process, as a network does: both ends see the end, no process is asked."""

from __future__ import annotations

import ctypes
import os
import socket
from contextlib import suppress

import psutil

_PIDFD_GETFD = 438
"""Number of the system call on every architecture since Linux 5.6; it needs the right to trace the process."""
_LIBC = ctypes.CDLL(None, use_errno=True)


class NotAllowed(RuntimeError):
    """The system does not let us at another process's connections."""


def cut_connections(process: psutil.Process) -> int:
    """Shut every established TCP connection of the process down; returns how many. Raises NotAllowed."""
    pidfd, count = os.pidfd_open(process.pid), 0
    try:
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_ESTABLISHED:
                count += _shut_down(pidfd, connection.fd)
    finally:
        os.close(pidfd)
    return count


def _shut_down(pidfd: int, number: int) -> int:
    copied = _LIBC.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if copied < 0:
        error = ctypes.get_errno()
        if error == 9:  # EBADF: closed meanwhile
            return 0
        raise NotAllowed(f"pidfd_getfd: {os.strerror(error)}")
    with socket.socket(fileno=copied) as connection, suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    return 1
