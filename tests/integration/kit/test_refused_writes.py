"""A server that lives and takes no writes for a while: disk or memory is full, or it lost its replicas or master."""

from __future__ import annotations

import asyncio
import resource
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from services.kit.redis import connect
from services.stack.valkey import ValkeyPlan, plan_valkey

SCRIPT = "return redis.call('SET', KEYS[1], ARGV[1])"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[ValkeyPlan, int]]:
    """A server of this test alone that survives a file which may not grow, and its process id."""
    plan = plan_valkey(tmp_path)
    process = subprocess.Popen(plan.command, restore_signals=False)  # SIGXFSZ stays ignored, as in Python
    try:
        while not plan.answers():
            assert process.poll() is None
        yield plan, process.pid
    finally:
        process.kill()
        process.wait()


def limit_files(pid: int, most: int) -> None:
    """The kernel refuses every byte of its files beyond so many."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if most < 0 else most, hard))


@asynccontextmanager
async def refusing(url: str, pid: int, how: str) -> AsyncIterator[Callable[[], None]]:
    """A server that takes no writes until the function that is given is called."""
    with SyncRedis.from_url(url) as admin:
        port = url.rpartition(":")[2].split("/")[0]
        begin, end = {
            "disk": (lambda: limit_files(pid, 0), lambda: limit_files(pid, -1)),
            "memory": (lambda: admin.config_set("maxmemory", 1), lambda: admin.config_set("maxmemory", 0)),
            "replicas": (
                lambda: admin.config_set("min-replicas-to-write", 1),
                lambda: admin.config_set("min-replicas-to-write", 0),
            ),
            "master": (lambda: admin.replicaof("127.0.0.1", port), lambda: admin.replicaof("NO", "ONE")),
        }[how]
        begin()
        with suppress(RedisError):  # of its full disk it learns within a second
            while admin.set("probe", "x"):
                await asyncio.sleep(0.01)
        try:
            yield end
        finally:
            end()


WRITES: dict[str, Callable[[Redis], Awaitable[object]]] = {
    "command": lambda redis: redis.set("key", "value"),
    "script": lambda redis: redis.register_script(SCRIPT)(keys=["key"], args=["value"]),
    "transaction": lambda redis: redis.pipeline(transaction=True).set("key", "value").execute(),
    "pipeline": lambda redis: redis.pipeline(transaction=False).set("key", "value").execute(),
}


@pytest.mark.parametrize("how", ["disk", "memory", "replicas", "master"])
@pytest.mark.parametrize("write", list(WRITES))
async def test_a_write_waits_until_the_server_takes_it(server: tuple[ValkeyPlan, int], how: str, write: str) -> None:
    plan, pid = server
    async with connect(plan.url) as redis, refusing(plan.url, pid, how) as end:
        writing = asyncio.create_task(WRITES[write](redis))
        await asyncio.sleep(0.3)
        assert not writing.done()
        end()
        await writing
        assert await redis.get("key") == b"value"


async def test_a_refusal_is_to_celery_a_lost_connection(server: tuple[ValkeyPlan, int]) -> None:
    plan, pid = server
    with SyncRedis.from_url(plan.url) as redis:
        async with refusing(plan.url, pid, "replicas"):
            with pytest.raises(RedisConnectionError, match="Not enough good replicas"):
                redis.lpush("queue", "message")
