"""Who counts as dead: looks stand for time, so nothing here waits."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.inference.engine import EngineFailed
from services.inference.watch import Patience, Signs, Watch

PATIENCE = Patience(stall_s=10.0, token_s=600.0)


class Engine:
    """Shows what it is told to."""

    def __init__(self) -> None:
        self.shown = Signs(0, 0.0, "")
        self.watch = Watch(PATIENCE, lambda: self.shown)

    def live(self, seconds: int, *, turns: int = 0, cpu_s: float = 0.0, tokens: bool = False) -> None:
        """So many seconds, in each of which the engine shows this."""
        for second in range(seconds):
            work = f"{self.shown.work[:8]}{second}" if tokens else self.shown.work
            self.shown = replace(self.shown, turns=self.shown.turns + turns, cpu_s=self.shown.cpu_s + cpu_s, work=work)
            self.watch.look()


async def test_without_a_sign_an_engine_is_dead_after_its_limit() -> None:
    engine = Engine()
    engine.live(10)
    assert engine.watch.failure == ""
    engine.live(1)
    assert engine.watch.failure == "it gave no sign of life for 10 s"


async def test_a_loop_that_turns_is_a_sign_of_life() -> None:
    engine = Engine()
    engine.live(10_000, turns=1)
    assert engine.watch.failure == ""


async def test_one_long_step_on_a_busy_machine_is_a_sign_of_life() -> None:
    engine = Engine()
    engine.live(500, cpu_s=0.02)
    assert engine.watch.failure == ""


async def test_what_a_hung_engine_uses_to_take_requests_is_no_sign_of_life() -> None:
    engine = Engine()
    engine.live(12, cpu_s=0.001)
    assert "no sign of life" in engine.watch.failure


async def test_an_engine_that_lives_and_samples_nothing_is_hung() -> None:
    engine = Engine()

    async def sample() -> None:
        async with engine.watch.guard("sampling", owes_tokens=True):
            await asyncio.Event().wait()

    sampling = asyncio.create_task(sample())
    await asyncio.sleep(0)
    engine.live(599, turns=1)
    assert engine.watch.failure == ""
    engine.live(1, turns=1)
    with pytest.raises(EngineFailed, match="it is alive but sampled no token for 600 s"):
        await sampling


async def test_tokens_keep_an_engine_at_work_for_as_long_as_it_takes() -> None:
    engine = Engine()
    async with engine.watch.guard("sampling", owes_tokens=True):
        engine.live(100_000, turns=1, tokens=True)
    assert engine.watch.failure == ""


@pytest.mark.parametrize("updating", [True, False])
async def test_no_token_is_to_come_while_nothing_is_owed_or_weights_are_updated(updating: bool) -> None:
    engine = Engine()
    if updating:
        async with engine.watch.guard("sampling", owes_tokens=True), engine.watch.guard("an update"):
            engine.live(10_000, turns=1)
    else:
        engine.live(10_000, turns=1)
    assert engine.watch.failure == ""


async def test_everybody_who_waits_is_told_at_once_and_so_is_who_comes_later() -> None:
    engine = Engine()

    async def wait() -> None:
        async with engine.watch.guard("sampling"):
            await asyncio.Event().wait()

    waiting = [asyncio.create_task(wait()) for _ in range(3)]
    await asyncio.sleep(0)
    engine.watch.fail("it is dead")
    for task in [*waiting, asyncio.create_task(wait())]:
        with pytest.raises(EngineFailed, match="the engine failed while sampling: it is dead"):
            await task


async def test_a_timeout_of_somebody_else_s_is_not_the_engine_s() -> None:
    with pytest.raises(TimeoutError):
        async with Engine().watch.guard("sampling"):
            raise TimeoutError
