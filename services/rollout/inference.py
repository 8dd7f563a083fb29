"""Inference through Redis: prompts of a moment in one request per replica, answers from this worker's own stream.

A prompt whose replica dies, times out or asks to be asked again is sent to a live replica under the same item id, here
and nowhere else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.contracts import keys
from services.contracts.messages import Generated, GenerateItem, GenerateReply, GenerateRequest, decode, encode
from services.kit.dead_letters import dead_letters
from services.kit.streams import StreamTail, append
from services.kit.tasks import beside
from services.rollout.coalescer import Coalescer
from services.rollout.errors import InferenceFault
from services.rollout.limits import InferenceLimits
from services.rollout.ports import Ask, Sampled, Sampling
from services.rollout.replicas import ReplicaTable, ranked

log = structlog.get_logger("rollout")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
RETRY_EVERY_S = 1.0
REPLIES_PER_READ = 256
REPLIES_KEPT_S = 3_600
"""A dead worker's stream of replies goes away by itself."""


class _NoAnswer(Exception):
    """The replica asked cannot be counted on any more; another one may."""


@dataclass(frozen=True)
class _Route:
    """What the items of one request have in common."""

    replica: str
    job_id: str
    min_version: int
    sampling: Sampling


@dataclass(eq=False)
class _Pending:
    ask: Ask
    route: _Route
    answer: asyncio.Future[Generated]


class RedisInference:
    """Port `Inference` on the real replicas. Make it with `connected_inference`."""

    def __init__(self, redis: Redis, worker: str, limits: InferenceLimits) -> None:
        self._redis, self._limits = redis, limits
        self._replies = StreamTail(redis, keys.replies_stream(worker), partial(decode, kind=GenerateReply))
        self._replicas = ReplicaTable(redis, self._give_up_on)
        self._requests = Coalescer(self._send, max_size=limits.max_batch, delay_s=limits.coalesce_s)
        self._pending: dict[str, _Pending] = {}

    async def generate(self, ask: Ask) -> Sampled:
        """The continuation, from whichever replica gives it. Raises InferenceFault."""
        loop = asyncio.get_running_loop()
        patient_until, pause = loop.time() + self._limits.replica_wait_s, FIRST_PAUSE_S
        tried: list[str] = []
        unanswered = 0
        while True:
            replica = await self._replica_for(ask, tried)
            tried.append(replica)
            try:
                generated = await self._ask(ask, replica)
            except _NoAnswer as error:
                unanswered += 1
                cause = str(error)
            else:
                if not generated.error:
                    return _sampled(generated, replica)
                cause = f"{replica}: {generated.error}"
                if not generated.retryable:
                    raise InferenceFault(cause)
            if unanswered >= self._limits.generate_attempts or loop.time() + pause > patient_until:
                raise InferenceFault(f"asked {len(tried)} times, last: {cause}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def follow_replies(self) -> None:
        """For ever: hand the answers in the stream to those who wait for them."""
        while True:
            async with _redis_may_be_away():
                for reply in await self._replies.read(REPLIES_PER_READ):
                    self._take(reply)

    async def follow_replicas(self) -> None:
        """For ever: read the table of replicas; free the replies that were taken."""
        while True:
            async with _redis_may_be_away():
                await self._replicas.refresh()
                await self._replies.free(REPLIES_KEPT_S)
            await asyncio.sleep(self._limits.replica_poll_s)

    async def drain(self) -> None:
        """Send what is collected, then delete the stream of replies."""
        await self._requests.drain()
        await self._redis.delete(self._replies.stream, dead_letters(self._replies.stream))

    async def _replica_for(self, ask: Ask, tried: list[str]) -> str:
        """The best replica not tried yet, else the least recently tried one; waits while there is none."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.replica_wait_s
        while True:
            if serving := self._replicas.serving(ask.job_id):
                order = ranked(ask.group_id, serving)
                return min(order, key=lambda replica: (_last_index(tried, replica), order.index(replica)))
            try:
                async with asyncio.timeout_at(deadline):
                    await self._replicas.change()
            except TimeoutError:
                waited = f"no live replica serves the job for {self._limits.replica_wait_s:g} s"
                raise InferenceFault(waited) from None

    async def _ask(self, ask: Ask, replica: str) -> Generated:
        route = _Route(replica, ask.job_id, ask.min_version, ask.sampling)
        pending = _Pending(ask, route, asyncio.get_running_loop().create_future())
        self._pending[ask.item_id] = pending
        self._requests.add(route, pending)
        timeout = self._limits.generate_timeout_s
        try:
            async with asyncio.timeout(timeout):
                return await pending.answer
        except TimeoutError:
            raise _NoAnswer(f"{replica}: no answer within {timeout:g} s") from None
        finally:
            del self._pending[ask.item_id]

    async def _send(self, route: _Route, asked: list[_Pending]) -> None:
        items = [
            GenerateItem(item_id=one.ask.item_id, prompt_ids=one.ask.prompt_ids, seed=one.ask.seed)
            for one in asked
            if not one.answer.done()
        ]
        if not items:
            return
        request = GenerateRequest(
            job_id=route.job_id,
            reply_to=self._replies.stream,
            items=items,
            min_version=route.min_version,
            temperature=route.sampling.temperature,
            max_tokens=route.sampling.max_tokens,
            stop_token_ids=list(route.sampling.stop_token_ids),
            deadline_unix_s=time.time() + self._limits.generate_timeout_s,
        )
        try:
            await append(self._redis, keys.requests_stream(route.replica), encode(request))
        except (RedisError, OSError) as error:
            log.error("a request could not be sent", replica=route.replica, error=repr(error))
            for one in asked:
                _fail(one, f"{route.replica}: the request could not be sent: {error!r}")

    def _take(self, reply: GenerateReply) -> None:
        for generated in reply.results:
            pending = self._pending.get(generated.item_id)  # None: it came from another replica meanwhile
            if pending is not None and not pending.answer.done():
                pending.answer.set_result(generated)

    def _give_up_on(self, gone: set[str]) -> None:
        for pending in self._pending.values():
            replica = pending.route.replica
            if replica in gone or not self._replicas.answers(replica, pending.route.job_id):
                _fail(pending, f"{replica}: gone before it answered")


@asynccontextmanager
async def connected_inference(redis: Redis, worker: str, limits: InferenceLimits) -> AsyncIterator[RedisInference]:
    """A client of every replica, under this worker's name; nobody else may read its replies."""
    inference = RedisInference(redis, worker, limits)
    try:
        async with beside(inference.follow_replies, inference.follow_replicas):
            yield inference
    finally:
        await inference.drain()


@asynccontextmanager
async def _redis_may_be_away() -> AsyncIterator[None]:
    """It has been for longer than a command is repeated, or refuses one: the loop around the block tries again."""
    try:
        yield
    except (RedisError, OSError) as error:
        log.error("Redis does not answer", error=f"{type(error).__name__}: {error}")
        await asyncio.sleep(RETRY_EVERY_S)


def _fail(pending: _Pending, cause: str) -> None:
    if not pending.answer.done():
        pending.answer.set_exception(_NoAnswer(cause))


def _last_index(tried: list[str], replica: str) -> int:
    return max((i for i, name in enumerate(tried) if name == replica), default=-1)


def _sampled(generated: Generated, replica: str) -> Sampled:
    """What was sampled. Raises InferenceFault where the arrays do not fit each other: not tokens of an engine."""
    lengths = {len(generated.response_ids), len(generated.logprobs), len(generated.versions)}
    if len(lengths) != 1 or 0 in lengths or len(generated.response_ids) % 4:
        raise InferenceFault(f"{replica}: want ids, logprobs and versions of one length >= 1, got bytes {lengths}")
    return Sampled(generated.response_ids, generated.logprobs, generated.versions, generated.finish_reason)
