"""An inference replica without a model: reads the real stream of requests and answers with replies drawn by seed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from services.contracts import keys
from services.contracts.arrays import pack_float32, pack_int32
from services.contracts.messages import Generated, GenerateItem, GenerateReply, GenerateRequest, decode, encode
from services.contracts.policy import ReplicaStatus
from services.kit.streams import StreamConsumer, append
from services.kit.tasks import ended


class FakeReplica:
    """Serves one job.

    Args:
        replies: token ids that it may answer with, the stop token included.

    Attributes:
        sampled: item id -> the last answer given for it.
        items: how many items were asked for; `requests`: in how many messages.
        silent: reads requests and does not answer; `answer_late` does.
        refused: how many refusals it gave.
        refusal: what it answers instead of tokens, retryable, while it is not empty.
        late_s: how long it thinks about each request, seconds.
        outstanding_tokens: how much it says that it owes.
    """

    def __init__(self, redis: Redis, job_id: str, replies: list[list[int]], name: str = "r1") -> None:
        self._redis, self._job_id, self._replies, self.name = redis, job_id, replies, name
        self.sampled: dict[str, Generated] = {}
        self.items = self.requests = self.refused = 0
        self.owed: list[GenerateRequest] = []
        self.silent, self.refusal, self.late_s = False, "", 0.0
        self.version = self.outstanding_tokens = 0
        self._thinking: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve for ever; cancelled, it stops as if it had been killed."""
        await self.show()
        consumer = StreamConsumer(self._redis, keys.requests_stream(self.name), "inference", self.name)
        while True:
            for entry in await consumer.read(64):
                request = decode(entry.payload, GenerateRequest)
                self.items += len(request.items)
                self.requests += 1
                if self.silent:
                    self.owed.append(request)
                    continue
                await consumer.ack(entry.id)
                if self.late_s:
                    task = asyncio.create_task(self._answer(request))
                    self._thinking.add(task)
                    task.add_done_callback(self._thinking.discard)
                else:
                    await self._answer(request)

    async def show(self, state: str = "serving") -> None:
        """Enter the table of replicas with a stream of requests, and a heartbeat that outlives any test."""
        with suppress(ResponseError):  # it has one
            await self._redis.xgroup_create(keys.requests_stream(self.name), "inference", id="0", mkstream=True)
        status = ReplicaStatus(
            replica=self.name,
            job_id=self._job_id,
            version=self.version,
            engine="fake",
            state=state,
            outstanding_tokens=self.outstanding_tokens,
        )
        await self._redis.set(keys.replica_heartbeat(self.name), "1", ex=3_600)
        await self._redis.hset(keys.REPLICAS, self.name, status.model_dump_json())

    async def turn_to(self, job_id: str) -> None:
        """Serve another job from now on."""
        self._job_id = job_id
        await self.show()

    async def answer_late(self) -> None:
        """Answer what it was silent about."""
        for request in self.owed:
            await self._answer(request)
        self.owed.clear()

    async def stop_beating(self) -> None:
        """The status of a replica as it looks some seconds after it was killed."""
        await self._redis.delete(keys.replica_heartbeat(self.name))

    async def sign_off(self) -> None:
        """What a replica does when it has drained; it must not run any more."""
        await self.stop_beating()
        await self._redis.hdel(keys.REPLICAS, self.name)
        await self._redis.delete(keys.requests_stream(self.name))

    async def _answer(self, request: GenerateRequest) -> None:
        assert request.deadline_unix_s > time.time()
        await asyncio.sleep(self.late_s)
        results = [self._generated(item) for item in request.items]
        reply = GenerateReply(replica=self.name, results=results)
        await append(self._redis, request.reply_to, encode(reply))

    def _generated(self, item: GenerateItem) -> Generated:
        if self.refusal:
            self.refused += 1
            return Generated.refusal(item.item_id, self.refusal)
        rng = random.Random(item.seed)
        ids = rng.choice(self._replies)
        logprobs = pack_float32(-rng.random() for _ in ids)
        versions = pack_int32([self.version] * len(ids))
        self.sampled[item.item_id] = Generated(
            item_id=item.item_id, response_ids=pack_int32(ids), logprobs=logprobs, versions=versions,
            finish_reason="stop",
        )  # fmt: skip
        return self.sampled[item.item_id]


@asynccontextmanager
async def serving(replica: FakeReplica) -> AsyncIterator[FakeReplica]:
    """Run it while the block runs."""
    task = asyncio.create_task(replica.run())
    try:
        yield replica
    finally:
        await ended([task])
