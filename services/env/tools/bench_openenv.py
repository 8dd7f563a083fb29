"""The same load on OpenEnv: its own echo environment, one WebSocket per session as its protocol requires."""

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psutil
from websockets.asyncio.client import ClientConnection, connect

from services.env.tools import openenv_echo
from services.env.tools.bench_load import Taken, cpu_s

PYTHON = Path(".venv-openenv/bin/python")
CONNECT_TIMEOUT_S = 120.0
"""Its imports take long, and connections wait for them."""
CONNECTIONS_AT_A_TIME = 64
STEP = json.dumps({"type": "step", "data": {"message": "go to shelf 1"}})


class OpenEnvMissingError(Exception):
    """OpenEnv is not installed, so nothing can be compared; the message says why."""


@contextlib.contextmanager
def openenv_served(*, processes: int, sessions: int) -> Iterator[str]:
    """An OpenEnv server with room for so many sessions in each process; gives its host:port."""
    if not PYTHON.exists():
        raise OpenEnvMissingError(f"not installed: make install-openenv (no {PYTHON})")
    command = [str(PYTHON), openenv_echo.__file__, "--processes", str(processes), "--sessions", str(sessions)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise OpenEnvMissingError(f"it ended with status {process.wait()}")
            yield json.loads(line)["address"]
        finally:
            process.terminate()


class OpenEnvLoad:
    """`n` sessions, each on a socket of its own. Use as a context."""

    def __init__(self, address: str, n: int) -> None:
        self._url, self._n = f"ws://{address}/ws", n
        self._sockets: list[ClientConnection] = []

    async def __aenter__(self) -> Self:
        room = asyncio.Semaphore(CONNECTIONS_AT_A_TIME)

        async def open_one() -> ClientConnection:
            async with room:
                socket = await connect(self._url, open_timeout=CONNECT_TIMEOUT_S, compression=None, proxy=None)
                await _asked(socket, json.dumps({"type": "reset", "data": {}}))
                return socket

        self._sockets = await asyncio.gather(*(open_one() for _ in range(self._n)))
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(socket.close() for socket in self._sockets))

    async def run(self, seconds: float) -> Taken:
        """Step every session again and again for so long. RuntimeError where one is refused."""
        taken, this = Taken(), psutil.Process()
        spent, began = cpu_s(this), time.perf_counter()

        async def step_one(socket: ClientConnection) -> None:
            while (sent := time.perf_counter()) - began < seconds:
                await _asked(socket, STEP)
                taken.count += 1
                taken.latencies_s.append(time.perf_counter() - sent)

        await asyncio.gather(*(step_one(socket) for socket in self._sockets))
        taken.wall_s = time.perf_counter() - began
        taken.cpu_s = {"load": cpu_s(this) - spent}
        return taken


async def _asked(socket: ClientConnection, message: str) -> None:
    await socket.send(message)
    answer = json.loads(await socket.recv())
    if answer["type"] != "observation":
        raise RuntimeError(f"OpenEnv refused: {answer}")
