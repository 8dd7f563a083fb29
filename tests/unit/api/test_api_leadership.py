"""Who leads runs the loops until the lock or the database is lost, and asks for both again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import DataError, IntegrityError, OperationalError, ProgrammingError
from structlog.stdlib import get_logger

from services.api.sync import leadership


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(leadership, "ASK_AGAIN_S", 0.001)
    return SimpleNamespace(is_sqlite=True, url=SimpleNamespace(database=tmp_path / "api.db"))


async def for_ever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("away", [OperationalError("SELECT", {}, OSError("lost")), ConnectionResetError("lost")])
async def test_a_database_that_went_away_is_asked_again(database: Any, away: Exception) -> None:
    runs, again = 0, asyncio.Event()

    async def loop() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise away
        again.set()
        await for_ever()

    leading = asyncio.create_task(leadership.lead(database, get_logger(), loop, for_ever))
    async with asyncio.timeout(60):
        await again.wait()
    leading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leading


@pytest.mark.parametrize("kind", [ProgrammingError, IntegrityError, DataError, None])
async def test_a_defect_of_ours_ends_the_leader(database: Any, kind: type[Exception] | None) -> None:
    fault: Any = kind("SELECT", {}, Exception("no such column")) if kind else KeyError("p")  # type: ignore[call-arg]

    async def loop() -> None:
        raise fault

    async with asyncio.timeout(60):
        with pytest.raises(type(fault)):
            await leadership.lead(database, get_logger(), loop)


async def test_loops_end_when_the_lock_may_be_lost(database: Any) -> None:
    asked, ends = 0, []

    async def loop() -> None:
        try:
            await for_ever()
        finally:
            ends.append("loop")

    async def still_held() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise OperationalError("SELECT 1", {}, OSError("lost"))

    async with asyncio.timeout(60):
        with pytest.raises(OperationalError):
            await leadership._run((loop,), still_held)
    assert (asked, ends) == (3, ["loop"])


async def test_of_two_processes_one_leads_and_the_other_follows_it(database: Any) -> None:
    leaders: list[str] = []
    led = asyncio.Event()

    async def loop(name: str) -> None:
        leaders.append(name)
        led.set()
        await for_ever()

    def process(name: str) -> asyncio.Task[None]:
        return asyncio.create_task(leadership.lead(database, get_logger(), lambda: loop(name)))

    async with asyncio.timeout(60):
        first = process("first")
        await led.wait()
        second = process("second")
        for _ in range(20):
            await asyncio.sleep(leadership.ASK_AGAIN_S)
        assert leaders == ["first"]
        led.clear()
        first.cancel()
        await led.wait()
        assert leaders == ["first", "second"]
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
