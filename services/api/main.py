"""`python -m services.api.main`: read settings, serve, drain."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import uvicorn
import uvloop
from sqlalchemy.exc import SQLAlchemyError

from services.api.app import build_app
from services.api.http.app_parts import Container, running_container
from services.api.security.parts import NoAdministrator
from services.api.settings import Settings
from services.api.sql.schema import DatabaseIsNewer
from services.contracts.service_settings import read_settings
from services.kit.lifecycle import announce, stop_event
from services.kit.log import configure_logging
from services.kit.side_port import Check, Sources, observed


class _Server(uvicorn.Server):
    """Leaves the signals to us: uvicorn would end the process by the signal, not with 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. 1: a part of the process died, or it could not start."""
    log, stop, failures = configure_logging("api", settings.log_level), stop_event(), list[str]()

    def fail() -> None:
        failures.append("a loop died")
        stop.set()

    try:
        listener = _listener(settings)
    except OSError as error:
        log.error("cannot_listen", host=settings.host, port=settings.port, error=str(error))
        return 1
    async with AsyncExitStack() as parts:
        try:
            container = await parts.enter_async_context(running_container(settings, log, fail))
        except (DatabaseIsNewer, SQLAlchemyError, OSError) as error:
            log.error("cannot_use_database", error=str(error))
            return 1
        except NoAdministrator as error:
            log.error("no_administrator", error=str(error))
            return 1
        started = await _serve(container, listener, stop)
    return 1 if failures or not started else 0


async def _serve(container: Container, listener: socket.socket, stop: asyncio.Event) -> bool:
    """Serve until `stop`; return whether the server was ever ready. Whether it was ever ready."""
    settings, app = container.settings, build_app(container.settings, container.log)
    app.state.container = container
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.drain_s,
        server_header=False,
        lifespan="off",
        ws="none",  # there is no WebSocket here: a handshake is a GET like any other
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.02)  # uvicorn has no event for it
    if server.started:
        gc.freeze()  # what was imported stays; the collector need not look through it again and again
        checks: dict[str, Check] = {"redis": container.redis.ping, "database": container.database.ping}
        sources = Sources(checks, stop.is_set, container.exporter.families)
        async with observed(settings, sources) as metrics:
            announce("api", _url(server), settings.address_file, metrics)
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
            container.news.close()
            server.should_exit = True
            stopping.cancel()
            await serving
    await serving
    return server.started


def _listener(settings: Settings) -> socket.socket:
    """The socket that requests come to. OSError: the port is taken, and that port and no other is wanted."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError:
        if not settings.port_optional:
            raise
    return socket.create_server((settings.host, 0), family=family, backlog=1024)


def _url(server: uvicorn.Server) -> str:
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def main() -> int:
    """Exit status: 0 after a drain, 1 when it could not start or a part of it died, 2 when settings are refused."""
    settings = read_settings(Settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(settings))


if __name__ == "__main__":
    sys.exit(main())
