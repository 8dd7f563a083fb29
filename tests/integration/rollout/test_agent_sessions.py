"""Sessions of outside agents between an API's calls and a worker's desk, on a real Redis."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from services.api.sync.agent_calls import AgentCalls
from services.contracts import keys
from services.contracts.agents import Act, Chat, ChatMessage, Claim, Done, End, Refused, SessionRecord
from services.kit.tasks import beside
from services.rollout.agents import Agents, SessionAbandoned, connected_agents

HANGS_S = 20
RECORD = SessionRecord(
    session_id="j1.a", job_id="j1", worker="w1", state="open", group_id="t1", purpose="train", k=0, seed=7,
    split="train", task="task", observation="", admissible_actions=[], max_turns=2, timeout_s=60.0,
)  # fmt: skip


async def test_calls_come_to_the_worker_that_holds_the_session_and_answers_come_back(redis):
    calls = AgentCalls(redis, structlog.get_logger())
    async with asyncio.timeout(HANGS_S), beside(calls.run), connected_agents(redis, "w1") as agents:
        async with agents.session(RECORD) as session:
            assert await redis.zrange(keys.open_sessions("j1"), 0, -1) == [b"j1.a"]
            asking = asyncio.create_task(calls.ask(RECORD, Claim(key_digest="d")))
            asked = await session.next()
            assert asked.ask == Claim(key_digest="d")
            await session.change(state="claimed", key_digest="d")
            await session.answer(asked, Done())
            assert await asking == Done()
            assert await redis.zcard(keys.open_sessions("j1")) == 0
            record = await calls.record("j1", "j1.a")
            assert (record.state, record.key_digest) == ("claimed", "d")
            chat = Chat(messages=[ChatMessage(role="user", content="héllo")], tools=[{"name": "a", "x": [1, None]}])
            asking = asyncio.create_task(calls.ask(RECORD, chat))
            asked = await session.next()
            assert asked.ask == chat
            waiting = [asyncio.create_task(calls.ask(RECORD, Act(action=name))) for name in "ab"]
            bad = await calls.ask(RECORD, Act(action="\ud800"))
            assert (bad.status, "Unicode" in bad.message) == (422, True)
        answers = await asyncio.gather(asking, *waiting)
        assert {one.status for one in answers} == {410}
        assert answers[0].message == "the session is over: its group is played again"
        late = await calls.ask(RECORD, End(reward=1.0))
        assert isinstance(late, Refused)
        assert (await calls.record("j1", "j1.a")).state == "abandoned"
        assert 0 < await redis.ttl(keys.session("j1", "j1.a")) <= 600


async def _left(agents: Agents) -> None:
    async with agents.session(RECORD) as session:
        await session.change(state="claimed", timeout_s=0.05)
        await session.next()


async def test_a_session_that_is_left_says_why_and_one_without_a_worker_is_gone(redis, monkeypatch):
    monkeypatch.setattr("services.api.sync.agent_calls.LOOK_S", 0.05)
    calls = AgentCalls(redis, structlog.get_logger())
    async with asyncio.timeout(HANGS_S), beside(calls.run):
        async with connected_agents(redis, "w1") as agents:
            with pytest.raises(SessionAbandoned, match=r"asked nothing for 0.05 s"):
                await _left(agents)
            assert "asked nothing" in (await calls.record("j1", "j1.a")).why
        await redis.delete(keys.session("j1", "j1.a"))
        gone = await calls.ask(RECORD, End())
        assert (gone.status, "worker is gone" in gone.message) == (410, True)
