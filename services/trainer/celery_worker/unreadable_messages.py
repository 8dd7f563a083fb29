"""Keeps what is no message of Celery's out of the worker, which it would end: it is set aside with its cause.

Celery hands whatever lies in its queue to a JSON reader and to itself. The method that is overridden here is internal
to kombu, so the version is pinned, and a test gives a real worker such entries.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import structlog
from kombu.transport.redis import Channel, QoS, Transport
from redis import Redis
from redis.exceptions import RedisError
from redis.typing import EncodableT, FieldT

from services.contracts.keys import TRAINER_QUEUE
from services.kit.dead_letters import CAUSE_CHARACTERS, MOST_BYTES, MOST_LETTERS, dead_letters

log = structlog.get_logger("trainer")


class _Properties(msgspec.Struct):
    delivery_tag: str
    delivery_info: dict[str, object]
    body_encoding: str | None = None


class _Message(msgspec.Struct, rename={"content_type": "content-type", "content_encoding": "content-encoding"}):
    """Fields that kombu takes for granted in a message."""

    body: str
    headers: dict[str, object]
    properties: _Properties
    content_type: str
    content_encoding: str


def unreadable(message: bytes) -> str | None:
    """Why an entry of the queue is none of Celery's messages; None: it is one."""
    try:
        found = msgspec.json.decode(message, type=_Message)
        if found.properties.body_encoding == "base64":
            base64.b64decode(found.body, validate=True)
    except (ValueError, RecursionError) as error:
        return f"want a message of Celery, got {len(message)} bytes that cannot be decoded: {error}"
    return None


class _Reader(Redis):
    """The connection on which a worker waits for messages."""

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        answer = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        if command_name == "BRPOP" and answer and (cause := unreadable(answer[1])) is not None:
            self.set_aside(answer[1], cause)
            return None  # as if nothing had come
        return answer

    def set_aside(self, message: bytes, cause: str) -> None:
        """Keep it as a dead letter."""
        log.error("an entry of the queue was set aside", cause=cause)
        letter: dict[FieldT, EncodableT] = {"cause": cause[:CAUSE_CHARACTERS], "p": message[:MOST_BYTES]}
        try:
            self.xadd(dead_letters(TRAINER_QUEUE), letter, maxlen=MOST_LETTERS)
        except RedisError as error:  # the entry has left the queue, which is what counts
            log.error("it could not be kept", error=repr(error))


class _Deliveries(QoS):
    """Messages that workers hold; an entry that cannot be delivered again is set aside, so that it ends no worker."""

    def restore_by_tag(self, tag: bytes, client: Any = None, leftmost: bool = False) -> None:
        try:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            with self.channel.conn_or_acquire(client) as redis:
                held = redis.hget(self.unacked_key, tag)
                if held is not None:
                    redis.set_aside(held, f"want what a worker holds, got {len(held)} bytes that are none: {error}")
                redis.pipeline().zrem(self.unacked_index_key, tag).hdel(self.unacked_key, tag).execute()


class ReadableChannel(Channel):
    """A channel whose messages are messages."""

    QoS = _Deliveries

    def _get_client(self) -> type[Redis]:
        return _Reader


class ReadableTransport(Transport):
    """Celery's connection to Redis, without entries that are no messages."""

    Channel = ReadableChannel
