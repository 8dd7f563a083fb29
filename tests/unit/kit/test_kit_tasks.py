"""Background tasks end with their block, and their block with them."""

import asyncio

import pytest

from services.kit.tasks import LoopEnded, beside, ended


async def for_ever() -> None:
    await asyncio.Event().wait()


async def broken() -> None:
    raise KeyError("p")


async def returning() -> None:
    return


@pytest.mark.parametrize(("loop", "error"), [(broken, KeyError), (returning, LoopEnded)])
async def test_a_loop_that_ends_ends_its_block_with_the_cause(loop, error):
    async def block() -> None:
        async with beside(for_ever, loop):
            await asyncio.Event().wait()

    with pytest.raises(error):
        await block()
    assert asyncio.current_task().cancelling() == 0
    async with asyncio.timeout(10):
        await asyncio.sleep(0)


async def test_the_loops_end_with_the_block_whatever_it_ends_with():
    ends = []

    async def loop() -> None:
        try:
            await for_ever()
        finally:
            ends.append("loop")

    async def block(error: Exception | None) -> None:
        async with beside(loop):
            await asyncio.sleep(0)
            if error:
                raise error

    await block(None)
    assert ends == ["loop"]
    with pytest.raises(ValueError, match="block"):
        await block(ValueError("block"))
    assert ends == ["loop", "loop"]


async def test_a_cancelled_block_stays_cancelled():
    async def block() -> None:
        async with beside(for_ever):
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_outer_block_s_loop_ends_the_inner_one_too():
    cleaned = []

    async def block() -> None:
        async with beside(broken):
            try:
                async with beside(for_ever):
                    await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append(True)

    with pytest.raises(KeyError):
        await block()
    assert cleaned == [True]


async def test_a_task_that_loses_a_cancellation_is_cancelled_again():
    lost, release = 0, asyncio.Event()

    async def stubborn() -> None:
        nonlocal lost
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(returning())]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(30):
            await ended(tasks)
        assert (lost, [task.done() for task in tasks]) == (3, [True, True])
    finally:
        release.set()
