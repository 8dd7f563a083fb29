"""A small program in place of a service: says that it is ready, notes that it was there, lives until SIGTERM.

Usage: stand_in.py NAME FOLDER [crash-once | crash-always | broken | deaf | silent | with-child | pulse | busy]
`crash-always` and `broken`, which does not even get ready, last until there is a file `mended` in the folder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    name, folder, mode = sys.argv[1], Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: _leave(name, folder))
    with (folder / "starts").open("a") as starts:
        starts.write(f"{name} {os.getpid()}\n")
    if mode == "with-child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (folder / "grandchild").write_text(str(child.pid))
    mended = (folder / "mended").exists()
    if mode == "broken" and not mended:
        sys.exit(7)
    if mode == "silent":
        time.sleep(600)
    sys.stdout.write(json.dumps({"service": name, "address": f"{name}:{os.environ.get('PORT', '1')}", "pid": 0}) + "\n")
    sys.stdout.flush()
    if (mode == "crash-always" and not mended) or (mode == "crash-once" and not (folder / "crashed").exists()):
        (folder / "crashed").touch()
        sys.stderr.write("something broke\n")
        sys.exit(7)
    if mode in ("pulse", "busy"):
        _beat(Path(os.environ["PULSE_FILE"]), busy_s=8.0 if mode == "busy" else 0.0)
    time.sleep(600)


def _beat(file: Path, busy_s: float) -> None:
    """Give signs of life; first compute for a while without any."""
    file.write_text(str(os.getpid()))
    until = time.monotonic() + busy_s
    while time.monotonic() < until:
        sum(range(1_000))
    file.with_suffix(".computed").touch()
    while True:
        os.utime(file)
        time.sleep(0.1)


def _leave(name: str, folder: Path) -> None:
    with (folder / "stops").open("a") as stops:
        stops.write(f"{name}\n")
    sys.exit(0)


if __name__ == "__main__":
    main()
