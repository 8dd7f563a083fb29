"""`python -m services.stack.main`: the whole platform on one machine until Ctrl-C or SIGTERM. `gigpo up` runs it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from pydantic import ValidationError

from services.contracts.plain_errors import settings_in_words
from services.stack.plan import stack_stages
from services.stack.ports import PortTaken, require_free_port
from services.stack.record import AlreadyHeld, FolderRefused, held_folder, write_record
from services.stack.settings import Settings
from services.stack.supervisor import RestartLimits, Supervisor
from services.stack.valkey import plan_valkey

OK, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
STARTED_UNIX_S = time.time()


def say(line: str) -> None:
    """One line for the user, with the time; none where the file that it goes to takes nothing."""
    with suppress(OSError):  # a full disk ends no stack
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        sys.stdout.flush()


async def run_until_stopped(
    supervisor: Supervisor, record: Callable[[Mapping[str, int]], Mapping[str, object]], settings: Settings
) -> int:
    """Start, say where, keep alive, stop. The first signal stops in order, the second one at once."""
    stop, hurry, came = asyncio.Event(), asyncio.Event(), list[signal.Signals]()

    def signalled(number: signal.Signals) -> None:
        came.append(number)
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled, number)
    if settings.handover:
        _stop_with_starter(stop)
    working = asyncio.create_task(start_and_watch(supervisor, record, settings))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    status = INTERRUPTED if came[:1] == [signal.SIGINT] else OK
    if working.done():
        say(f"giving up: {working.exception()}")
        status = FAILED
    stop.set()
    for task in (working, stopping):
        task.cancel()
    await asyncio.gather(working, stopping, return_exceptions=True)
    say("stopping; a second signal kills all services")
    await supervisor.stop(hurry)
    say("stopped")
    return status


def _stop_with_starter(stop: asyncio.Event) -> None:
    """Stop when stdin ends without a word."""
    loop = asyncio.get_running_loop()

    def heard() -> None:
        loop.remove_reader(sys.stdin.fileno())
        if not os.read(sys.stdin.fileno(), 1):
            stop.set()

    loop.add_reader(sys.stdin.fileno(), heard)


async def start_and_watch(
    supervisor: Supervisor, record: Callable[[Mapping[str, int]], Mapping[str, object]], settings: Settings
) -> None:
    """Start all and keep it alive, for ever; the record in the data folder names the processes that run."""
    await supervisor.start()

    def note() -> None:
        with suppress(OSError):  # a full disk: who looks for a process finds the one before
            write_record(settings.data_dir, record(supervisor.pids()))

    note()
    supervisor.restarted = note
    say(f"the stack is up: API {supervisor.addresses['api']}, data in {settings.data_dir}; Ctrl-C stops it")
    await supervisor.watch()


def _record_of(supervisor: Supervisor, settings: Settings, pids: Mapping[str, int]) -> dict[str, object]:
    addresses, metrics = supervisor.addresses, supervisor.metrics()
    return {
        "pid": os.getpid(),
        "api_url": addresses["api"],
        "data_dir": str(settings.data_dir.absolute()),
        "started_unix_s": STARTED_UNIX_S,
        "services": {
            name: {"pid": pid, "address": addresses.get(name), "metrics": metrics.get(name)}
            for name, pid in pids.items()
        },
    }


async def run(settings: Settings) -> int:
    """Plan the stack and run it. Exit status: 0 stopped by SIGTERM, 1 a service that the others need did not start,
    130 stopped by Ctrl-C. Raises FolderRefused."""
    try:
        valkey = None if settings.redis_url else plan_valkey(settings.data_dir / "valkey")
    except OSError as error:
        raise FolderRefused(settings.data_dir, error) from error
    redis_url = valkey.url if valkey else settings.redis_url
    limits = RestartLimits(restarts=settings.restarts, hung_looks=settings.hung_s)
    supervisor = Supervisor(stack_stages(settings, valkey, redis_url), settings.data_dir / "logs", say, limits)

    def record(pids: Mapping[str, int]) -> dict[str, object]:
        return _record_of(supervisor, settings, pids)

    return await run_until_stopped(supervisor, record, settings)


def main() -> int:
    """Exit status: as `run`, and 2: bad settings, or folder or port in use."""
    try:
        settings = Settings()
        with held_folder(settings.data_dir):
            if settings.port_asked_for:
                require_free_port(settings.api_port)
            return asyncio.run(run(settings))
    except ValidationError as error:
        sys.stderr.write(f"stack: {settings_in_words(error, 'STACK_')}\n")
    except (AlreadyHeld, PortTaken, FolderRefused) as refusal:
        sys.stderr.write(f"stack: {refusal}\n")
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
