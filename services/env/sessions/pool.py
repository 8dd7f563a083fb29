"""The pool of crews: light environments share the standing crew, every other environment has its own."""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from gigpo.env.environment import CostClass
from services.env.sessions.crew import Crew, RemoteSession
from services.env.sessions.errors import NoRoomError, NoWorkerError
from services.env.settings import Settings
from services.env.workers.listing import Plugins
from services.env.workers.registry import is_built_in
from services.env.workers.wire import EnvironmentEntry, EpisodeSpec, Failed, History, Opened
from services.env.workers.worker import WorkerConfig

log = logging.getLogger(__name__)

WATCH_EVERY_S = 0.2
RETRY_AFTER_S = 5.0
"""The hint where no more workers may be started, seconds."""


class WorkerPool:
    """All worker processes of a service.

    The standing crew lives as long as the service. Another environment's own crew starts with its first session and
    ends `worker_idle_s` after its last, so that one that is slow, big or broken harms no neighbour. It ends sooner when
    another needs the room: all own crews together have at most `max_own_workers`, but one crew may always live.

    Args:
        on_ready: told whether the standing crew can open sessions, whenever that changes.
    """

    def __init__(self, settings: Settings, config: WorkerConfig, on_ready: Callable[[bool], None]) -> None:
        self._settings = settings
        self._config = config
        ours = [name for name, reference in config.environments.items() if is_built_in(reference)]
        self._standing = Crew(settings, config, settings.workers, told=sorted(ours), on_ready=on_ready)
        self._plugins: Plugins | None = None
        self._own: dict[str, Crew] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._stopped = False

    async def start(self) -> None:
        """Start the standing crew and wait until all of it can open sessions, and until every plugin was asked what it
        is; TimeoutError where the crew does not get there."""
        self._standing.start()
        self._plugins = Plugins(self._settings, self._config)
        self._watching = asyncio.create_task(self._watch())
        await self._standing.complete()
        await self._plugins.entries()

    async def stop(self) -> None:
        """End every worker and wait until none is left."""
        self._stopped = True
        if self._watching is not None:
            self._watching.cancel()
        if self._plugins is not None:
            await self._plugins.stop()
        await asyncio.gather(*(crew.stop() for crew in (self._standing, *self._own.values())), *self._ending)

    async def describe(self) -> list[EnvironmentEntry]:
        """The listing, in order of id. NoWorkerError: no worker came up."""
        plugins = await self._plugins.entries() if self._plugins is not None else []
        return sorted([*await self._standing.describe(), *plugins], key=lambda entry: entry.id)

    async def open(self, spec: EpisodeSpec, history: History) -> tuple[RemoteSession, Opened] | Failed:
        """Open a session and replay its history; see wire.OpenEpisode.

        Raises:
            WorkerLostError: its worker ended.
            NoWorkerError: none came up.
            NoRoomError: it needs workers of its own, and no more may be started now.
        """
        entries = {entry.id: entry for entry in await self.describe()}
        entry = entries[spec.environment]
        size = own_workers(entry, self._settings)
        crew = self._own_crew(spec.environment, size) if size else self._standing
        return await crew.open(spec, history)

    def _own_crew(self, environment: str, size: int) -> Crew:
        if self._stopped:
            raise NoWorkerError("the service is shutting down")
        if environment not in self._own:
            self._make_room(environment, size)
            log.info("starting %d workers of %r", size, environment)
            only = {environment: self._config.environments[environment]}
            self._own[environment] = Crew(
                self._settings, msgspec.structs.replace(self._config, environments=only), size, told=(environment,)
            )
            self._own[environment].start()
        return self._own[environment]

    def _make_room(self, environment: str, size: int) -> None:
        """End crews without a session, the one that is idle longest first, until `size` more workers may live."""
        for other in sorted(self._own, key=lambda other: self._own[other].idle_for_s(), reverse=True):
            if self._fits(size):
                break
            if not self._own[other].busy:
                self._end(other)
        if self._own and not self._fits(size):
            living = ", ".join(f"{crew.size} of {other!r}" for other, crew in self._own.items())
            most = f"at most {self._settings.max_own_workers} may run, and these run: {living}"
            raise NoRoomError(f"{environment!r} needs {size} workers of its own; {most}", RETRY_AFTER_S)

    def _fits(self, size: int) -> bool:
        return sum(crew.size for crew in self._own.values()) + size <= self._settings.max_own_workers

    def _end(self, environment: str) -> None:
        log.info("ending the idle workers of %r", environment)
        task = asyncio.create_task(self._own.pop(environment).stop())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _watch(self) -> None:
        """Look after every crew, and end those without work."""
        while True:
            await asyncio.sleep(min(WATCH_EVERY_S, self._settings.step_timeout_s / 4))
            for crew in (self._standing, *self._own.values()):
                crew.look_after()
            for environment, crew in list(self._own.items()):
                if crew.idle_for_s() > self._settings.worker_idle_s:
                    self._end(environment)


def own_workers(entry: EnvironmentEntry, settings: Settings) -> int:
    """How many workers of its own an environment gets; 0: it shares the standing ones."""
    light = entry.thread_safe and entry.cost_class == CostClass.LIGHT and not entry.overlaps
    return settings.own_workers.get(entry.id, 0 if light else settings.workers)
