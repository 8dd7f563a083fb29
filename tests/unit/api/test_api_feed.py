"""Following a job: what is stored already, then what is told, without a gap and without a repeat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.api.jobs.submissions import NewJob, Submissions
from services.api.rest.caller import THIS_MACHINE
from services.api.sql.database import Database
from services.api.sql.tables import EventRow, JobRow
from services.api.sync.event_bus import MOST_WAITING, News, Told
from services.api.sync.feed import evaluations, followed_events, metrics, warnings
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import parse_spec

SPEC = parse_spec({"model": {"scratch": {}}, "rollout": {"max_completion_length": 6}})


class Followed:
    """A job whose events the test stores and tells, each for itself."""

    def __init__(self, database: Database, job: str) -> None:
        self.database, self.job, self.news = database, job, News()

    async def store(self, *numbers: int, kind: str = "metrics", ended: bool = False) -> list[EventRow]:
        rows = [
            EventRow(job_id=self.job, ms=number, seq=0, kind=kind, at_unix_s=1.0, data={"batch": number})
            for number in numbers
        ]
        async with self.database.write() as session:
            session.add_all(rows)
            if ended:
                (await session.get_one(JobRow, self.job)).state = "SUCCEEDED"
        return rows

    def tell(self, after: int, rows: list[EventRow]) -> None:
        self.news.tell(self.job, Told((after, 0), rows))

    def follow(self, after: str = "0-0", kind: str | None = None) -> AsyncIterator[EventRow]:
        return followed_events(self.database, self.news, self.job, after, kind=kind)


@pytest.fixture
async def followed(tmp_path: Path) -> AsyncIterator[Followed]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/x.sqlite")
    await database.migrate()
    new = NewJob(caller=THIS_MACHINE, spec=SPEC, environment=EnvironmentInfo(id="grid"))
    await Submissions(database).store(new)
    yield Followed(database, new.id)
    await database.close()


async def some(events: AsyncIterator[EventRow], count: int) -> list[int]:
    return [(await anext(events)).ms for _ in range(count)]


async def rest(events: AsyncIterator[EventRow]) -> list[int]:
    return [row.ms async for row in events]


async def test_what_is_told_follows_on_what_was_stored_without_looking_again(followed: Followed) -> None:
    await followed.store(1, 2)
    events = followed.follow()
    assert await some(events, 2) == [1, 2]
    followed.tell(2, [EventRow(job_id=followed.job, ms=3, seq=0, kind="metrics", at_unix_s=1.0, data={})])
    assert await some(events, 1) == [3]  # it is in no table: it came by word of mouth


async def test_a_gap_in_what_is_told_is_read_from_sql(followed: Followed) -> None:
    await followed.store(1)
    events = followed.follow()
    assert await some(events, 1) == [1]
    await followed.store(2)  # another process stored it and told its own followers only
    followed.tell(2, await followed.store(3))
    assert await some(events, 2) == [2, 3]


async def test_what_is_told_twice_or_late_is_sent_once(followed: Followed) -> None:
    rows = await followed.store(1, 2, 3)
    events = followed.follow(after="1-0")
    assert await some(events, 2) == [2, 3]
    followed.tell(0, rows)
    followed.tell(3, await followed.store(4, ended=True))
    followed.tell(4, await followed.store(5, kind="state"))
    assert await rest(events) == [4, 5]


async def test_one_kind_can_be_followed(followed: Followed) -> None:
    await followed.store(1, kind="phase")
    await followed.store(2)
    await followed.store(3, kind="state", ended=True)
    assert await rest(followed.follow(kind="metrics")) == [2]


async def test_told_events_of_other_kinds_are_left_out(followed: Followed) -> None:
    await followed.store(1)
    events = followed.follow(kind="metrics")
    assert await some(events, 1) == [1]
    followed.tell(1, await followed.store(2, kind="phase"))
    followed.tell(2, await followed.store(3))
    assert await some(events, 1) == [3]


async def test_a_listener_that_is_far_behind_looks_into_sql(followed: Followed) -> None:
    events = followed.follow()
    await followed.store(1)
    assert await some(events, 1) == [1]
    for row in await followed.store(*range(2, MOST_WAITING + 4)):
        followed.tell(row.ms - 1, [row])
    await followed.store(MOST_WAITING + 4, kind="state", ended=True)
    assert await rest(events) == list(range(2, MOST_WAITING + 5))


async def test_everybody_goes_when_the_process_drains_also_who_comes_later(followed: Followed) -> None:
    early = asyncio.create_task(rest(followed.follow()))
    while not followed.news._followers:
        await asyncio.sleep(0)
    followed.news.close()
    assert await early == []
    assert await rest(followed.follow()) == []
    assert followed.news._followers == {}


async def test_what_was_repeated_after_a_crash_counts_once_as_it_was_told_last(followed: Followed) -> None:
    data = [{"batch": 0, "version": 0}, {"batch": 1, "success": 0.1}, {"batch": 1, "success": 0.2}]
    labels = [{"label": "during", "version": 1, "success": success} for success in (0.3, 0.4)]
    told = [("metrics", one) for one in data] + [("evaluation", one) for one in labels]
    async with followed.database.write() as session:
        session.add_all(
            EventRow(job_id=followed.job, ms=ms, seq=0, kind=kind, at_unix_s=1.0, data=one)
            for ms, (kind, one) in enumerate(told, 1)
        )
    assert [row.get("success") for row in await metrics(followed.database, followed.job)] == [None, 0.2]
    assert [row["success"] for row in await evaluations(followed.database, followed.job)] == [0.4]


async def test_metrics_come_in_order_of_batch_and_warnings_with_the_newest_first(followed: Followed) -> None:
    await followed.store(2, 3)
    async with followed.database.write() as session:
        late = {"batch": 1}  # such as a curve that another job hands over
        session.add(EventRow(job_id=followed.job, ms=4, seq=0, kind="metrics", at_unix_s=1.0, data=late))
        session.add_all(
            EventRow(job_id=followed.job, ms=ms, seq=0, kind="warning", at_unix_s=ms, data={"message": word})
            for ms, word in ((5, "slow"), (6, "full"))
        )
    assert [row["batch"] for row in await metrics(followed.database, followed.job)] == [1, 2, 3]
    assert [one.message for one in await warnings(followed.database, followed.job)] == ["full", "slow"]
