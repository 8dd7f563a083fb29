"""The edge to Celery, loaded in the pool's child: takes a message, trains the job, and may send the next message."""

from __future__ import annotations

import os
import signal
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING

import structlog
from celery import Task, shared_task
from celery.exceptions import Reject
from celery.signals import worker_process_init, worker_process_shutdown
from kombu.exceptions import KombuError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.contracts.keys import HANDED_OVER, RUN_SEGMENT, TRAINER_QUEUE
from services.kit.lifecycle import instance_name
from services.kit.log import configure_logging
from services.kit.pulse import pulse_of_child, pulse_thread
from services.kit.tracing import start_tracing
from services.trainer.celery_worker.message_lease import kept_invisible
from services.trainer.job.continuation import Continuation
from services.trainer.metrics import metrics_file, publishing_thread
from services.trainer.settings import Settings

if TYPE_CHECKING:
    from services.trainer.job.warm_sessions import WarmSessions

log = structlog.get_logger("trainer")

_draining = False


@worker_process_init.connect  # type: ignore[untyped-decorator]
def prepare_child(**_: object) -> None:
    """Set up the child's log, and the signal by which its parent announces a drain, before its first task."""
    settings = Settings()
    configure_logging("trainer", settings.log_level)
    start_tracing("trainer", settings)
    signal.signal(signal.SIGUSR2, _drain)
    if settings.pulse_file is not None:
        pulse_thread(pulse_of_child(settings.pulse_file, os.getpid()))
        publishing_thread(metrics_file(settings.pulse_file))


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def close_child(**_: object) -> None:
    """After the child's last task, wait for the end of its ranks."""
    if warm_sessions.cache_info().currsize:
        warm_sessions().close()


def _drain(_number: int, _frame: FrameType | None) -> None:
    global _draining
    _draining = True


@cache
def warm_sessions() -> WarmSessions:
    """This process's sessions; loaded in the child, not in its parent, which imports this module too."""
    from services.trainer.job.warm_sessions import WarmSessions

    return WarmSessions(Settings(), log, lambda: _draining)


@shared_task(name=RUN_SEGMENT, bind=True)  # type: ignore[untyped-decorator]
def run_segment(task: Task, job_id: str, continues: int | None = None) -> None:
    """Train a job; enqueue it again where it is to be left.

    A message that comes again is sent anew: should its former holder still live, it acknowledges under the old tag,
    which would take the message from the hands of its new holder too.
    """
    try:
        following = _following(task, job_id, continues)
        if following is not None:
            task.app.send_task(
                RUN_SEGMENT, args=[job_id, following.batch], queue=TRAINER_QUEUE, priority=following.priority
            )
    except (RedisConnectionError, RedisTimeoutError, KombuError) as error:
        log.error("Redis is gone; the message is delivered again", job=job_id, error=repr(error))
        raise Reject(repr(error), requeue=True) from error


def _following(task: Task, job: str, continues: int | None) -> Continuation | None:
    if task.request.delivery_info.get("redelivered"):
        return Continuation(None, HANDED_OVER)
    settings = Settings()
    tag = task.request.properties["delivery_tag"]
    holder = instance_name("trainer", os.getppid())  # the heartbeat is the parent's
    with kept_invisible(settings.broker, tag, holder, settings.visibility_timeout_s / 4, log):
        return warm_sessions().run(job, continues)
