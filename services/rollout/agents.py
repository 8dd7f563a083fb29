"""Sessions of outside agents: publishes episodes for them, takes their calls from this worker's stream, answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.contracts import keys
from services.contracts.agents import (
    KEPT_S,
    LIVE_S,
    Answered,
    AnyAnswer,
    Asked,
    Refused,
    SessionRecord,
    decoded_call,
    encoded,
)
from services.kit.dead_letters import dead_letters
from services.kit.streams import StreamTail, append
from services.kit.tasks import beside
from services.rollout.errors import AttemptFailed

log = structlog.get_logger("rollout")

RENEW_S = LIVE_S / 4
RETRY_S = 1.0
CALLS_PER_READ = 256
GONE = 410


class SessionAbandoned(AttemptFailed):
    """An agent left its session without an end; its group is played again."""


class Session:
    """One published episode."""

    def __init__(self, redis: Redis, record: SessionRecord) -> None:
        self._redis, self.record = redis, record
        self._calls: asyncio.Queue[Asked] = asyncio.Queue()
        self._opened_unix_s = time.time()
        self._owed: Asked | None = None

    def put(self, asked: Asked) -> None:
        """An agent calls."""
        self._calls.put_nowait(asked)

    async def next(self) -> Asked:
        """The next call. Raises SessionAbandoned: none came in time; one that nobody has claimed waits for ever."""
        limit_s = None if self.record.state == "open" else self.record.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                self._owed = await self._calls.get()
                return self._owed
        except TimeoutError:
            raise SessionAbandoned(f"a session was abandoned: its agent asked nothing for {limit_s:g} s") from None

    async def answer(self, asked: Asked, answer: AnyAnswer) -> None:
        """Answer a call."""
        self._owed = None
        await append(self._redis, asked.reply_to, encoded(Answered(call_id=asked.call_id, answer=answer)))
        await self._redis.expire(asked.reply_to, KEPT_S)

    async def change(self, **changes: object) -> None:
        """Keep what is new of it."""
        self.record = msgspec.structs.replace(self.record, **changes)
        await self.publish()

    async def publish(self) -> None:
        """Show it to the API, until it is shown again."""
        record = self.record
        waiting = keys.open_sessions(record.job_id)
        async with self._redis.pipeline(transaction=True) as pipe:
            kept_s = KEPT_S if record.is_over else LIVE_S
            pipe.set(keys.session(record.job_id, record.session_id), encoded(record), ex=kept_s)
            if record.state == "open":
                pipe.zadd(waiting, {record.session_id: self._opened_unix_s})
            else:
                pipe.zrem(waiting, record.session_id)
            await pipe.execute()

    async def end(self, why: str) -> None:
        """It is over; whoever still asks is told why."""
        if not self.record.is_over:
            await self.change(state="abandoned", why=why)
        refused = Refused(status=GONE, message=f"the session is over: {self.record.why or 'it was closed'}")
        while self._owed is not None or not self._calls.empty():
            await self.answer(self._owed or self._calls.get_nowait(), refused)


class Agents:
    """The sessions of one worker. Make it with `connected_agents`."""

    def __init__(self, redis: Redis, worker: str) -> None:
        self._redis = redis
        self._calls = StreamTail(redis, keys.calls_stream(worker), decoded_call)
        self._sessions: dict[str, Session] = {}

    @asynccontextmanager
    async def session(self, record: SessionRecord) -> AsyncIterator[Session]:
        """A session while the block plays it. It is abandoned where the block ends before it was closed."""
        session = self._sessions[record.session_id] = Session(self._redis, record)
        why = "its group is played again"
        try:
            await session.publish()
            yield session
        except AttemptFailed as error:
            why = str(error)
            raise
        finally:
            del self._sessions[record.session_id]
            try:
                await asyncio.shield(session.end(why))
            except RedisError as error:
                log.warning("the end of a session could not be told", session=record.session_id, error=repr(error))

    async def follow_calls(self) -> None:
        """Hand calls to their sessions, without end."""
        while True:
            try:
                for asked in await self._calls.read(CALLS_PER_READ):
                    await self._take(asked)
            except (RedisError, OSError) as error:
                log.error("calls of agents cannot be read", error=repr(error))
                await asyncio.sleep(RETRY_S)

    async def renew(self) -> None:
        """Show that the sessions live and free the calls that were taken, without end."""
        while True:
            try:
                for session in list(self._sessions.values()):
                    await session.publish()
                await self._calls.free(KEPT_S)
            except (RedisError, OSError) as error:
                log.error("sessions of agents cannot be renewed", error=repr(error))
            await asyncio.sleep(RENEW_S)

    async def drain(self) -> None:
        """Delete the stream of calls."""
        await self._redis.delete(self._calls.stream, dead_letters(self._calls.stream))

    async def _take(self, asked: Asked) -> None:
        session = self._sessions.get(asked.session_id)
        if session is not None:
            session.put(asked)
            return
        refused = Refused(status=GONE, message="the session is over")
        await append(self._redis, asked.reply_to, encoded(Answered(call_id=asked.call_id, answer=refused)))


@asynccontextmanager
async def connected_agents(redis: Redis, worker: str) -> AsyncIterator[Agents]:
    """The sessions that this worker will publish."""
    agents = Agents(redis, worker)
    try:
        async with beside(agents.follow_calls, agents.renew):
            yield agents
    finally:
        await agents.drain()
