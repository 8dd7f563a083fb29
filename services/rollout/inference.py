"""Inference through Redis: concurrent prompts share one request per replica, answers come on this worker's own stream.

This module does all retries: a prompt whose replica dies, or answers with a retryable error, is sent to a live replica
under the same item id. A live replica that owes an answer may take as long as it needs, because it watches its own
engine, and a second request would sample the same prompt twice.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.contracts import keys
from services.contracts.messages import (
    Generated,
    GenerateItem,
    GenerateReply,
    GenerateRequest,
    MessageTooLarge,
    decode,
    encode,
)
from services.contracts.sampling import SampledTokens, Sampling
from services.contracts.streams import PROMPTS_KEPT_S
from services.kit.dead_letters import dead_letters
from services.kit.streams import StreamTail, append_to_existing
from services.kit.tasks import beside
from services.ledger.warnings import Warnings
from services.rollout.coalescer import Coalescer
from services.rollout.errors import InferenceFault
from services.rollout.limits import InferenceLimits
from services.rollout.owed import Owed
from services.rollout.patience import Patience
from services.rollout.ports import Ask
from services.rollout.replicas import ReplicaTable
from services.rollout.routes import Routes, tokens_of

log = structlog.get_logger("rollout")

FIRST_PAUSE_S = 0.1
RETRY_EVERY_S = 1.0
LOOKS_FOR_PROOF = 2
KEPT_UNSAMPLED_S = 3_600.0
"""A replica drops a dead worker's prompts that still wait for a version after so long; what is dropped is no answer."""
REPLIES_PER_READ = 256
REPLIES_KEPT_S = 3_600
"""A dead worker's stream of replies goes away by itself."""


class _NoAnswer(Exception):
    """This replica will send no answer; another one may."""

    def __init__(self, cause: str, *, died: bool) -> None:
        super().__init__(cause)
        self.died = died
        """The replica ended while it had the prompt, so the prompt may be the cause."""


@dataclass(frozen=True)
class _Route:
    """The part that the items of one request have in common."""

    replica: str
    job_id: str
    min_version: int
    sampling: Sampling


@dataclass(eq=False)
class _Pending:
    ask: Ask
    route: _Route
    answer: asyncio.Future[Generated]
    entry_id: bytes = b""
    """Entry id of the request in the replica's stream; empty: it is not sent yet."""
    looks_without: int = 0
    """How often in a row the replica was seen to owe nothing under that entry."""


class RedisInference:
    """Port `Inference` on the real replicas. Make it with `connected_inference`."""

    def __init__(self, redis: Redis, worker: str, limits: InferenceLimits) -> None:
        self._redis, self._limits = redis, limits
        self._replies = StreamTail(redis, keys.replies_stream(worker), partial(decode, kind=GenerateReply))
        self._routes = Routes()
        self._replicas = ReplicaTable(redis, self._give_up_on_gone, self._routes.read)
        self._requests = Coalescer(self._send, max_size=limits.max_batch, delay_s=limits.coalesce_s)
        self._pending: dict[str, _Pending] = {}
        self._owed = Owed(redis)
        self._warnings = Warnings(redis, "rollout")

    async def generate(self, ask: Ask) -> SampledTokens:
        """The continuation, from whichever replica gives it. Raises InferenceFault."""
        patience = Patience(self._limits.replica_wait_s, FIRST_PAUSE_S)
        tried: list[str] = []
        deaths, hindered = 0, False
        while True:
            replica = await self._replica_for(ask, tried)
            tried.append(replica)
            try:
                generated = await self._ask(ask, replica)
            except _NoAnswer as error:
                cause, blameless = str(error), not error.died
                deaths += error.died
                await self._warnings.count(ask.job_id, f"a prompt is retried: {cause}")
            else:
                if not generated.error:
                    return _sampled(generated, replica)
                cause = f"{replica}: {generated.error}"
                if not generated.retryable:
                    raise InferenceFault(cause)
                blameless = True
            if blameless and not hindered:
                hindered = True
                patience.begin()
            if deaths >= self._limits.generate_attempts or (hindered and patience.is_over()):
                without = f"a prompt was sent {len(tried)} times without an answer, the last time: {cause}"
                raise InferenceFault(without, lost=deaths < self._limits.generate_attempts)
            await patience.pause()

    async def follow_replies(self) -> None:
        """Hand the answers in the stream to those who wait for them, without end."""
        while True:
            async with _redis_may_be_away():
                for reply in await self._replies.read(REPLIES_PER_READ):
                    self._take(reply)

    async def follow_replicas(self) -> None:
        """Read the table of replicas and free the replies that were taken, without end."""
        while True:
            async with _redis_may_be_away():
                await self._replicas.refresh()
                await self._replies.free(REPLIES_KEPT_S)
            await asyncio.sleep(self._limits.replica_poll_s)

    async def look_for_lost(self) -> None:
        """Give up, without end, on requests that their replica does not owe any more, as after a Redis without its
        memory.

        An answer is written before its request is deleted, so the second look in a row is proof.
        """
        while True:
            async with _redis_may_be_away():
                await self._give_up_on_lost()
            await asyncio.sleep(self._limits.lost_poll_s)

    async def _give_up_on_lost(self) -> None:
        sent = [pending for pending in self._pending.values() if pending.entry_id]
        owed = await self._owed.entries({(pending.route.replica, pending.entry_id) for pending in sent})
        for pending in sent:
            pending.looks_without = (
                0 if (pending.route.replica, pending.entry_id) in owed else pending.looks_without + 1
            )
            if pending.looks_without >= LOOKS_FOR_PROOF:
                _fail(pending, f"{pending.route.replica}: the request is gone and no answer came", died=False)

    async def drain(self) -> None:
        """Send what is collected, then delete the stream of replies."""
        await self._requests.drain()
        await self._redis.delete(self._replies.stream, dead_letters(self._replies.stream))

    async def _replica_for(self, ask: Ask, tried: list[str]) -> str:
        """One that was not tried yet, otherwise the one tried longest ago; waits while there is none."""
        loop = asyncio.get_running_loop()
        deadline, tell_at = loop.time() + self._limits.replica_wait_s, loop.time() + self._limits.tell_after_s
        while True:
            if serving := self._replicas.serving(ask.job_id):
                longest_ago = min(_last_index(tried, replica) for replica in serving)
                return self._routes.choose(ask, [one for one in serving if _last_index(tried, one) == longest_ago])
            until = min(deadline, tell_at)
            try:
                async with asyncio.timeout_at(until):
                    await self._replicas.change()
            except TimeoutError:
                if until == deadline:
                    waited = f"no live replica serves the job for {self._limits.replica_wait_s:g} s"
                    raise InferenceFault(waited, lost=True) from None
                tell_at = math.inf
                await self._warnings.count(ask.job_id, "prompts wait: no live inference replica serves the job")

    async def _ask(self, ask: Ask, replica: str) -> Generated:
        route = _Route(replica, ask.job_id, ask.min_version, ask.sampling)
        pending = _Pending(ask, route, asyncio.get_running_loop().create_future())
        self._pending[ask.item.item_id] = pending
        self._routes.asked(replica, tokens_of(ask))
        self._requests.add(route, pending)
        try:
            return await pending.answer
        finally:
            self._routes.asked(replica, -tokens_of(ask))
            del self._pending[ask.item.item_id]

    async def _send(self, route: _Route, asked: list[_Pending]) -> None:
        items = [one.ask.item for one in asked if not one.answer.done()]
        if not items:
            return
        try:
            payload = encode(self._request(route, items))
        except MessageTooLarge as error:
            if len(asked) == 1:
                _refuse(asked[0], str(error))
                return
            half = len(asked) // 2
            await self._send(route, asked[:half])
            await self._send(route, asked[half:])
            return
        try:
            stream = keys.requests_stream(route.replica)
            sent = await append_to_existing(self._redis, stream, payload, keep_s=PROMPTS_KEPT_S)
        except (RedisError, OSError) as error:
            log.error("a request could not be sent", replica=route.replica, error=repr(error))
            for one in asked:
                _fail(one, f"{route.replica}: the request could not be sent: {error!r}", died=False)
        else:
            for one in asked:
                if sent is None:  # it deleted its stream after this worker last read the table of replicas
                    _fail(one, f"{route.replica}: it has signed off", died=False)
                else:
                    one.entry_id = sent

    def _request(self, route: _Route, items: list[GenerateItem]) -> GenerateRequest:
        return GenerateRequest(
            job_id=route.job_id,
            reply_to=self._replies.stream,
            items=items,
            min_version=route.min_version,
            temperature=route.sampling.temperature,
            max_tokens=route.sampling.max_tokens,
            stop_token_ids=list(route.sampling.stop_token_ids),
            deadline_unix_s=time.time() + KEPT_UNSAMPLED_S,
            top_k=route.sampling.top_k,
            top_p=route.sampling.top_p,
            min_p=route.sampling.min_p,
            stop_words=list(route.sampling.stop_words),
        )

    def _take(self, reply: GenerateReply) -> None:
        for generated in reply.results:
            pending = self._pending.get(generated.item_id)  # None: the answer came from another replica meanwhile
            if pending is not None and not pending.answer.done():
                pending.answer.set_result(generated)

    def _give_up_on_gone(self) -> None:
        for pending in self._pending.values():
            replica = pending.route.replica
            if not self._replicas.lives(replica):
                _fail(pending, f"{replica}: gone before it answered", died=self._replicas.crashed(replica))
            elif not self._replicas.answers(replica, pending.route.job_id):
                _fail(pending, f"{replica}: turned to another job before it answered", died=False)


@asynccontextmanager
async def connected_inference(redis: Redis, worker: str, limits: InferenceLimits) -> AsyncIterator[RedisInference]:
    """A client of every replica, under this worker's name; nobody else may read its replies."""
    inference = RedisInference(redis, worker, limits)
    try:
        async with beside(inference.follow_replies, inference.follow_replicas, inference.look_for_lost):
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


def _fail(pending: _Pending, cause: str, *, died: bool) -> None:
    if not pending.answer.done():
        pending.answer.set_exception(_NoAnswer(cause, died=died))


def _refuse(pending: _Pending, cause: str) -> None:
    if not pending.answer.done():
        pending.answer.set_result(Generated.refusal(pending.ask.item.item_id, cause, retryable=False))


def _last_index(tried: list[str], replica: str) -> int:
    return max((i for i, name in enumerate(tried) if name == replica), default=-1)


def _sampled(generated: Generated, replica: str) -> SampledTokens:
    """The sampled tokens. Raises InferenceFault where the arrays do not fit each other: not tokens of an engine."""
    lengths = {len(generated.response_ids), len(generated.logprobs), len(generated.versions)}
    if len(lengths) != 1 or 0 in lengths or len(generated.response_ids) % 4:
        raise InferenceFault(f"{replica}: want ids, logprobs and versions of one length >= 1, got bytes {lengths}")
    return SampledTokens(**generated.shared())
