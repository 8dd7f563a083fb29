"""The registry of replicas, jobs and policy versions: reads and writes the inference service's Redis keys."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import structlog
from pydantic import ValidationError
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.policy import PolicyAck, PolicyManifest, PolicyRefusal, ReplicaStatus
from services.contracts.streams import PROMPTS_KEPT_S
from services.inference.consumer import GROUP
from services.kit.dead_letters import set_key_aside
from services.kit.payloads import RawEntry, fetched, payload_keys, queue_again
from services.kit.values import drop_field, put_field, string_value
from services.ledger.active_jobs import active_jobs
from services.ledger.replicas import ReplicaRows
from services.ledger.warnings import Warnings

log = structlog.get_logger("inference")

ENTRIES_PER_MOVE = 100
ADOPTER_S = 10
"""How long a crashed adopter keeps others from a dead replica's stream, seconds."""


@dataclass(frozen=True)
class JobView:
    """The result of one look at a job."""

    active: bool
    manifest: PolicyManifest | None


class Registry:
    """This replica's view of the others and of the jobs.

    Args:
        data_dir: where shared storage is mounted here.
    """

    def __init__(self, redis: Redis, replica: str, data_dir: Path) -> None:
        self._redis, self._replica, self._data_dir = redis, replica, data_dir
        self._rows = ReplicaRows(redis)

    async def job(self, job_id: str) -> JobView:
        """Whether a job is active, and its newest policy version."""
        payload = await string_value(self._redis, keys.policy(job_id))
        return JobView(job_id in await active_jobs(self._redis), _manifest(job_id, payload, self._data_dir))

    async def neediest_job(self) -> PolicyManifest | None:
        """The manifest of the active job with the fewest live replicas; None: no job has published a policy."""
        jobs = sorted(await active_jobs(self._redis))
        if not jobs:
            return None
        payloads = [await string_value(self._redis, keys.policy(job)) for job in jobs]  # a slot each
        found = [_manifest(job, payload, self._data_dir) for job, payload in zip(jobs, payloads, strict=True)]
        manifests = [manifest for manifest in found if manifest is not None]
        if not manifests:
            return None
        others = [status.job_id for status in (await self.live_replicas()).values() if status.replica != self._replica]
        return min(manifests, key=lambda manifest: others.count(manifest.job_id))

    async def is_spare(self, job_id: str) -> bool:
        """Whether this replica should leave the job: others serve it too, and an active job has no replica at all.

        Only one of those that serve a job, the last by name, goes at a time.
        """
        serving: dict[str | None, list[str]] = {}
        for name, status in (await self.live_replicas()).items():
            if status.state != "draining":
                serving.setdefault(status.job_id, []).append(name)
        ours = serving.get(job_id, [])
        if len(ours) < 2 or max(ours) != self._replica or None in serving:
            return False
        unserved = await active_jobs(self._redis) - serving.keys()
        return any([(await self.job(job)).manifest is not None for job in unserved])

    async def replicas(self) -> dict[str, tuple[ReplicaStatus, bool]]:
        """Every registered replica: its last status, and whether its heart beats."""
        found = {}
        for row in (await self._rows.read()).values():
            try:
                status = ReplicaStatus.model_validate_json(row.status)
            except ValidationError as error:  # the entry is of another version of this service, which judges it
                log.error("a replica's row can't be read", error=str(error))
            else:
                found[status.replica] = (status, row.alive)
        return found

    async def live_replicas(self) -> dict[str, ReplicaStatus]:
        """The replicas whose heart beats."""
        return {name: status for name, (status, beats) in (await self.replicas()).items() if beats}

    async def publish(self, status: ReplicaStatus) -> None:
        """Tell what this replica does now."""
        await put_field(self._redis, keys.REPLICAS, status.replica, status.model_dump_json())

    async def acknowledge(self, job_id: str, ack: PolicyAck) -> None:
        """Say that this replica serves a version, and which weights these are; what it refused before is over."""
        await put_field(self._redis, keys.policy_acks(job_id), ack.replica, ack.model_dump_json())
        await drop_field(self._redis, keys.policy_refusals(job_id), ack.replica)

    async def leave_job(self, job_id: str) -> None:
        """Take the acknowledgement back: this replica no longer serves the job."""
        await drop_field(self._redis, keys.policy_acks(job_id), self._replica)
        await drop_field(self._redis, keys.policy_refusals(job_id), self._replica)

    async def warn(self, job_id: str, message: str) -> None:
        """Show the job's user a warning."""
        await Warnings(self._redis, "inference").warn(job_id, message)

    async def refuse(self, job_id: str, refusal: PolicyRefusal) -> None:
        """Say that this replica can't serve a version."""
        await put_field(self._redis, keys.policy_refusals(job_id), refusal.replica, refusal.model_dump_json())

    async def forget(self, replica: str) -> None:
        """Strike a replica off, with what is left of its stream; a no-op when its heart beats again."""
        if await self._redis.exists(keys.replica_heartbeat(replica)):
            return
        await self._redis.hdel(keys.REPLICAS, replica)
        await self._redis.delete(keys.requests_stream(replica))

    async def waiting_requests(self, replica: str) -> int:
        """Entries on a replica's stream, read or not."""
        await set_key_aside(self._redis, keys.requests_stream(replica), "stream")
        return int(await self._redis.xlen(keys.requests_stream(replica)))

    async def adopt(self, dead: str) -> int:
        """Move a dead replica's requests, read and unread, to this replica's stream; the number moved.

        The streams may lie on different nodes, so an entry is added here before it is deleted there: a crash between
        repeats a request, and its items are recognised by their ids.
        """
        lock = keys.adopter(dead)
        if not await self._redis.set(lock, self._replica, nx=True, ex=ADOPTER_S):
            return 0
        source, moved = keys.requests_stream(dead), 0
        while entries := await self._head(source):
            async with self._redis.pipeline(transaction=False) as pipe:
                for _, fields in entries:  # as they are: what is no request is set aside by who reads it
                    queue_again(pipe, keys.requests_stream(self._replica), fields, PROMPTS_KEPT_S)
                await pipe.execute()
            ids = [entry_id for entry_id, _ in entries]
            await self._redis.xack(source, GROUP, *ids)
            await self._redis.xdel(source, *ids)
            if payloads := payload_keys(source, entries):
                await self._redis.unlink(*payloads.values())
            moved += len(entries)
        await self._redis.delete(lock)
        return moved

    async def _head(self, stream: str) -> list[RawEntry]:
        """The oldest entries of a stream, delivered or not."""
        await set_key_aside(self._redis, stream, "stream")
        raw = cast("list[RawEntry]", await self._redis.xrange(stream, count=ENTRIES_PER_MOVE) or [])
        return await fetched(self._redis, stream, raw)


@lru_cache(maxsize=256)
def _manifest(job_id: str, payload: bytes | None, data_dir: Path) -> PolicyManifest | None:
    """The manifest that a job's payload holds; None: there is none, or it can't be read, which is logged once."""
    if payload is None:
        return None
    try:
        manifest = PolicyManifest.model_validate_json(payload)
    except ValidationError as error:
        log.error("a policy manifest can't be read", job=job_id, error=str(error))
        return None
    if manifest.job_id != job_id:
        log.error("a policy manifest names another job", job=job_id, named=manifest.job_id)
        return None
    return manifest.seen_at(data_dir)
