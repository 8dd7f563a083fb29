"""Calls of outside agents: each goes to the worker that holds its session; answers come on this process's stream."""

from __future__ import annotations

import asyncio
import secrets

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.stdlib import BoundLogger

from services.contracts import keys
from services.contracts.agents import (
    KEPT_S,
    Act,
    AnyAnswer,
    Asked,
    Chat,
    Claim,
    End,
    Refused,
    SessionRecord,
    decoded_answer,
    decoded_record,
    encoded,
)
from services.kit.streams import StreamTail, append
from services.kit.values import string_value

LOOK_S = 5.0
"""Time between two looks at whether the worker that owes an answer still holds the session."""
RETRY_S = 1.0
ANSWERS_PER_READ = 256
GONE = 410


class AgentCalls:
    """The calls that wait for an answer in this process."""

    def __init__(self, redis: Redis, log: BoundLogger) -> None:
        self._redis, self._log = redis, log
        self._answers = StreamTail(redis, keys.answers_stream(secrets.token_hex(8)), decoded_answer)
        self._waiting: dict[str, asyncio.Future[AnyAnswer]] = {}

    async def run(self) -> None:
        """Hand answers to those who wait for them, without end."""
        while True:
            try:
                for answered in await self._answers.read(ANSWERS_PER_READ):
                    waiting = self._waiting.get(answered.call_id)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(answered.answer)
                if self._waiting:
                    await self._answers.free(KEPT_S)
            except (RedisError, OSError) as error:
                self._log.warning("answers_to_agents_not_read", error=repr(error))
                await asyncio.sleep(RETRY_S)

    async def record(self, job_id: str, session_id: str) -> SessionRecord | None:
        """The session's record; None: there is none, or no longer."""
        payload = await string_value(self._redis, keys.session(job_id, session_id))
        return None if not payload else decoded_record(payload)

    async def ask(self, record: SessionRecord, ask: Claim | Chat | Act | End) -> AnyAnswer:
        """The worker's answer, however long it takes; Refused where the worker is gone."""
        call_id = secrets.token_hex(8)
        asked = Asked(session_id=record.session_id, call_id=call_id, reply_to=self._answers.stream, ask=ask)
        calls = keys.calls_stream(record.worker)
        try:
            payload = encoded(asked)
        except (UnicodeEncodeError, OverflowError, RecursionError) as error:
            return Refused(status=422, message=f"want texts of Unicode and numbers of 64 bits: {error}")
        waiting: asyncio.Future[AnyAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = waiting
        try:
            await append(self._redis, calls, payload)
            await self._redis.expire(calls, KEPT_S)
            while not waiting.done():
                await asyncio.wait([waiting], timeout=LOOK_S)
                if not waiting.done() and await self.record(record.job_id, record.session_id) is None:
                    return Refused(status=GONE, message="the session is over: its rollout worker is gone")
            return waiting.result()
        finally:
            del self._waiting[call_id]
