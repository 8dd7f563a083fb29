"""Checks that a requested port is free, and names the process that uses it otherwise."""

from __future__ import annotations

import errno
import shlex
import socket

import psutil

HOST = "127.0.0.1"
_SHOWN = 80
"""Characters of a command that a sentence shows."""


class PortTaken(Exception):
    """Another process listens on the port; the message says who, where this user may know it."""


def require_free_port(port: int) -> None:
    """Raises PortTaken."""
    try:
        with socket.create_server((HOST, port)):
            return
    except PermissionError:
        raise PortTaken(f"STACK_API_PORT: want a port that this user may take, got {port}") from None
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
    raise PortTaken(f"STACK_API_PORT: want a free port, {port} is taken by {_holder(port)}")


def _holder(port: int) -> str:
    """The listener: another stack by its folder, a process by its command."""
    try:
        listening = psutil.net_connections("tcp")
        pid = next(
            one.pid
            for one in listening
            if one.status == psutil.CONN_LISTEN and getattr(one.laddr, "port", None) == port
        )
        process = psutil.Process(pid) if pid else None
    except (psutil.Error, StopIteration):
        process = None
    if process is None:
        return "a process of another user, or a connection that has not ended yet"
    try:
        folder = process.environ().get("STACK_DATA_DIR")
        command = shlex.join(process.cmdline())[:_SHOWN]
    except psutil.Error:
        return f"process {process.pid}"
    return f"the stack of {folder} (process {process.pid})" if folder else f"process {process.pid} ({command})"
