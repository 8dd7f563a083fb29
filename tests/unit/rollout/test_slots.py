"""How many episodes are in flight."""

import asyncio

from services.rollout.slots import EpisodeSlots


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_groups_wait_for_room_in_the_order_they_came():
    slots, let_in = EpisodeSlots(10), []

    async def take(name, count):
        await slots.take(count)
        let_in.append(name)

    tasks = [asyncio.create_task(take(name, count)) for name, count in (("a", 8), ("b", 6), ("c", 2))]
    await settle()
    assert let_in == ["a"]  # c would fit, but b came first
    slots.give(8)
    await settle()
    assert let_in == ["a", "b", "c"]
    assert slots.taken == 8
    await asyncio.gather(*tasks)


async def test_a_group_larger_than_everything_is_let_in_alone():
    slots = EpisodeSlots(4)
    await slots.take(1)
    large = asyncio.create_task(slots.take(9))
    await settle()
    assert not large.done()
    slots.give(1)
    await settle()
    assert large.done()
    room = asyncio.create_task(slots.room())
    await settle()
    assert not room.done()
    slots.give(9)
    await room
    assert slots.taken == 0


async def test_one_who_gives_up_waiting_leaves_no_gap():
    slots = EpisodeSlots(4)
    await slots.take(4)
    first, second = asyncio.create_task(slots.take(4)), asyncio.create_task(slots.take(2))
    await settle()
    first.cancel()
    await settle()
    slots.give(4)
    await second
    assert slots.taken == 2


async def test_one_cancelled_just_when_let_in_hands_its_slots_back():
    slots = EpisodeSlots(4)
    await slots.take(4)
    waiting = asyncio.create_task(slots.take(3))
    await settle()
    slots.give(4)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert slots.taken == 0
