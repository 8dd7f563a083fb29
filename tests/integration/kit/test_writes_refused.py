"""A server that answers but takes no writes: its clients wait until it does, in one place for all of them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from services.kit.lifecycle import heartbeat
from services.kit.redis import WritesRefused, connect
from services.stack.valkey import embedded_redis


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """URL of a server of its own, with its data in `tmp_path`."""
    with embedded_redis(tmp_path) as url:
        yield url


@contextmanager
def unable_to_save(url: str, folder: Path) -> Iterator[None]:
    """MISCONF, as with a full disk: a folder stands where its snapshot should go."""
    (folder / "dump.rdb").mkdir()
    with SyncRedis.from_url(url) as operator:
        operator.config_set("save", "3600 1")
        operator.bgsave()
        while operator.info("persistence")["rdb_last_bgsave_status"] == "ok":
            pass
        yield
        (folder / "dump.rdb").rmdir()
        operator.config_set("stop-writes-on-bgsave-error", "no")


@contextmanager
def out_of_memory(url: str, _: Path) -> Iterator[None]:
    with SyncRedis.from_url(url) as operator:
        operator.config_set("maxmemory", "1")
        yield
        operator.config_set("maxmemory", "0")


async def write_in_every_way(redis: Redis) -> None:
    """A command, both kinds of pipelines, a script, a blocking read of a consumer group."""
    await redis.set("a", "1")
    for transaction in (True, False):
        async with redis.pipeline(transaction=transaction) as pipe:
            pipe.set("b", "1")
            pipe.sadd("c", "1")
            await pipe.execute()
    await redis.register_script("return redis.call('HSET', KEYS[1], 'x', '1')")(keys=["d"])
    await redis.xgroup_create("e", "g", id="0", mkstream=True)
    await redis.xadd("e", {"p": "1"})
    assert await redis.xreadgroup("g", "me", {"e": ">"}, count=1, block=10)


@pytest.mark.parametrize("refusing", [unable_to_save, out_of_memory])
async def test_a_service_waits_while_the_server_refuses_writes(server: str, tmp_path: Path, refusing) -> None:
    async with connect(server) as redis:
        with refusing(server, tmp_path):
            writing = asyncio.create_task(write_in_every_way(redis))
            with connect_for_callers(server) as impatient, pytest.raises(WritesRefused):
                await impatient.set("x", "1")
            assert not writing.done()
        await writing
        assert await redis.get("a") == b"1"


@contextmanager
def connect_for_callers(url: str) -> Iterator[Redis]:
    """A client that has somebody to tell."""
    yield connect(url, waits_for_writes=False)


async def test_a_heartbeat_ends_though_it_cannot_be_taken_back(server: str, tmp_path: Path) -> None:
    async with connect(server) as redis:
        async with heartbeat(redis, "alive", lambda: "1"):
            refusal = unable_to_save(server, tmp_path)
            refusal.__enter__()
        refusal.__exit__(None, None, None)


def test_celery_takes_a_refusal_for_an_outage(server: str, tmp_path: Path) -> None:
    """Its worker connects again then; any other error ends it."""
    with Celery("t", broker=server, set_as_current=False).connection_for_write() as connection:
        queue = connection.default_channel.client
        with unable_to_save(server, tmp_path), pytest.raises(connection.recoverable_connection_errors):
            queue.lpush("x", "1")
