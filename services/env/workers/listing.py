"""Lists the environments that can be opened. One worker describes all environments of this project. Each plugin is
described in its own short-lived process, so that a plugin whose import fails or hangs does not affect the others.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import msgspec

from services.env.sessions.errors import WorkerLostError
from services.env.settings import Settings
from services.env.workers.description import unavailable
from services.env.workers.process import WorkerProcess
from services.env.workers.registry import is_built_in, known_environments, refused_registrations
from services.env.workers.wire import Describe, Described, EnvironmentEntry
from services.env.workers.worker import WorkerConfig

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Plugins that are imported side by side: an import may take much memory, and a second of CPU time."""


def worker_config(settings: Settings) -> WorkerConfig:
    """Options of every worker, with all environments."""
    return WorkerConfig(
        known_environments(settings.extra_environments),
        settings.options,
        settings.worker_memory_mb * 2**20,
        settings.step_cpu_s,
        str(settings.data_root.resolve()) if settings.data_root else None,
        settings.pass_env,
        _import_folder(settings.extra_environments.values()),
        str(settings.files_root.resolve()) if settings.files_root else None,
        settings.step_timeout_s,
    )


def _import_folder(references: Iterable[str]) -> str:
    """The present folder where a module of the settings lies in it, and nowhere else; otherwise empty: what happens to
    lie in it must not be taken for an installed package."""
    here = Path.cwd()
    for reference in references:
        name = reference.partition(":")[0].partition(".")[0].strip()
        files = (here / f"{name}.py", here / name / "__init__.py")
        if name.isidentifier() and any(file.is_file() for file in files) and not find_spec(name):
            return str(here)
    return ""


class Plugins:
    """The environments that do not come with this project, as far as their registration lets them be imported.

    Args:
        settings: of the service; they name the limit for one plugin.
        config: as `worker_config` gives it.
    """

    def __init__(self, settings: Settings, config: WorkerConfig) -> None:
        self._limit_s = settings.plugin_timeout_s
        self._config = config
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._refused = refused_registrations(settings.extra_environments)
        names = [name for name, reference in config.environments.items() if not is_built_in(reference)]
        self._asked = {name: asyncio.create_task(self._ask(name)) for name in names}

    async def entries(self) -> list[EnvironmentEntry]:
        """Every plugin, once each was asked; what cannot be opened carries its reason."""
        refused = [unavailable(name, reason) for name, reason in self._refused.items()]
        return [*refused, *[await asyncio.shield(asked) for asked in self._asked.values()]]

    async def stop(self) -> None:
        """Ask no more, and leave no process."""
        for asked in self._asked.values():
            asked.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    async def _ask(self, name: str) -> EnvironmentEntry:
        async with self._turns:
            (entry,) = await _told(self._config, [name], self._limit_s, "ENV_SERVICE_PLUGIN_TIMEOUT_S")
        if entry.unavailable_reason:
            log.warning("environment %r is unavailable: %s", name, entry.unavailable_reason)
        return entry


async def installed(settings: Settings) -> list[EnvironmentEntry]:
    """Everything that is registered here, in order of id, told without a service."""
    config = worker_config(settings)
    plugins = Plugins(settings, config)
    try:
        ours = sorted(name for name, reference in config.environments.items() if is_built_in(reference))
        told = await _told(config, ours, settings.worker_start_timeout_s, "ENV_SERVICE_WORKER_START_TIMEOUT_S")
        return sorted([*told, *await plugins.entries()], key=lambda entry: entry.id)
    finally:
        await plugins.stop()


async def _told(config: WorkerConfig, names: Sequence[str], limit_s: float, setting: str) -> list[EnvironmentEntry]:
    """The answer of a process of their own about these environments, in their order; `setting` names the limit."""
    try:
        return await _asked(config, names, limit_s)
    except TimeoutError:
        reason = f"its import and description are not done within {limit_s:g} s ({setting})"
    except OSError as error:
        reason = f"no process could be started to import it: {error}"
    except WorkerLostError as lost:
        reason = f"its import or description ended the process: {lost}"
    return [unavailable(name, reason) for name in names]


async def _asked(config: WorkerConfig, names: Sequence[str], limit_s: float) -> list[EnvironmentEntry]:
    only = {name: config.environments[name] for name in names}
    worker = await WorkerProcess.start(msgspec.structs.replace(config, environments=only))
    try:
        request = worker.next_request()
        answer = await asyncio.wait_for(worker.call(Describe(request, tuple(names)), request), limit_s)
    finally:
        await worker.stop(0.0)
    assert isinstance(answer, Described)
    return answer.environments
