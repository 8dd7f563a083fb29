"""Robust reads from Redis: a value of another type, or one that is not text, counts as missing."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError

from services.kit.dead_letters import is_wrong_type, set_key_aside


async def string_value(redis: Redis, key: str) -> bytes | None:
    """The string at `key`; None: there is none, or a value of another type."""
    (value,) = await redis.mget([key])  # unlike GET, MGET does not fail on another type
    return cast("bytes | None", value)


def queue_string(pipe: Pipeline, key: str) -> None:
    """Read the string at `key` in a pipeline; its answer is a list of one value, see `string_value`.

    By the command's name, because redis-py's pipelines of a cluster refuse `mget`, also with one key.
    """
    pipe.execute_command("MGET", key)


async def hash_value(redis: Redis, key: str) -> dict[bytes, bytes]:
    """The hash at `key`; a value of another type is set aside and reads as an empty one."""
    try:
        return await cast(Awaitable[dict[bytes, bytes]], redis.hgetall(key))
    except ResponseError as error:
        if not is_wrong_type(error):
            raise
        await set_key_aside(redis, key, "hash")
        return {}


async def put_field(redis: Redis, key: str, name: str, value: str) -> None:
    """Set a field of the hash at `key`; a value of another type is set aside first."""
    try:
        await redis.hset(key, name, value)
    except ResponseError as error:
        if not is_wrong_type(error):
            raise
        await set_key_aside(redis, key, "hash")
        await redis.hset(key, name, value)


async def drop_field(redis: Redis, key: str, name: str) -> None:
    """Delete a field of the hash at `key`; a value of another type is set aside."""
    try:
        await redis.hdel(key, name)
    except ResponseError as error:
        if not is_wrong_type(error):
            raise
        await set_key_aside(redis, key, "hash")


async def text_members(redis: Redis, key: str) -> set[str]:
    """The members of the set at `key` that are text; a value of another type is set aside and reads as an empty set."""
    try:
        members = await cast(Awaitable[set[bytes]], redis.smembers(key))
    except ResponseError as error:
        if not is_wrong_type(error):
            raise
        await set_key_aside(redis, key, "set")
        return set()
    return set(texts(members))


async def add_member(redis: Redis, key: str, member: str) -> None:
    """Add to the set at `key`; a value of another type is set aside first."""
    await set_key_aside(redis, key, "set")
    await redis.sadd(key, member)


async def drop_member(redis: Redis, key: str, member: str) -> None:
    """Delete from the set at `key`; a value of another type is set aside."""
    await set_key_aside(redis, key, "set")
    await redis.srem(key, member)


def texts(values: Iterable[bytes]) -> list[str]:
    """Those of the values that are text, in order."""
    return [text for value in values if (text := text_of(value)) is not None]


def text_of(value: bytes) -> str | None:
    """The value as text; None: it is not UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
