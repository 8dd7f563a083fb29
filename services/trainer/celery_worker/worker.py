"""The Celery worker's parent process: announces that it is ready, sends heartbeats, and passes a stop on to its child.

It reports a child that does not start or keeps dying in its heartbeat and as a warning to the waiting jobs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import suppress
from typing import NamedTuple

import structlog
from celery import Celery
from celery.signals import worker_ready, worker_shutting_down
from celery.worker import state
from redis.exceptions import RedisError

from services.contracts.keys import TRAINER_QUEUE
from services.kit.dead_letters import set_key_aside
from services.kit.kombu_layout import body_arguments, types_of_keys
from services.kit.lifecycle import HEARTBEAT_S, announce, instance_name
from services.kit.pulse import Work
from services.kit.redis import connect
from services.kit.side_port import Check, NotReady, Sources, observed
from services.kit.tasks import ending_the_process
from services.ledger.presence import present
from services.ledger.warnings import Warnings
from services.trainer.celery_worker.hung_child import ChildWatch
from services.trainer.celery_worker.orphans import orphans_in
from services.trainer.celery_worker.pool import PatientPool, patient_pool
from services.trainer.metrics import published
from services.trainer.settings import Settings

log = structlog.get_logger("trainer")


def run_worker(app: Celery, settings: Settings) -> int:
    """Run until SIGTERM; returns the exit status, 0 after a drain."""
    name, ending = instance_name("trainer"), Ending(threading.Event(), threading.Event())
    worker = app.Worker(hostname=f"{name}@trainer", loglevel=settings.log_level, without_gossip=True,
                        without_mingle=True, without_heartbeat=True, quiet=True)  # fmt: skip
    started: list[tuple[PatientPool, threading.Thread]] = []  # the worker forgets its pool before it has ended

    @worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
    def ready(**_: object) -> None:
        pool = patient_pool(worker)
        beat = ending_the_process(lambda: asyncio.run(_beat(settings, name, ending, pool)))
        beating = threading.Thread(target=beat, name="heartbeat", daemon=True)
        started.append((pool, beating))
        beating.start()

    @worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def shutting_down(**_: object) -> None:
        ending.draining.set()
        for pid in [pid for pool, _ in started for pid in pool.child_pids()]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR2)

    asyncio.run(_set_misplaced_keys_aside(settings))
    worker.start()
    ending.stop.set()
    for _, beating in started:
        beating.join()
    return int(worker.exitcode or 0)


class Ending(NamedTuple):
    """How far the worker is on its way out."""

    draining: threading.Event
    """It was told to end."""
    stop: threading.Event
    """It has ended."""


async def _beat(settings: Settings, name: str, ending: Ending, pool: PatientPool) -> None:
    def detail() -> dict[str, object]:
        return {"trouble": trouble} if (trouble := pool.complaint()) else {}

    async def pool_works() -> None:
        if trouble := pool.complaint():
            raise NotReady(trouble)

    watch = ChildWatch(settings.pulse_file, round(settings.child_hung_s / HEARTBEAT_S))
    excused = 0

    def turns() -> int:
        return pool.turns + excused

    async with connect(settings.redis_url) as redis, orphans_in(settings.redis_url, settings.broker) as orphans:
        warnings, last = Warnings(redis, "trainer"), None
        checks: dict[str, Check] = {"redis": redis.ping, "pool": pool_works}
        sources = Sources(checks, ending.draining.is_set, passed_through=lambda: published(settings.pulse_file))
        work = Work(turns, settings.loop_hung_s)
        async with present(redis, "trainer", name, detail), observed(settings, sources, work) as metrics:
            announce("trainer", None, settings.address_file, metrics)
            while not ending.stop.is_set():
                trouble = pool.complaint()
                if trouble and trouble != last:
                    log.warning("the child does not start or keeps dying", trouble=trouble)
                last = trouble
                told = watch.look(pool.child_pids()) or trouble
                try:
                    if told:
                        await _warn(warnings, name, told)
                    await orphans.look()
                except RedisError:  # it is away; the worker's loop waits for it and does not turn
                    excused += 1
                except RuntimeError:  # the worker's set of jobs changed while it was read
                    pass
                excused += ending.draining.is_set()  # the loop waits for the child
                await asyncio.to_thread(ending.stop.wait, HEARTBEAT_S)


async def _set_misplaced_keys_aside(settings: Settings) -> None:
    """A value of another type under a key of the queue ends the worker that meets it, and would end its successor. The
    API queues again what is lost with it."""
    with suppress(RedisError):  # it is away: the worker waits for it
        async with connect(settings.broker, timeout_s=5, retries=0, waits_for_writes=False) as broker:
            for key, wanted in types_of_keys(TRAINER_QUEUE).items():
                await set_key_aside(broker, key, wanted)


async def _warn(warnings: Warnings, name: str, trouble: str) -> None:
    """Tell the owners of the jobs that this worker has taken from the queue, each sentence once."""
    for job in {str(body_arguments(request.body)[0]) for request in state.reserved_requests.copy()}:
        await warnings.once(job, f"{name}: {trouble}", trouble)
