"""The platform under test: the embedded stack as `gigpo up` runs it, on free ports, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
from redis import Redis

from services.kit.process import die_with_parent

ROOT = Path(__file__).parents[2]
START_S, STOP_S = 600.0, 120.0
LEASE_TTL_S = 30
"""Shorter than the product's two minutes, so that a run sees that sessions end which nobody closed."""
DISK_MB = 768
DISK_FILLER = "filler"
SECONDS = "tests.chaos.seconds"


def embedded_redis_url(data: Path) -> str:
    """URL of the server that a stack with this data folder started, password included; another one after each start."""
    lines = (data / "valkey/valkey.conf").read_text().splitlines()
    settings = dict(line.split(" ", 1) for line in lines)
    return f"redis://:{settings['requirepass']}@127.0.0.1:{settings['port']}/0"


class StackFailed(RuntimeError):
    """The platform did not come up; the message holds the end of its log."""


class Stack:
    """One embedded stack, and with `two` a second process of every service beside it.

    Args:
        folder: of this run alone; the data lies in `data` below it.
        small_disk: give the data a small disk of its own (a tmpfs), where the system lets us.
    """

    def __init__(self, folder: Path, engine: str, *, two: bool = False, small_disk: bool = False) -> None:
        self.folder, self.data, self.two = folder.resolve(), (folder / "data").resolve(), two
        self.data.mkdir(parents=True, exist_ok=True)
        self.small_disk = small_disk and _mounted(self.data)
        paths = os.pathsep.join([str(ROOT), str(ROOT / "proto")])
        self._environ = {
            **os.environ,
            "PYTHONPATH": paths,
            "STACK_DATA_DIR": str(self.data),
            "STACK_API_PORT": "0",
            "ENV_SERVICE_LEASE_TTL_S": str(LEASE_TTL_S),
        }
        if engine == "vllm":
            self._environ["STACK_VLLM_PYTHON"] = str(ROOT / ".venv-vllm/bin/python")
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start it and wait until every service is ready. Raises StackFailed."""
        first = self.data / "stack.json"
        first.unlink(missing_ok=True)
        self._await("services.stack.main", self._run("services.stack.main"), first)
        if self.two:
            self.join_seconds()
            self.await_seconds()

    def join_seconds(self) -> None:
        """Start a second process of every service, and do not wait for them; from now on `start` brings them too."""
        self.two = True
        self._second.unlink(missing_ok=True)
        self._environ["CHAOS_REDIS_URL"] = self.redis_url
        self._run(SECONDS)

    def await_seconds(self) -> None:
        """Return when the second processes are ready. Raises StackFailed."""
        self._await(SECONDS, self._running[-1], self._second)

    def stop(self) -> list[str]:
        """Stop it as a user would; returns a sentence for each process that is left."""
        for process in reversed(self._running):
            process.terminate()
        for process in reversed(self._running):
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
        self._running = []
        return [f"process {process.pid} is left: {_words(process)[:80]}" for process in self._left()]

    def power_cut(self) -> None:
        """Kill every process at once, supervisors and guardians too."""
        for process in self._left():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for started in self._running:
            started.wait()
        self._running = []
        psutil.wait_procs(self._left(), timeout=10)

    def release(self) -> None:
        """End whatever is left, and give the small disk back; what was on it stays in the folder."""
        self.power_cut()
        if self.small_disk:
            kept = self.folder / "kept"
            shutil.copytree(self.data, kept, ignore=shutil.ignore_patterns(DISK_FILLER, "*.safetensors"))
            subprocess.run(["umount", "--lazy", str(self.data)], check=False)
            self.data.rmdir()
            kept.rename(self.data)

    def processes(self, service: str) -> list[psutil.Process]:
        """The live processes of a service, that of the first stack first; see `faults.SERVICES`."""
        found = []
        for supervisor in self._running:
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(supervisor.pid).children():
                    found += [one for one in _family(child) if _service_of(one, child) == service]
        return found

    @property
    def api_url(self) -> str:
        """Where the first stack's API answers."""
        return str(json.loads((self.data / "stack.json").read_text())["api_url"])

    @property
    def redis_url(self) -> str:
        """URL of the embedded server, password included; another one after each start."""
        return embedded_redis_url(self.data)

    def redis(self) -> Redis:
        """A client that gives up soon."""
        return Redis.from_url(self.redis_url, socket_connect_timeout=0.5, socket_timeout=0.5)

    def append_only_file(self) -> Path:
        """The part of Redis' file that grows."""
        return max((self.data / "valkey/appendonlydir").glob("*.incr.aof"))

    @property
    def _second(self) -> Path:
        return self.data / "seconds.json"

    def _run(self, module: str) -> subprocess.Popen[bytes]:
        with self._log(module).open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )
        self._running.append(process)
        return process

    def _await(self, module: str, process: subprocess.Popen[bytes], ready: Path) -> None:
        deadline = time.monotonic() + START_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                log = self._log(module)
                raise StackFailed(f"{module} did not come up; the end of {log}:\n{log.read_text()[-1_500:]}")
            time.sleep(0.1)

    def _log(self, module: str) -> Path:
        return self.folder / f"{module}.log"

    def _left(self) -> list[psutil.Process]:
        """Every process of this platform, and nobody else's, such as a `tail` that looks at its logs."""
        return [one for one in psutil.process_iter() if one.pid != os.getpid() and self._is_ours(one)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            inherited = process.environ().get("STACK_DATA_DIR") == str(self.data)
            inside = Path(process.cwd()).is_relative_to(self.folder)
            return inherited or (inside and ("services." in _words(process) or "valkey" in process.name()))
        except psutil.Error:
            return False


def _family(service: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [service, *service.children(recursive=True)]
    return []


def _service_of(process: psutil.Process, service: psutil.Process) -> str | None:
    """The process's name in `faults.SERVICES`; None: it has no name there."""
    words = _words(process)
    if process.pid != service.pid:
        parent = _words(service)
        if "services.trainer.main" in parent and "spawn_main" in words and "resource_tracker" not in words:
            return "trainer-child"
        return "env-worker" if "services.env.main" in parent and "services.env.workers" in words else None
    if "valkey" in process.name():
        return "valkey"
    named = [word.split(".")[1] for word in words.split() if word.startswith("services.") and word.endswith(".main")]
    return named[0] if named else None


def _words(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _mounted(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
