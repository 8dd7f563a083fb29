"""Processes that end with the one that started them, and groups that are killed as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from services.kit.process import kill_group

SLEEPS = "import time; time.sleep(600)"
CHILD = f"""
import signal
from services.kit.process import die_with_parent
die_with_parent(signal.SIGKILL)
print("bound", flush=True)
{SLEEPS}
"""
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
{SLEEPS}
"""


def started(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)


def said(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def ended(pidfd: int) -> bool:
    """Waits until the process of this descriptor is gone."""
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    try:
        return bool(poll.poll(60_000))
    finally:
        os.close(pidfd)


def test_a_bound_child_does_not_outlive_its_parent() -> None:
    with started(PARENT) as parent:
        child = os.pidfd_open(int(said(parent)))
        parent.send_signal(signal.SIGKILL)
        assert ended(child)


def test_a_group_is_killed_with_what_its_leader_left_behind() -> None:
    leader = started(
        f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEPS!r}]).pid, flush=True)"
    )
    with leader:
        left = os.pidfd_open(int(said(leader)))
        leader.wait()
        kill_group(leader.pid)
        assert ended(left)
    kill_group(leader.pid)  # nobody is left: nothing happens
