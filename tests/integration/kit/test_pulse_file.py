"""The file that a service touches: while its loop turns, and no longer."""

import asyncio
import os
from pathlib import Path

import pytest

from services.kit import pulse as pulses
from services.kit.pulse import Work, pulse


async def touched(file: Path) -> None:
    """Return at the file's next touch."""
    before = file.stat().st_mtime_ns
    async with asyncio.timeout(30):
        while file.stat().st_mtime_ns == before:
            await asyncio.sleep(0.02)


async def goes_on(file: Path, within_s: float) -> None:
    """Never returns. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while True:
            await touched(file)


async def test_the_file_names_the_process_and_is_touched_while_the_loop_turns(tmp_path: Path):
    file = tmp_path / "pulses" / "rollout"
    async with pulse(file):
        assert int(file.read_text()) == os.getpid()
        await touched(file)
        await touched(file)


async def test_a_loop_that_has_not_turned_for_long_touches_it_no_more(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(pulses, "PULSE_S", 0.01)
    file, turns = tmp_path / "rollout", 0
    async with pulse(file, Work(lambda: turns, 0.5)):
        await touched(file)
        with pytest.raises(TimeoutError):
            await goes_on(file, 3)
        turns += 1
        await touched(file)
