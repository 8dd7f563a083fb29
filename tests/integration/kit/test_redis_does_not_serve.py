"""A server that answers and serves nothing for now: a replica, one without its master, one that loads or is busy."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis as SyncRedis
from redis._parsers.base import BaseParser
from redis.exceptions import RedisError

from services.kit.process import free_port
from services.kit.redis import NotServing, connect
from tests.redis_servers import Server, answers, server, wait_until

Ends = Callable[[], object]


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Server]:
    with server(tmp_path / "one", 'save ""') as found:
        wait_until(lambda: answers(found.port))
        yield found


def operator(one: Server) -> SyncRedis:
    return SyncRedis(port=one.port, decode_responses=True)


def replica(one: Server, stack: ExitStack) -> tuple[str, Ends]:
    """READONLY: its master is another one now."""
    client = stack.enter_context(operator(one))
    client.replicaof("127.0.0.1", free_port())
    return "READONLY", lambda: client.replicaof("NO", "ONE")


def without_its_master(one: Server, stack: ExitStack) -> tuple[str, Ends]:
    """MASTERDOWN: a replica that is not to serve what may be old."""
    client = stack.enter_context(operator(one))
    client.config_set("replica-serve-stale-data", "no")
    client.replicaof("127.0.0.1", free_port())
    return "MASTERDOWN", lambda: client.replicaof("NO", "ONE")


def busy(one: Server, stack: ExitStack) -> tuple[str, Ends]:
    """BUSY: somebody's script does not end."""
    client = stack.enter_context(operator(one))
    client.config_set("busy-reply-threshold", "1")

    def loop() -> None:
        with SyncRedis(port=one.port) as theirs, suppress(RedisError):
            theirs.eval("while true do end", 0)

    running = threading.Thread(target=loop)
    running.start()
    stack.callback(running.join)
    stack.callback(lambda: answers(one.port) or client.script_kill())
    return "BUSY", client.script_kill


async def write_in_every_way(url: str) -> None:
    """A command, both kinds of pipelines, a script, a blocking read of a consumer group, each with hardly a retry."""
    async with connect(url, retries=1) as redis:
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


def refuses(port: int, answer: str) -> bool:
    """Whether a write or a read is answered with it."""
    met = set()
    with SyncRedis(port=port) as client:
        for ask in (lambda: client.set("tried", "1"), lambda: client.get("tried")):
            try:
                ask()
            except NotServing as error:
                met.add(type(error))
    return BaseParser.EXCEPTION_CLASSES[answer] in met


async def until_written(url: str, end: Ends) -> None:
    """Writes while nothing is served do not end before, and succeed then."""
    writing = asyncio.create_task(write_in_every_way(url))
    done, _ = await asyncio.wait([writing], timeout=1.5)  # more than all its retries take
    assert not done
    await asyncio.to_thread(end)
    await writing


@pytest.mark.parametrize("state", [replica, without_its_master, busy])
async def test_services_wait_until_a_server_serves_again(one: Server, state) -> None:
    with ExitStack() as stack:
        answer, end = state(one, stack)
        wait_until(lambda: refuses(one.port, answer))
        await until_written(f"redis://127.0.0.1:{one.port}", end)


async def test_services_wait_until_a_server_has_loaded_its_file(tmp_path: Path) -> None:
    with server(tmp_path / "one", "rdbcompression no") as one, operator(one) as client:
        wait_until(lambda: answers(one.port))
        with client.pipeline(transaction=False) as pipe:
            for key in range(2_000):
                pipe.set(f"key{key}", "x" * 4_096)
            pipe.execute()
        client.save()
        one.process.kill()
        one.process.wait()
    slow = ("key-load-delay 200000", "loading-process-events-interval-bytes 1024", "rdbcompression no")
    with server(tmp_path / "one", *slow) as one, operator(one) as client:
        wait_until(lambda: refuses(one.port, "LOADING"))
        await until_written(f"redis://127.0.0.1:{one.port}", lambda: client.config_set("key-load-delay", "0"))


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
async def test_services_wait_until_a_cluster_is_whole(tmp_path: Path, scheme: str) -> None:
    lines = ("cluster-enabled yes", f"cluster-port {free_port()}", 'save ""')
    with server(tmp_path / "one", *lines) as one, operator(one) as client:
        wait_until(lambda: answers(one.port))
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: client.set("up", "1"))
        async with connect(f"{scheme}://127.0.0.1:{one.port}", retries=1) as redis:
            await redis.set("{x}a", "1")
            client.execute_command("CLUSTER", "DELSLOTS", 0)
            wait_until(lambda: refuses(one.port, "CLUSTERDOWN"))
            writing = asyncio.create_task(redis.set("{x}b", "1"))
            done, _ = await asyncio.wait([writing], timeout=1.5)
            assert not done
            client.execute_command("CLUSTER", "ADDSLOTS", 0)
            assert await writing


def test_celery_takes_each_for_an_outage(one: Server) -> None:
    """Its worker connects again then; any other error ends it."""
    with Celery("t", broker=f"redis://127.0.0.1:{one.port}", set_as_current=False).connection_for_write() as connection:
        queue = connection.default_channel.client
        for state in (replica, without_its_master):
            with ExitStack() as stack:
                answer, end = state(one, stack)
                wait_until(lambda answer=answer: refuses(one.port, answer))
                with pytest.raises(connection.recoverable_connection_errors):
                    queue.lpush("x", "1")
                end()


async def test_whoever_has_somebody_to_tell_hears_of_a_replica_after_its_retries(one: Server) -> None:
    with ExitStack() as stack:
        _, end = replica(one, stack)
        async with connect(f"redis://127.0.0.1:{one.port}", retries=1, waits_for_writes=False) as redis:
            with pytest.raises(NotServing):
                await redis.set("x", "1")
        end()
