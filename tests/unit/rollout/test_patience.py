"""Pauses between the repeats of a call."""

from __future__ import annotations

import asyncio

import pytest

from services.rollout.patience import LONGEST_PAUSE_S, Patience


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses, which pass at once."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return pauses


async def test_pauses_double_up_to_the_longest(slept: list[float]) -> None:
    patience = Patience(3600, 0.5)
    for _ in range(5):
        assert not patience.is_over()
        await patience.pause()
    assert slept == [0.5, 1.0, 2.0, 2.0, 2.0]


async def test_the_other_side_may_ask_for_a_longer_pause(slept: list[float]) -> None:
    patience = Patience(3600, 0.5)
    assert not patience.is_over(asked_for_s=30)
    await patience.pause()
    assert not patience.is_over()
    await patience.pause()
    assert slept == [30, LONGEST_PAUSE_S]


async def test_it_is_over_when_the_next_pause_would_end_too_late() -> None:
    assert Patience(1.0, 1.5).is_over()
    assert Patience(3600, 0.5).is_over(asked_for_s=3601)


async def test_the_time_counts_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    now, loop = [100.0], asyncio.get_running_loop()
    monkeypatch.setattr(loop, "time", lambda: now[0])
    patience = Patience(10.0, 1.0)
    now[0] = 109.5
    assert patience.is_over()
    patience.begin()
    assert (patience.waited_s, patience.is_over()) == (0.0, False)
