"""OpenEnv's own echo environment, served: run with the Python of `.venv-openenv`, which holds the `openenv` package.

    .venv-openenv/bin/python services/env/tools/openenv_echo.py [--processes 1] [--sessions 1024]

Fills in the environment template that the package ships for new environments, as `openenv init` does, and serves it on
a loopback port that it prints as a line of JSON. Imports nothing of ours.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = {"__ENV_NAME__": "echo", "__ENV_CLASS_NAME__": "Echo", "__ENV_TITLE_NAME__": "Echo"}
FILES = ("models.py", "server/__init__.py", "server/app.py", "server/__ENV_NAME___environment.py")
ONE_SESSION = "max_concurrent_envs=1,"


def fill_template(folder: Path, sessions: int) -> None:
    """Write the template's files into `folder`, named and sized. SystemExit where the package has changed."""
    package = importlib.util.find_spec("openenv")
    if package is None or not package.submodule_search_locations:
        sys.exit("openenv is not installed in this Python")
    template = Path(package.submodule_search_locations[0]) / "cli" / "templates" / "openenv_env"
    (folder / "server").mkdir()
    for file in FILES:
        text = (template / file).read_text()
        if file.endswith("app.py"):
            if ONE_SESSION not in text:
                sys.exit(f"openenv's template has changed: no {ONE_SESSION!r} in {file}")
            text = text.replace(ONE_SESSION, f"max_concurrent_envs={sessions},")
        for name, value in NAMES.items():
            file, text = file.replace(name, value), text.replace(name, value)
        (folder / file).write_text(text)


def serve(folder: str, descriptor: int) -> None:
    """Serve the filled-in template on an inherited socket, until SIGTERM."""
    import uvicorn

    sys.path.insert(0, folder)
    with socket.socket(fileno=descriptor) as listening:
        uvicorn.Server(uvicorn.Config("server.app:app", log_level="warning")).run(sockets=[listening])


def main() -> None:
    """Start the processes, which share one socket, and end them at SIGTERM, or when whoever started this is gone."""
    starter = os.getppid()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--sessions", type=int, default=1024, help="most sessions of each process")
    parser.add_argument("--serve", nargs=2, metavar=("FOLDER", "FD"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], int(options.serve[1]))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory() as folder, socket.socket() as listening, contextlib.ExitStack() as stack:
        fill_template(Path(folder), options.sessions)
        listening.bind(("127.0.0.1", 0))
        listening.listen(4096)
        for _ in range(options.processes):
            command = [sys.executable, __file__, "--serve", folder, str(listening.fileno())]
            process = stack.enter_context(subprocess.Popen(command, pass_fds=[listening.fileno()]))
            stack.callback(process.terminate)
        sys.stdout.write(json.dumps({"address": f"127.0.0.1:{listening.getsockname()[1]}"}) + "\n")
        sys.stdout.flush()
        while os.getppid() == starter:  # whoever was killed without a word leaves no server behind
            time.sleep(1.0)


if __name__ == "__main__":
    main()
