"""The steps of one stream, without a transport."""

import asyncio

from gigpo_proto.env.v1 import env_pb2

from services.env.edge.streamed_steps import STEPS_IN_FLIGHT, StreamedSteps


async def test_answers_that_nobody_reads_hold_up_the_steps_of_their_stream(service):
    stream = StreamedSteps(service)
    refused = env_pb2.StepRequest(lease="nothing", seq=1)  # answered as soon as it is taken
    taking = asyncio.create_task(stream.take([refused] * (STEPS_IN_FLIGHT + 3)))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not taking.done()
    results = stream.results()
    first = await anext(results)
    assert len(first) == STEPS_IN_FLIGHT
    await asyncio.sleep(0)
    assert not taking.done()  # handed out, and not yet said to be sent
    assert len(await anext(results)) == 3
    await taking
    stream.end()
    assert [result async for result in results] == []
