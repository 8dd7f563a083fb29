"""The Celery worker's parent process: announces that it is ready, sends heartbeats, and passes a stop on to its child.

It reports a child that does not start or keeps dying in its heartbeat and as a warning to the waiting jobs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

import structlog
from celery import Celery
from celery.signals import worker_ready, worker_shutting_down
from celery.worker import state
from redis.exceptions import RedisError

from services.kit.kombu_layout import body_arguments
from services.kit.lifecycle import HEARTBEAT_S, announce, instance_name
from services.kit.redis import connect
from services.kit.side_port import Check, NotReady, Sources, observed
from services.kit.tasks import ending_the_process
from services.ledger.presence import present
from services.ledger.warnings import Warnings
from services.trainer.celery_worker.hung_child import ChildWatch
from services.trainer.celery_worker.pool import patient_pool
from services.trainer.metrics import published
from services.trainer.settings import Settings

log = structlog.get_logger("trainer")


def run_worker(app: Celery, settings: Settings) -> int:
    """Run until SIGTERM; returns the exit status, 0 after a drain."""
    name, stop, draining = instance_name("trainer"), threading.Event(), threading.Event()
    worker = app.Worker(hostname=f"{name}@trainer", loglevel=settings.log_level, without_gossip=True,
                        without_mingle=True, without_heartbeat=True, quiet=True)  # fmt: skip

    def complaint() -> str | None:  # the pool is there when the worker is ready
        return patient_pool(worker).complaint()

    watch = ChildWatch(settings.pulse_file, round(settings.child_hung_s / HEARTBEAT_S))

    def hung() -> str | None:
        return watch.look(patient_pool(worker).child_pids())

    beat = ending_the_process(lambda: asyncio.run(_beat(settings, name, (stop, draining), complaint, hung)))
    beating = threading.Thread(target=beat, name="heartbeat", daemon=True)

    @worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
    def ready(**_: object) -> None:
        beating.start()

    @worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def shutting_down(**_: object) -> None:
        draining.set()
        for pid in patient_pool(worker).child_pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR2)

    worker.start()
    stop.set()
    if beating.is_alive():
        beating.join()
    return int(worker.exitcode or 0)


async def _beat(
    settings: Settings,
    name: str,
    ending: tuple[threading.Event, threading.Event],
    complaint: Callable[[], str | None],
    hung: Callable[[], str | None],
) -> None:
    def detail() -> dict[str, object]:
        return {"trouble": trouble} if (trouble := complaint()) else {}

    async def pool_works() -> None:
        if trouble := complaint():
            raise NotReady(trouble)

    stop, draining = ending
    async with connect(settings.redis_url) as redis:
        warnings, last = Warnings(redis, "trainer"), None
        checks: dict[str, Check] = {"redis": redis.ping, "pool": pool_works}
        sources = Sources(checks, draining.is_set, passed_through=lambda: published(settings.pulse_file))
        async with present(redis, "trainer", name, detail), observed(settings, sources) as metrics:
            announce("trainer", None, settings.address_file, metrics)
            while not stop.is_set():
                trouble = complaint()
                if trouble and trouble != last:
                    log.warning("the child does not start or keeps dying", trouble=trouble)
                last = trouble
                told = hung() or trouble
                with suppress(RedisError, RuntimeError):  # Redis is away, or the worker's set of jobs changed
                    if told:
                        await _warn(warnings, name, told)
                await asyncio.to_thread(stop.wait, HEARTBEAT_S)


async def _warn(warnings: Warnings, name: str, trouble: str) -> None:
    """Tell the owners of the jobs that this worker has taken from the queue, each sentence once."""
    for job in {str(body_arguments(request.body)[0]) for request in state.reserved_requests.copy()}:
        await warnings.once(job, f"{name}: {trouble}", trouble)
