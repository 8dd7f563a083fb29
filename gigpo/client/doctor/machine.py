"""Checks that the machine has a free port, disk and memory for a stack."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from gigpo.client.doctor.finding import Finding, bad, ok, warning

_GB = 1e9
DISK_WARN, DISK_BAD = 5 * _GB, 1 * _GB
"""The default job leaves 30 MB; a checkpoint of 1.5 billion parameters with its optimizer 18 GB."""
MEMORY_WARN, MEMORY_BAD = 4 * _GB, 2 * _GB
"""The default stack takes 2 to 3 GB: 1.1 GB for vLLM's engine, the rest for the trainer and the small services."""


def port(wanted: int, own_url: str | None, *, asked_for: bool = False) -> Finding:
    """The API's preferred port.

    Args:
        asked_for: the stack takes no other one.
        own_url: of this folder's stack, when it is up.
    """
    name = f"port {wanted}"
    if own_url is not None and own_url.endswith(f":{wanted}"):
        return ok(name, "this folder's stack listens on it")
    try:
        with socket.create_server(("127.0.0.1", wanted)):
            return ok(name, "free")
    except OSError as error:
        if asked_for:
            todo = "set another port by STACK_API_PORT, or end the process that uses it"
            return bad(name, f"not free: {error.strerror}", todo)
        todo = "nothing, the stack uses another port; STACK_API_PORT sets it"
        return warning(name, f"not free: {error.strerror}", todo)


def disk(folder: Path) -> Finding:
    """Room where results and the stack's data lie, and whether it can be written."""
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    what = f"{free / _GB:,.1f} GB free for {folder}"
    if not os.access(place, os.W_OK):
        return bad("disk", f"{place} cannot be written", "choose a folder of yours with --runs")
    if free < DISK_BAD:
        return bad("disk", what, "free some: old jobs lie in RUNS/.platform/jobs; or choose another disk with --runs")
    if free < DISK_WARN:
        return warning("disk", what, "enough for small jobs; large checkpoints need more, --runs chooses another disk")
    return ok("disk", what)


def memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """Memory that is available now."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return warning("memory", "this system does not say how much is available", "make sure that 4 GB are free")
    what = f"{available / _GB:,.1f} GB available, {os.cpu_count()} CPU cores"
    if available < MEMORY_BAD:
        return bad("memory", what, "end other programs: the default stack takes 2 to 3 GB")
    if available < MEMORY_WARN:
        return warning("memory", what, "train with --engine transformers, which takes 1 GB less")
    return ok("memory", what)
