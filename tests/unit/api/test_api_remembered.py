"""Answers that are given again for a while."""

from __future__ import annotations

import asyncio

import pytest

from services.api.jobs.ttl_cache import Remembered


class Question:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, str | Exception] = {}
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, key: str) -> str:
        self.asked.append(key)
        await self.go.wait()
        answer = self.answers.get(key, key.upper())
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_an_answer_is_given_again_until_it_is_too_old() -> None:
    question, now = Question(), [0.0]
    kept = Remembered(question, keep_s=5.0, clock=lambda: now[0])
    assert [await kept.get("a"), await kept.get("a"), await kept.get("b")] == ["A", "A", "B"]
    assert question.asked == ["a", "b"]
    now[0] = 5.0
    await kept.get("a")
    assert question.asked == ["a", "b", "a"]


async def test_callers_at_the_same_time_share_one_question_and_its_error() -> None:
    question = Question()
    question.go.clear()
    question.answers["a"] = ValueError("no")
    kept = Remembered(question, keep_s=5.0)
    asking = [asyncio.create_task(kept.get("a")) for _ in range(3)]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.sleep(0)
    question.go.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(one) for one in results] == [asyncio.CancelledError, ValueError, ValueError]
    assert question.asked == ["a"]
    with pytest.raises(ValueError, match="no"):
        await kept.get("a")
    assert question.asked == ["a", "a"]


async def test_the_longest_unused_answer_makes_room_and_some_are_not_kept() -> None:
    question = Question()
    kept = Remembered(question, keep_s=5.0, most=2, worth_keeping=lambda answer: answer != "X")
    for key in ("a", "b", "a", "c", "a", "b", "x", "x"):
        await kept.get(key)
    assert question.asked == ["a", "b", "c", "b", "x", "x"]
