"""The Celery application: one child process, late acknowledgement, JSON only, redelivery within a minute."""

from __future__ import annotations

from celery import Celery

from services.contracts.keys import TRAINER_QUEUE
from services.kit.broker import broker_settings
from services.trainer.settings import Settings


def celery_app(settings: Settings) -> Celery:
    """The worker's application.

    A message stays in the broker until its segment has ended; of a worker that died it is delivered again after
    `visibility_timeout_s`, which the running task's lease keeps from passing (message_lease.py).
    """
    app = Celery("trainer", include=["services.trainer.celery_worker.tasks"])
    app.conf.update(
        task_default_queue=TRAINER_QUEUE,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        broker_transport="services.trainer.celery_worker.unreadable_messages:ReadableTransport",
        worker_pool="services.trainer.celery_worker.pool:PatientTaskPool",
        worker_concurrency=1,
        worker_pool_start_method="spawn",  # a fork after torch has run in the parent hangs
        worker_proc_alive_timeout=settings.child_start_s,  # 4 s by default; then the child is killed and begins anew
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        **broker_settings(
            settings.broker,
            visibility_timeout=settings.visibility_timeout_s,
            unacked_restore_interval=settings.restore_interval_s,
            unacked_restore_throttle=1,  # a sweep looks only at every tenth interval by default
        ),
    )
    return app
