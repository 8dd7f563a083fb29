"""One small HTTP port per process, for probes and Prometheus: `/livez`, `/readyz` and `/metrics`.

It answers from a thread of its own. So it can still say that the event loop hangs, and a probe costs the service one
short thread and no process.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol, TypeVar

from prometheus_client.core import Metric

from services.kit.metrics import CONTENT_TYPE, Families, exposition
from services.kit.pulse import Turns, Work, pulse

Check = Callable[[], Awaitable[object]]
"""Raises when a dependency does not answer."""
T = TypeVar("T")

SILENT_S = 300.0
"""A loop that turned in this time is alive. It turns every few milliseconds, but a starved machine may stop it."""
CHECK_S = 3.0
"""Longest time that all checks of a dependency may take together."""
GRACE_S = 1.0
"""How much later than its own limit the loop may answer, before it counts as hung."""
REMEMBERED_S = 1.0
"""Several probes within this time share one look at the dependencies."""
CALLER_S = 5.0
"""A caller that sends nothing for so long is cut off."""


class SideSettings(Protocol):
    """The settings that every service has."""

    @property
    def pulse_file(self) -> Path | None: ...
    @property
    def metrics_host(self) -> str: ...
    @property
    def metrics_port(self) -> int: ...


class NotReady(Exception):
    """Why a process takes no work now."""


@dataclass
class Sources:
    """The parts of a process that its port reports on. A part that starts later adds itself.

    Args:
        checks: dependency -> its check; the process is ready when all of them pass.
        draining: whether the process finishes its work and takes no more.
        families: makes the metrics that are read from the process's state; called in the event loop.
        passed_through: text of another exporter, such as the engine's; called in the event loop.
    """

    checks: dict[str, Check]
    draining: Callable[[], bool]
    families: Families = tuple
    passed_through: Callable[[], Awaitable[str]] | None = None


class SidePort:
    """The answers, computed in the event loop in which this object was made.

    Args:
        turns: tells since when the loop has not turned.
    """

    def __init__(self, sources: Sources, turns: Turns, clock: Callable[[], float] = time.monotonic) -> None:
        self._sources, self._turns, self._clock = sources, turns, clock
        self._loop = asyncio.get_running_loop()
        self._looked_at, self._found = float("-inf"), dict[str, str]()
        self._looking = asyncio.Lock()

    def live(self) -> tuple[int, str]:
        """Status and sentence of `/livez`."""
        silent_s = self._turns.silent_s()
        if silent_s < SILENT_S:
            return 200, "ok"
        return 503, f"the event loop has not turned for {silent_s:.0f} s"

    def ready(self) -> tuple[int, str]:
        """Status and sentences of `/readyz`: one line per dependency."""
        if self._sources.draining():
            return 503, "draining"
        try:
            found = self._in_loop(self._looks())
        except TimeoutError:
            return 503, "the event loop does not answer"
        lines = [f"{name}: {said}" for name, said in found.items()]
        return (200 if set(found.values()) <= {"ok"} else 503), "\n".join(lines) or "ok"

    def metrics(self) -> str:
        """The text of `/metrics`. While the loop hangs, it holds the counters and histograms only."""
        families: tuple[Metric, ...] = ()
        more = ""
        with suppress(TimeoutError):
            families, more = self._in_loop(self._state())
        return exposition(families) + more

    async def _looks(self) -> dict[str, str]:
        async with self._looking:
            if self._clock() - self._looked_at > REMEMBERED_S:
                checks = self._sources.checks
                said = await asyncio.gather(*(_said(check) for check in checks.values()))
                self._looked_at, self._found = self._clock(), dict(zip(checks, said, strict=True))
        return self._found

    async def _state(self) -> tuple[tuple[Metric, ...], str]:
        passed = self._sources.passed_through
        return tuple(self._sources.families()), ("" if passed is None else await passed())

    def _in_loop(self, work: Awaitable[T]) -> T:
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, CHECK_S), self._loop)
        try:
            return future.result(CHECK_S + GRACE_S)
        finally:
            future.cancel()


async def _said(check: Check) -> str:
    try:
        await asyncio.wait_for(check(), CHECK_S * 0.8)
    except TimeoutError:
        return "no answer"
    except Exception as error:  # noqa: BLE001 - every failure is this dependency's state
        return str(error)[:200] or repr(error)
    return "ok"


@asynccontextmanager
async def observed(settings: SideSettings, sources: Sources, work: Work | None = None) -> AsyncIterator[str]:
    """Answer on the side port and give signs of life (`kit.pulse`) while the block runs; yields the port's URL.

    Raises:
        OSError: the port cannot be bound; the message names it.
    """
    async with pulse(settings.pulse_file, work) as turns:
        server = _server(settings.metrics_host, settings.metrics_port, SidePort(sources, turns))
        answering = partial(server.serve_forever, poll_interval=0.5)
        threading.Thread(target=answering, name="side-port", daemon=True).start()
        try:
            yield _url(server)
        finally:
            await asyncio.to_thread(server.shutdown)
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32


def _server(host: str, port: int, answers: SidePort) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = CALLER_S
        server_version, sys_version = "gigpo", ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, answers.metrics(), CONTENT_TYPE)
            elif path in ("/livez", "/readyz"):
                status, said = answers.live() if path == "/livez" else answers.ready()
                self._answer(status, f"{said}\n", "text/plain; charset=utf-8")
            else:
                self._answer(404, "want /livez, /readyz or /metrics\n", "text/plain; charset=utf-8")

        def _answer(self, status: int, text: str, content_type: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes are not logged."""

    class Server(_Server):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    try:
        return Server((host, port), Handler)
    except OSError as error:
        raise OSError(error.errno, f"METRICS_PORT: {host}:{port} cannot be bound: {error.strerror}") from error


def _url(server: ThreadingHTTPServer) -> str:
    host, port = str(server.server_address[0]), server.server_address[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
