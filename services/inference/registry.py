"""Where replicas, jobs and policy versions are found and told: the Redis keys of the inference service."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import cast

import structlog
from pydantic import ValidationError
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.events import Warned, encoded
from services.contracts.policy import PolicyAck, PolicyManifest, PolicyRefusal, ReplicaStatus
from services.inference.consumer import GROUP
from services.kit.streams import FIELD

log = structlog.get_logger("inference")

ENTRIES_PER_MOVE = 100
ADOPTER_S = 10
"""How long a crashed adopter keeps others from a dead replica's stream, seconds."""


@dataclass(frozen=True)
class JobView:
    """What one look at a job told."""

    active: bool
    manifest: PolicyManifest | None


class Registry:
    """This replica's view of the others and of the jobs."""

    def __init__(self, redis: Redis, replica: str) -> None:
        self._redis, self._replica = redis, replica
        self._parsed: tuple[bytes | str, PolicyManifest | None] = (b"", None)

    async def job(self, job_id: str) -> JobView:
        """Whether a job is active, and its newest policy version."""
        async with self._redis.pipeline(transaction=False) as pipe:  # two slots: no transaction
            pipe.sismember(keys.ACTIVE_JOBS, job_id)
            pipe.get(keys.policy(job_id))
            active, payload = await pipe.execute()
        return JobView(bool(active), self._manifest(payload))

    async def neediest_job(self) -> PolicyManifest | None:
        """The manifest of the active job with the fewest live replicas; None: no job has published a policy."""
        jobs = sorted(job.decode() for job in await cast(Awaitable[set[bytes]], self._redis.smembers(keys.ACTIVE_JOBS)))
        if not jobs:
            return None
        payloads = [await self._redis.get(keys.policy(job)) for job in jobs]  # a slot each: no MGET
        manifests = [found for payload in payloads if (found := self._manifest(payload)) is not None]
        if not manifests:
            return None
        others = [status.job_id for status in (await self.live_replicas()).values() if status.replica != self._replica]
        return min(manifests, key=lambda manifest: others.count(manifest.job_id))

    async def replicas(self) -> dict[str, tuple[ReplicaStatus, bool]]:
        """Every registered replica: its last status, and whether its heart beats."""
        rows = await cast(Awaitable[dict[bytes, bytes]], self._redis.hgetall(keys.REPLICAS))
        if not rows:
            return {}
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in rows:
                pipe.exists(keys.replica_heartbeat(name.decode()))
            beats = await pipe.execute()
        found = {}
        for row, beat in zip(rows.values(), beats, strict=True):
            try:
                status = ReplicaStatus.model_validate_json(row)
            except ValidationError as error:  # of another version of this service: not for us to judge
                log.error("a replica's row can't be read", error=str(error))
            else:
                found[status.replica] = (status, bool(beat))
        return found

    async def live_replicas(self) -> dict[str, ReplicaStatus]:
        """The replicas whose heart beats."""
        return {name: status for name, (status, beats) in (await self.replicas()).items() if beats}

    async def publish(self, status: ReplicaStatus) -> None:
        """Tell what this replica does now."""
        await self._redis.hset(keys.REPLICAS, status.replica, status.model_dump_json())

    async def acknowledge(self, job_id: str, ack: PolicyAck) -> None:
        """Say that this replica serves a version, and which weights these are; what it refused before is over."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.policy_acks(job_id), ack.replica, ack.model_dump_json())
            pipe.hdel(keys.policy_refusals(job_id), ack.replica)
            await pipe.execute()

    async def leave_job(self, job_id: str) -> None:
        """Take the acknowledgement back: this replica no longer serves the job."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hdel(keys.policy_acks(job_id), self._replica)
            pipe.hdel(keys.policy_refusals(job_id), self._replica)
            await pipe.execute()

    async def warn(self, job_id: str, message: str) -> None:
        """Show the job's user a warning."""
        event = encoded(Warned(service="inference", message=message))
        await self._redis.xadd(keys.events_stream(job_id), {FIELD: event})

    async def refuse(self, job_id: str, refusal: PolicyRefusal) -> None:
        """Say that this replica can't serve a version."""
        await self._redis.hset(keys.policy_refusals(job_id), refusal.replica, refusal.model_dump_json())

    async def forget(self, replica: str) -> None:
        """Strike a replica off, with what is left of its stream; a no-op when its heart beats again."""
        if await self._redis.exists(keys.replica_heartbeat(replica)):
            return
        await self._redis.hdel(keys.REPLICAS, replica)
        await self._redis.delete(keys.requests_stream(replica))

    async def waiting_requests(self, replica: str) -> int:
        """Entries on a replica's stream, read or not."""
        return int(await self._redis.xlen(keys.requests_stream(replica)))

    async def adopt(self, dead: str) -> int:
        """Move a dead replica's requests, read and unread, to this replica's stream; the number moved.

        The streams may lie on different nodes, so an entry is added here before it is deleted there: a crash between
        repeats a request, and its items are recognised by their ids.
        """
        lock = f"{{inference:{dead}}}:adopter"
        if not await self._redis.set(lock, self._replica, nx=True, ex=ADOPTER_S):
            return 0
        source, moved = keys.requests_stream(dead), 0
        while entries := await self._head(source):
            async with self._redis.pipeline(transaction=False) as pipe:
                for _, payload in entries:
                    pipe.xadd(keys.requests_stream(self._replica), {FIELD: payload})
                await pipe.execute()
            ids = [entry_id for entry_id, _ in entries]
            await self._redis.xack(source, GROUP, *ids)
            await self._redis.xdel(source, *ids)
            moved += len(entries)
        await self._redis.delete(lock)
        return moved

    async def _head(self, stream: str) -> list[tuple[bytes, bytes]]:
        """The oldest entries of a stream, delivered or not: (id, payload)."""
        raw = await self._redis.xrange(stream, count=ENTRIES_PER_MOVE)
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", raw or [])
        return [(entry_id, fields[FIELD]) for entry_id, fields in entries]

    def _manifest(self, payload: bytes | str | None) -> PolicyManifest | None:
        if payload is None:
            return None
        if self._parsed[0] != payload:
            try:
                manifest = PolicyManifest.model_validate_json(payload)
            except ValidationError as error:
                log.error("a policy manifest can't be read", error=str(error))
                manifest = None
            self._parsed = (payload, manifest)
        return self._parsed[1]
