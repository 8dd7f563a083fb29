"""The Celery worker's parent process: it says that it is ready, beats, and passes a stop on to its child."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import suppress
from functools import partial
from typing import Any

from celery import Celery
from celery.signals import worker_ready, worker_shutting_down
from redis import Redis
from redis.exceptions import RedisError

from services.contracts import keys
from services.kit.lifecycle import HEARTBEAT_S, HEARTBEAT_TTL_S, announce, instance_name
from services.kit.tasks import ending_the_process
from services.trainer.settings import Settings


def run_worker(app: Celery, settings: Settings) -> int:
    """Run until SIGTERM; returns the exit status, 0 after a drain."""
    name, stop = instance_name("trainer"), threading.Event()
    worker = app.Worker(hostname=f"{name}@trainer", loglevel=settings.log_level, without_gossip=True,
                        without_mingle=True, without_heartbeat=True, quiet=True)  # fmt: skip
    beat = ending_the_process(partial(_beat, settings.redis_url, name, stop))
    beating = threading.Thread(target=beat, name="heartbeat", daemon=True)

    @worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
    def ready(**_: Any) -> None:
        beating.start()
        announce("trainer", None, settings.address_file)

    @worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def shutting_down(**_: Any) -> None:
        for child in worker.pool._pool._pool:  # Celery has no name for the children of its own pool
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGUSR2)

    worker.start()
    stop.set()
    if beating.is_alive():
        beating.join()
    return int(worker.exitcode or 0)


def _beat(redis_url: str, name: str, stop: threading.Event) -> None:
    key = keys.service_heartbeat("trainer", name)
    value = json.dumps({"service": "trainer", "instance": name, "pid": os.getpid(), "detail": {}})
    with Redis.from_url(redis_url, socket_timeout=5) as redis:
        while not stop.is_set():
            with suppress(RedisError):  # while it is away nobody can read the beat either
                redis.set(key, value, ex=HEARTBEAT_TTL_S)
            stop.wait(HEARTBEAT_S)
        with suppress(RedisError):
            redis.delete(key)
