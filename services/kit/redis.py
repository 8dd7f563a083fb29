"""Redis connections that survive a restart of the server, a failover, and a server that refuses writes for a while.

Every service makes its own here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

import structlog
from redis import Redis as SyncRedis
from redis import RedisCluster as SyncCluster
from redis import Sentinel as SyncSentinel
from redis._parsers.base import BaseParser  # private: the version is pinned, and a test fills a real server
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import ExponentialWithJitterBackoff
from redis.cluster import ClusterNode as SyncClusterNode
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    ReadOnlyError,
    RedisClusterException,
    SlotNotCoveredError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import SentinelConnectionPool as SyncSentinelPool

from services.kit.redis_address import RedisAddress, parse_address

log = structlog.get_logger("kit")

RETRIES = 12
"""Repeats that take about 30 seconds with the backoff below: the time in which a restarted Redis or a new master must
be there."""
CLUSTER_PAUSE_S, CLUSTER_PATIENCE_S = 1.0, 30.0
CONNECT_S, ANSWER_S = 5, 30
"""An answer takes longer than the longest BLOCK in use (streams.BLOCK_MS)."""

T = TypeVar("T")


class NotServing(RedisConnectionError):
    """The server answers, but serves nothing for now: it has lost its master, or a script keeps it busy.

    A connection error for every client in this process, Celery's too, because it passes as an outage does.
    """


class Loading(BusyLoadingError, NotServing):
    """It reads its file after a restart, which may take minutes."""


class ClusterDown(ClusterDownError, NotServing):
    """The cluster has too few masters."""


class WritesRefused(NotServing):
    """It takes no writes for now: its disk is full or read-only, or its memory is used up."""


class ReadOnly(ReadOnlyError, WritesRefused):
    """It is a replica: a former master, whose successor has its address soon."""


BaseParser.EXCEPTION_CLASSES.update(
    {
        **dict.fromkeys(("MISCONF", "OOM", "NOREPLICAS"), WritesRefused),
        **dict.fromkeys(("MASTERDOWN", "BUSY"), NotServing),
        "LOADING": Loading,
        "CLUSTERDOWN": ClusterDown,
        "READONLY": ReadOnly,
    }
)


class _Patience(Retry):
    """Repeats a command while the connection is broken, and as long as the server does not serve it.

    Args:
        waits: False: refused writes are raised at once, the rest after as many tries as for a broken connection.
    """

    def __init__(self, retries: int, *, waits: bool) -> None:
        super().__init__(ExponentialWithJitterBackoff(base=0.05, cap=4), retries)
        self._waits = waits

    async def call_with_retry(
        self,
        do: Callable[[], Awaitable[T]],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        def is_worth_it(error: Exception) -> bool:
            worth_it = self._waits or type(error) is not WritesRefused
            return worth_it and (is_retryable is None or is_retryable(error))

        while True:
            try:
                return await super().call_with_retry(do, fail, is_worth_it, with_failure_count)
            except NotServing as error:
                if not self._waits or not is_worth_it(error):
                    raise
                log.error("Redis does not serve for now; this waits until it does", error=str(error))


class _PatientCluster(RedisCluster):
    """Lets so many commands run at a time, the others wait; redis-py's pools of a cluster raise beyond their limit.

    A cluster of which no node can be reached is looked for as long as one server is, and is then a connection error
    too; redis-py raises at once what is none.
    """

    def __init__(self, most: int, options: Mapping[str, Any], *, waits: bool, patience_s: float) -> None:
        super().__init__(**options, max_connections=2 * most, require_full_coverage=False)  # pipelines come beside them
        self._turns, self._waits, self._patience_s = asyncio.Semaphore(most), waits, patience_s

    async def initialize(self, *args: Any, **options: Any) -> RedisCluster:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return await super().initialize(*args, **options)
            except RedisClusterException as error:
                if time.monotonic() >= deadline:
                    raise RedisConnectionError(str(error)) from error
                await asyncio.sleep(CLUSTER_PAUSE_S)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        while True:
            try:
                async with self._turns:
                    return await super().execute_command(*args, **options)
            except (NotServing, SlotNotCoveredError) as error:
                if not self._waits:
                    raise
                log.error("Redis does not serve for now; this waits until it does", error=str(error))
                await asyncio.sleep(CLUSTER_PAUSE_S)


class _MasterConnection(SentinelManagedConnection):
    """Asks the Sentinels anew whenever it connects; redis-py repeats a command at the address that it had before."""

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        if not self.is_connected:
            self.host, self.port = await self.connection_pool.get_master_address()
        await super().connect_check_health(check_health, retry_socket_connect=False)


class _SecuredMasterConnection(_MasterConnection, SSLConnection):
    """The same with TLS."""


class _WatchedPool(SentinelConnectionPool):
    """Closes the connections to the Sentinels too."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        for one in self.sentinel_manager.sentinels:
            await one.aclose()


class _WatchedSyncPool(SyncSentinelPool):
    """The same for threads."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        super().disconnect(inuse_connections)
        for one in self.sentinel_manager.sentinels:
            one.close()


def connect(
    url: str,
    *,
    max_connections: int = 64,
    timeout_s: float = ANSWER_S,
    retries: int = RETRIES,
    waits_for_writes: bool = True,
) -> Redis:
    """A client that returns bytes, and repeats a command when the connection breaks, for about 30 seconds.

    While the server answers and serves nothing (it refuses writes, loads its file, is a replica), it waits without a
    limit: ending would not help, and what is under way stays.

    Args:
        max_connections: a caller beyond them waits for one that is given back.
        timeout_s: longest wait for an answer.
        retries: 0: a broken connection is the caller's business.
        waits_for_writes: False for those who have somebody to tell: they get WritesRefused at once.

    Every command sent through it must be safe to repeat: reads, and scripts that recognise their own repeat.

    Raises:
        ValueError: the address is none; see `redis_address`.
    """
    address, retry = parse_address(url), _Patience(retries, waits=waits_for_writes)
    options: dict[str, Any] = {
        **address.login,
        "socket_connect_timeout": min(CONNECT_S, timeout_s),
        "socket_timeout": timeout_s,
        "health_check_interval": 15,
        "retry": retry,
        "retry_on_error": [RedisConnectionError, RedisTimeoutError],
    }
    if address.kind == "sentinel":
        sentinel: Any = Sentinel  # it has no types
        watch = sentinel(address.hosts, sentinel_kwargs=_for_sentinels(address), **options, **_tls(address))
        kind = _SecuredMasterConnection if address.tls else _MasterConnection
        return cast(Redis, watch.master_for(address.master, connection_pool_class=_WatchedPool, connection_class=kind))
    host, port = address.hosts[0]
    if address.kind == "cluster":
        del options["retry_on_error"]  # a cluster's client follows the slots by itself
        options |= {"startup_nodes": [ClusterNode(*node) for node in address.hosts], **_tls(address)}
        looks_s = CLUSTER_PATIENCE_S if retries else 0.0
        found = _PatientCluster(max_connections, options, waits=waits_for_writes, patience_s=looks_s)
        return cast(Redis, found)  # it has the commands of Redis
    if address.tls:
        options |= {"connection_class": SSLConnection, **address.secured}
    options |= {"host": host, "port": port, "db": address.database, "max_connections": max_connections}
    patience_s = None if waits_for_writes else timeout_s
    return Redis.from_pool(BlockingConnectionPool(timeout=patience_s, **options))


def connect_blocking(url: str, *, timeout_s: float) -> SyncRedis:
    """A client for threads, without retries; a wait takes at most `timeout_s`. Raises ValueError: no address."""
    address = parse_address(url)
    options: dict[str, Any] = {
        **address.login, **_tls(address), "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s
    }  # fmt: skip
    if address.kind == "sentinel":
        sentinel: Any = SyncSentinel  # it has no types
        kwargs = {**_for_sentinels(address), "socket_timeout": timeout_s}
        watch = sentinel(address.hosts, sentinel_kwargs=kwargs, **options)
        return cast(SyncRedis, watch.master_for(address.master, connection_pool_class=_WatchedSyncPool))
    host, port = address.hosts[0]
    if address.kind == "cluster":
        node_of: Any = SyncClusterNode  # it has no types
        nodes = [node_of(*node) for node in address.hosts]
        return cast(SyncRedis, SyncCluster(startup_nodes=nodes, **options))
    return SyncRedis(host=host, port=port, db=address.database, **options)


def _tls(address: RedisAddress) -> dict[str, Any]:
    return {"ssl": True, **address.secured} if address.tls else {}


def _for_sentinels(address: RedisAddress) -> dict[str, Any]:
    return {**address.sentinel, **_tls(address), "socket_connect_timeout": CONNECT_S}
