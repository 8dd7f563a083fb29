"""How much waits in a stream, also after an entry was deleted that nobody had read."""

from services.kit.backlog import Backlog, backlog


async def test_what_was_taken_is_in_flight_and_the_rest_waits(redis):
    ids = [await redis.xadd("work", {"n": number}) for number in range(6)]
    await redis.xgroup_create("work", "readers", id="0")
    await redis.xreadgroup("readers", "one", {"work": ">"}, count=2)
    found = await backlog(redis, "work")
    assert (found.waiting, found.in_flight) == (4, 2)
    await redis.xack("work", "readers", ids[0])
    await redis.xdel("work", ids[0])
    found = await backlog(redis, "work")
    assert (found.waiting, found.in_flight) == (4, 1)


async def test_an_entry_that_was_deleted_unread_hides_none_that_waits(redis):
    ids = [await redis.xadd("work", {"n": number}) for number in range(6)]
    await redis.xgroup_create("work", "readers", id="0")
    await redis.xdel("work", ids[3])
    (group,) = await redis.xinfo_groups("work")
    assert group["lag"] is None  # Redis does not know any more
    assert (await backlog(redis, "work")).waiting == 5


async def test_the_age_is_of_the_oldest_entry(redis):
    seconds, _ = await redis.time()
    await redis.xadd("work", {"n": 1}, id=f"{(seconds - 60) * 1000}-0")
    await redis.xadd("work", {"n": 2})
    assert 59 <= (await backlog(redis, "work")).oldest_s < 3_600


async def test_nothing_waits_where_there_is_no_stream(redis):
    assert await backlog(redis, "work") == Backlog()
    await redis.set("work", "of another type")
    assert await backlog(redis, "work") == Backlog()
