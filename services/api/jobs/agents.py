"""Sessions of outside agents: hand one out, find it for a caller, pass calls on."""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from typing import cast

from redis.asyncio import Redis

from services.api.jobs import queries as jobs
from services.api.jobs.derived_specs import stored_spec
from services.api.rest.caller import Caller
from services.api.rest.problems import Problem, not_found
from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.api.sync.agent_calls import AgentCalls
from services.contracts import keys
from services.contracts.agents import (
    KEY_PREFIX,
    OUTSIDE,
    Act,
    Acted,
    AnyAnswer,
    Chat,
    Claim,
    Done,
    End,
    Refused,
    Said,
    SessionRecord,
    job_of,
)
from services.contracts.rest.sessions import OpenedSession, SessionView
from services.contracts.states import TERMINAL, JobState

RETRY_S = 1


async def open_session(redis: Redis, calls: AgentCalls, job: JobRow) -> OpenedSession:
    """Hand out the session that has waited longest.

    Raises:
        Problem: 409, agents do not play the job, or it has ended; 503, none is open now.
    """
    interaction = stored_spec(job.spec, job.id).environment.interaction
    if interaction != OUTSIDE:
        raise Problem(409, f"want a job with interaction: {OUTSIDE}, got {interaction}")
    if JobState(job.state) in TERMINAL:
        raise Problem(409, f"want a job that has not ended, got state {job.state}")
    while waiting := await redis.zpopmin(keys.open_sessions(job.id)):
        session_id = cast(bytes, waiting[0][0]).decode()
        record = await calls.record(job.id, session_id)
        if record is None or record.state != "open":
            continue  # its worker is gone, or it was published again while it was handed out
        key = KEY_PREFIX + secrets.token_urlsafe(32)
        if isinstance(await calls.ask(record, Claim(key_digest=_digest(key))), Done):
            claimed = await calls.record(job.id, record.session_id) or record
            return OpenedSession(**view_of(claimed).model_dump(), api_key=key)
    sentence = f"no session is open now, try again in {RETRY_S} s"
    raise Problem(503, sentence, headers={"Retry-After": str(RETRY_S)})


async def find_session(database: Database, calls: AgentCalls, caller: Caller, session_id: str) -> SessionRecord:
    """The session, for whoever has its key or may see its job. Raises Problem 404."""
    record = await calls.record(job_of(session_id), session_id)
    if record is None:
        raise not_found("session", session_id)
    if caller.session_key is not None:
        if not hmac.compare_digest(_digest(caller.session_key), record.key_digest):
            raise not_found("session", session_id)
        return record
    try:
        await jobs.find(database, caller, record.job_id)
    except Problem:
        raise not_found("session", session_id) from None
    return record


async def complete(calls: AgentCalls, record: SessionRecord, ask: Chat) -> Said:
    """The policy's reply. Raises Problem."""
    answer = await _answer(calls, record, ask)
    assert isinstance(answer, Said)
    return answer


async def act(calls: AgentCalls, record: SessionRecord, action: str) -> Acted:
    """The result of an action. Raises Problem."""
    answer = await _answer(calls, record, Act(action=action))
    assert isinstance(answer, Acted)
    return answer


async def close(calls: AgentCalls, record: SessionRecord, end: End) -> SessionView:
    """Close a session; one that is over stays as it is. Raises Problem 409: it is over, and takes no reward."""
    if record.is_over:
        if end.reward is not None:
            raise Problem(409, f"want a session that is not over, got one that is {record.state}")
        return view_of(record)
    await _answer(calls, record, end)
    return view_of(await calls.record(record.job_id, record.session_id) or record)


def view_of(record: SessionRecord) -> SessionView:
    """The session as callers see it."""
    return SessionView(
        id=record.session_id,
        job_id=record.job_id,
        state=record.state,
        why=record.why,
        path=f"/v1/sessions/{record.session_id}",
        task=record.task,
        observation=record.observation,
        admissible_actions=record.admissible_actions,
        turns=record.turns,
        max_turns=record.max_turns,
        reward=record.reward,
        won=record.won,
        timeout_s=record.timeout_s,
        purpose=record.purpose,
        group_id=record.group_id,
        k=record.k,
        seed=record.seed,
        split=record.split,
    )


async def _answer(calls: AgentCalls, record: SessionRecord, ask: Chat | Act | End) -> AnyAnswer:
    if record.is_over:
        raise Problem(410, f"the session is over: {record.why or 'it was closed'}")
    answer = await calls.ask(record, ask)
    if isinstance(answer, Refused):
        raise Problem(answer.status, answer.message)
    return answer


def _digest(key: str) -> str:
    return sha256(key.encode(errors="surrogateescape")).hexdigest()
