"""`python3 -m services.alive FILE [--end]`: exit status 0 while the service that touches FILE is alive.

The check of containers. It uses the standard library alone, because it runs every few seconds in each of them. With
`--end` it kills a service that hangs, so that its container ends and is started again: Docker restarts no container
that is merely unhealthy. Kubernetes does, after its own patience.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

LIMIT_S = 300.0
"""A service touches the file every 2 seconds; one that computes all the time on a busy machine may miss many."""


def main() -> int:
    """Exit status: 0 alive, 1 not started yet, or hung."""
    file, end = Path(sys.argv[1]), "--end" in sys.argv[2:]
    try:
        silent_s, pid = time.time() - file.stat().st_mtime, int(file.read_text())
    except (OSError, ValueError):
        sys.stderr.write(f"{file}: not there, the service has not started yet\n")
        return 1
    if silent_s < LIMIT_S:
        return 0
    sys.stderr.write(f"process {pid} has shown no sign of life for {silent_s:.0f} s\n")
    if end:
        os.kill(pid, signal.SIGKILL)
    return 1


if __name__ == "__main__":
    sys.exit(main())
