"""Keeps the message of a running task from being redelivered, however long its segment takes.

With Redis as broker, a message that is not acknowledged within the visibility timeout is redelivered. kombu keeps the
time of each delivery in a sorted set; a new score restarts the timeout. A test runs a segment longer than the timeout.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError
from structlog.stdlib import BoundLogger

from services.kit.kombu_layout import UNACKED_INDEX
from services.kit.redis import connect_blocking
from services.kit.tasks import ending_the_process


@contextmanager
def kept_invisible(redis_url: str, delivery_tag: str, every_s: float, log: BoundLogger) -> Iterator[None]:
    """While the block runs, refresh the message's delivery time every `every_s` seconds, from a thread of its own.

    XX: an entry that is gone (acknowledged, or taken over by somebody) is not made again.
    """
    stop = threading.Event()

    def refresh() -> None:
        with connect_blocking(redis_url, timeout_s=5) as redis:
            while not stop.wait(every_s):
                try:
                    redis.zadd(UNACKED_INDEX, {delivery_tag: time.time()}, xx=True)
                except RedisError as error:  # it may come back; if not, the message is delivered again
                    log.warning("the lease of the message could not be renewed", error=repr(error))

    thread = threading.Thread(target=ending_the_process(refresh), name="kept-invisible", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
