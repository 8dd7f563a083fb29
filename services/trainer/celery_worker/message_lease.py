"""Keeps the message of a running task from being redelivered, however long its segment takes.

With Redis as broker, a message that is not acknowledged within the visibility timeout is redelivered. kombu keeps the
time of each delivery in a sorted set; a new score restarts the timeout. A test runs a segment longer than the timeout.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis.exceptions import RedisError
from structlog.stdlib import BoundLogger

from services.contracts.keys import MESSAGE_HOLDERS
from services.kit.kombu_layout import UNACKED_INDEX
from services.kit.redis import connect_blocking
from services.kit.tasks import ending_the_process


@contextmanager
def kept_invisible(redis_url: str, delivery_tag: str, holder: str, every_s: float, log: BoundLogger) -> Iterator[None]:
    """Refresh the message's delivery time every `every_s` seconds, from a thread of its own, while the block runs.

    XX: an entry that is gone (acknowledged, or taken over by somebody) is not made again.

    Args:
        holder: the trainer whose message it is; noted for `orphans`.
    """
    stop = threading.Event()

    def refresh() -> None:
        with connect_blocking(redis_url, timeout_s=5) as redis:
            while True:
                try:
                    if redis.zscore(UNACKED_INDEX, delivery_tag) is not None:
                        redis.zadd(UNACKED_INDEX, {delivery_tag: time.time()}, xx=True)
                        redis.hset(MESSAGE_HOLDERS, delivery_tag, holder)
                except RedisError as error:  # it may come back; if not, the message is delivered again
                    log.warning("the lease of the message could not be renewed", error=repr(error))
                if stop.wait(every_s):
                    break
            with suppress(RedisError):  # it goes with the first look at it
                redis.hdel(MESSAGE_HOLDERS, delivery_tag)

    thread = threading.Thread(target=ending_the_process(refresh), name="kept-invisible", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
