"""Questions of one moment go out together."""

import asyncio

from services.rollout.coalescer import Coalescer


async def test_questions_of_one_turn_of_the_loop_make_one_message_per_key():
    sent = []

    async def send(key, questions):
        sent.append((key, questions))

    coalescer = Coalescer(send, max_size=10, delay_s=0)
    for i in range(6):
        coalescer.add("ab"[i % 2], i)
    await coalescer.drain()
    assert sent == [("a", [0, 2, 4]), ("b", [1, 3, 5])]


async def test_a_full_message_goes_at_once_and_every_question_goes_once():
    sent = []

    async def send(key, questions):
        sent.append(questions)

    coalescer = Coalescer(send, max_size=4, delay_s=0.001)
    for i in range(10):
        coalescer.add("a", i)
    await asyncio.sleep(0)
    assert sent == [[0, 1, 2, 3], [4, 5, 6, 7]]
    await coalescer.drain()
    assert sent == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_coroutines_woken_together_travel_together():
    sent = []

    async def send(key, questions):
        sent.append(len(questions))

    coalescer = Coalescer(send, max_size=100, delay_s=0)
    woken = asyncio.Event()

    async def ask(i):
        await woken.wait()
        coalescer.add("a", i)

    async with asyncio.TaskGroup() as asking:
        for i in range(20):
            asking.create_task(ask(i))
        await asyncio.sleep(0)
        woken.set()
    await coalescer.drain()
    assert sent == [20]
