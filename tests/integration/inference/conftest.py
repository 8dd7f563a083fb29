"""A replica on a fake engine and a real Redis, and a worker that talks to it as the rollout service does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.arrays import pack_int32
from services.contracts.messages import Generated, GenerateItem, GenerateReply, GenerateRequest, decode, encode
from services.contracts.policy import PolicyAck, PolicyManifest, PolicyRefusal, ReplicaStatus
from services.inference.running import running_replica
from services.inference.settings import Settings
from services.kit.streams import append, payload_of, read_streams
from tests.unit.inference.fake_engine import FakeEngine

FAR_UNIX_S = 4e9


@dataclass
class Worker:
    """Sends requests and collects the answers, by item id."""

    redis: Redis
    name: str = "w1"
    answers: dict[str, list[Generated]] = field(default_factory=dict)
    _last: str = "0"

    async def ask(self, replica: str, *item_ids: str, job: str = "job", **changes: object) -> None:
        items = [GenerateItem(item_id=one, prompt_ids=pack_int32([3, 4, 5]), seed=7) for one in item_ids]
        fields = {
            "job_id": job,
            "reply_to": keys.replies_stream(self.name),
            "items": items,
            "min_version": 0,
            "temperature": 1.0,
            "max_tokens": 4,
            "stop_token_ids": [1],
            "deadline_unix_s": FAR_UNIX_S,
        }
        request = GenerateRequest(**(fields | changes))  # type: ignore[arg-type]
        await append(self.redis, keys.requests_stream(replica), encode(request))

    async def answered(self, *item_ids: str) -> list[Generated]:
        """Wait until each item has an answer; the first answers."""
        while not set(item_ids) <= self.answers.keys():
            found = await read_streams(self.redis, {keys.replies_stream(self.name): self._last}, 100, block_ms=100)
            for entries in found.values():
                for entry_id, fields in entries:
                    self._last = entry_id.decode()
                    for generated in decode(payload_of(fields), GenerateReply).results:
                        self.answers.setdefault(generated.item_id, []).append(generated)
        return [self.answers[item_id][0] for item_id in item_ids]


@dataclass
class Jobs:
    """The work of the trainer and the API: open jobs, publish versions, end jobs."""

    redis: Redis

    async def publish(self, manifest: PolicyManifest) -> None:
        await self.redis.set(keys.policy(manifest.job_id), manifest.model_dump_json())
        await self.redis.sadd(keys.ACTIVE_JOBS, manifest.job_id)

    async def end(self, job: str) -> None:
        await self.redis.srem(keys.ACTIVE_JOBS, job)

    async def acked(self, replica: str, version: int, *, job: str = "job") -> PolicyAck:
        """Wait for a replica's acknowledgement of a version."""

        async def look() -> PolicyAck | None:
            payload = await self.redis.hget(keys.policy_acks(job), replica)
            ack = None if payload is None else PolicyAck.model_validate_json(payload)
            return ack if ack is not None and ack.version == version else None

        return await until(look)

    async def refused(self, replica: str, *, job: str = "job") -> PolicyRefusal:
        """Wait until a replica refuses a version."""

        async def look() -> PolicyRefusal | None:
            payload = await self.redis.hget(keys.policy_refusals(job), replica)
            return None if payload is None else PolicyRefusal.model_validate_json(payload)

        return await until(look)

    async def status(self, replica: str, **wanted: object) -> ReplicaStatus:
        """Wait until a replica's status has the wanted fields."""

        async def look() -> ReplicaStatus | None:
            payload = await self.redis.hget(keys.REPLICAS, replica)
            status = None if payload is None else ReplicaStatus.model_validate_json(payload)
            return status if status and all(getattr(status, name) == value for name, value in wanted.items()) else None

        return await until(look)


async def until(look: Callable[[], Awaitable[object]]) -> object:
    """Ask again and again until the answer is not None; pytest's own timeout bounds it."""
    while (found := await look()) is None:
        await asyncio.sleep(0.01)
    return found


@dataclass
class Running:
    """A replica in this process."""

    name: str
    engine: FakeEngine


@pytest.fixture
def worker(redis: Redis) -> Worker:
    return Worker(redis)


@pytest.fixture
def jobs(redis: Redis) -> Jobs:
    return Jobs(redis)


@pytest.fixture
def start_replica(redis_url: str, tmp_path: Path) -> Callable[..., object]:
    @asynccontextmanager
    async def start(name: str = "r1", **changes: object) -> AsyncIterator[Running]:
        engine = FakeEngine()
        fields = {"redis_url": redis_url, "data_dir": tmp_path, "replica": name, "linger_s": 0.0, "poll_s": 0.01}
        settings = Settings(**(fields | changes))  # type: ignore[arg-type]
        async with running_replica(settings, {"fake": lambda: engine}) as failed:
            yield Running(name, engine)
            if failed.done():
                failed.result()

    return start
