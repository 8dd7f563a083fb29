"""The API's storage, on SQLite and on a real PostgreSQL: the same tests on both."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import pytest
import structlog
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from redis.asyncio import Redis
from sqlalchemy import func, select, text

from services.api.jobs import queries as jobs
from services.api.jobs.queries import JobFilter
from services.api.jobs.submissions import Answer, NewJob, Submissions, body_sha
from services.api.rest.caller import Caller
from services.api.rest.problems import Problem
from services.api.sql.database import Database
from services.api.sql.schema import DatabaseIsNewer
from services.api.sql.tables import Base, EventRow, IdempotencyRow, JobRow
from services.api.sync import lost_dispatches
from services.api.sync.dispatch import Dispatcher
from services.api.sync.event_bus import News
from services.api.sync.fair_queue import FairQueue
from services.api.sync.lost_dispatches import Losses
from services.api.sync.observer import Observer
from services.api.sync.reconciler import Reconciler
from services.contracts import keys
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import parse_spec
from services.contracts.messages import JobEvent, decode, encode
from services.contracts.rest.access import Scope
from services.contracts.rest.jobs import Origin
from services.contracts.states import Command, JobState
from services.kit.streams import FIELD

LOG = structlog.stdlib.get_logger("test")
TEAM = frozenset({Scope.READ, Scope.SUBMIT})
MINE, THEIRS = Caller("me", TEAM, "mine"), Caller("they", TEAM, "theirs")


def new_job(name: str = "a", *, key: str | None = None, caller: Caller = MINE, **more: Any) -> NewJob:
    document = {"name": name, "model": {"scratch": {}}, "rollout": {"max_completion_length": 6}}
    environment = EnvironmentInfo(id="grid", vocabulary=["go"])
    return NewJob(
        caller=caller, spec=parse_spec(document), environment=environment, key=key, sha=body_sha(document), **more
    )


async def stored(database: Database, new: NewJob | None = None) -> str:
    return (await Submissions(database).store(new or new_job())).job_id


async def row_of(database: Database, job: str) -> JobRow:
    async with database.read() as session:
        return await session.get_one(JobRow, job)


async def test_two_processes_that_start_together_migrate_once(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(3)]
    await asyncio.gather(*(one.migrate() for one in databases))
    assert len({one.revision for one in databases}) == 1
    async with databases[0].read() as session:
        connection = await session.connection()
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), Base.metadata)
        )
    assert differences == []
    await asyncio.gather(*(one.close() for one in databases))


def test_a_process_migrates_before_an_upgrade(database_url: str) -> None:
    def migrated(url: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "services.api.migrate"]
        variables = os.environ | {"API_DATABASE_URL": url}
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=False)

    done = migrated(database_url)
    assert done.returncode == 0, done.stderr
    assert "database_migrated" in done.stderr
    assert migrated("").returncode == 2


async def test_a_database_that_is_newer_than_the_code_is_refused(database: Database) -> None:
    async with database.write() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseIsNewer, match="9999"):
        await database.migrate()


async def test_submissions_at_the_same_time_are_each_stored_once(database: Database) -> None:
    submissions = Submissions(database)
    answers = await asyncio.gather(*(submissions.store(new_job(f"n{i}", key=f"k{i}")) for i in range(150)))
    assert all(answer.new for answer in answers)
    async with database.read() as session:
        assert await session.scalar(select(func.count()).select_from(JobRow)) == 150
        assert await session.scalar(select(func.count()).select_from(IdempotencyRow)) == 150


async def test_one_key_makes_one_job_however_many_processes_it_comes_to(database: Database) -> None:
    processes = [Submissions(database) for _ in range(4)]
    answers = await asyncio.gather(*(one.store(new_job(key="k")) for one in processes for _ in range(5)))
    assert len({answer.job_id for answer in answers}) == len({answer.body for answer in answers}) == 1
    assert sum(answer.new for answer in answers) == 1
    with pytest.raises(Problem, match="another request") as refused:
        await processes[0].store(new_job("b", key="k"))
    assert refused.value.status == 409


async def test_a_refused_key_does_not_keep_its_neighbours_from_being_stored(database: Database) -> None:
    submissions = Submissions(database)
    first = await submissions.store(new_job(key="k"))
    wanted = [new_job("b", key="k"), new_job("c"), new_job(key="k"), new_job("d", key="l")]
    refused, *others = await asyncio.gather(*map(submissions.store, wanted), return_exceptions=True)
    assert isinstance(refused, Problem)
    assert [(one.job_id == first.job_id, one.new) for one in others] == [(False, True), (True, False), (False, True)]


async def test_what_cannot_be_written_does_not_fail_its_neighbours(database: Database) -> None:
    submissions, good = Submissions(database), new_job("a")
    kwargs = good.spec.environment.model_copy(update={"environment_kwargs": {"a": "\ud800"}})
    bad = replace(new_job("b"), spec=good.spec.model_copy(update={"environment": kwargs}))
    failed, *others = await asyncio.gather(*map(submissions.store, [bad, good, new_job("c")]), return_exceptions=True)
    assert isinstance(failed, Exception)
    assert [isinstance(one, Answer) and one.new for one in others] == [True, True]


async def test_projects_share_neither_keys_nor_jobs(database: Database) -> None:
    theirs = await stored(database, new_job(key="k", caller=THEIRS))
    mine = await stored(database, new_job(key="k"))
    assert mine != theirs
    assert (await jobs.find(database, MINE, mine)).project_id == "mine"
    for call in (jobs.find(database, MINE, theirs), jobs.command(database, MINE, theirs, Command.CANCEL)):
        with pytest.raises(Problem, match=f"no job '{theirs}'"):
            await call
    page = await jobs.page(database, MINE, JobFilter(), limit=10, cursor=None)
    assert [job.id for job in page] == [mine]


async def test_lists_are_filtered_in_sql_and_paged_by_id(database: Database) -> None:
    origin = Origin(kind="fork", job_id="j0", checkpoint="final")
    first, second = await stored(database, new_job("a")), await stored(database, new_job("b", origin=origin))
    third = await stored(database, new_job("b", kind="evaluation"))
    created = (await row_of(database, second)).created_unix_s

    async def found(cursor: str | None = None, **wanted: Any) -> list[str]:
        return [job.id for job in await jobs.page(database, MINE, JobFilter(**wanted), limit=9, cursor=cursor)]

    assert await found() == sorted([first, second, third], reverse=True)
    assert await found(cursor=max(first, second, third)) == sorted([first, second, third], reverse=True)[1:]
    assert set(await found(name="b")) == {second, third}
    assert await found(name="b", kind="training") == [second]
    assert await found(parent_job="j0") == [second]
    assert await found(environment="nope") == await found(advantage_estimator="gigpo") == []
    assert len(await found(environment="grid", advantage_estimator="grpo", state=JobState.PENDING)) == 3
    assert first in await found(created_before=created)
    assert first not in await found(created_after=created)


async def say(redis: Redis, job: str, kind: str, *, at_unix_s: float = 1.0, **data: Any) -> None:
    await redis.xadd(keys.events_stream(job), {FIELD: encode(JobEvent(kind=kind, at_unix_s=at_unix_s, data=data))})


async def test_two_observers_store_each_event_once_and_in_order(database: Database, redis: Redis) -> None:
    job = await stored(database)
    observers = [Observer(redis, database, News(), LOG) for _ in range(2)]
    for batch in range(20):
        await say(redis, job, "metrics", batch=batch, value=float("nan"))
    await say(redis, job, "state", state="RUNNING")
    await asyncio.gather(*(one.observe() for one in observers))
    async with database.read() as session:
        rows = (await session.scalars(select(EventRow).order_by(EventRow.ms, EventRow.seq))).all()
    assert [row.data.get("batch") for row in rows] == [*range(20), None]
    assert rows[0].data == {"batch": 0, "value": None}
    row = await row_of(database, job)
    assert (row.state, row.started_unix_s, row.metrics) == ("RUNNING", 1.0, {"batch": 19, "value": None})
    assert row.event_id == rows[-1].stream_id


async def test_states_that_come_late_or_again_change_nothing_of_a_running_job(database: Database, redis: Redis) -> None:
    job, observer = await stored(database), Observer(redis, database, News(), LOG)
    await say(redis, job, "state", state="RUNNING")
    await say(redis, job, "state", state="QUEUED")  # the API's own word, late
    await say(redis, job, "phase", phase="training")
    await observer.observe()
    row = await row_of(database, job)
    assert (row.state, row.phase) == ("RUNNING", "training")
    await say(redis, job, "state", state="QUEUED", reason="no replica is free")
    await say(redis, job, "state", state="RUNNING", at_unix_s=2.0)
    observer.expect([job])
    await observer.observe()
    row = await row_of(database, job)
    assert (row.state, row.started_unix_s) == ("RUNNING", 1.0)


async def test_what_follows_an_end_is_stored_and_the_end_leaves_no_phase(database: Database, redis: Redis) -> None:
    job, observer = await stored(database), Observer(redis, database, News(), LOG)
    await say(redis, job, "phase", phase="training")
    await say(redis, job, "state", state="FAILED", error="x" * 5_000, at_unix_s=time.time())
    await observer.observe()
    row = await row_of(database, job)
    assert (row.state, row.phase, row.error) == ("FAILED", None, "x" * 4_000)
    await say(redis, job, "summary", env_steps=7)
    observer.expect([job])
    await observer.observe()
    assert (await row_of(database, job)).summary == {"env_steps": 7}


async def test_a_retry_begins_with_the_curve_of_what_it_goes_on_with(database: Database, redis: Redis) -> None:
    job = await stored(database)
    for batch in range(4):
        await say(redis, job, "metrics", batch=batch)
        await say(redis, job, "evaluation", label="during", version=batch)
    await say(redis, job, "state", state="FAILED", error="broken")
    await Observer(redis, database, News(), LOG).observe()
    retry = await stored(database, new_job(origin=Origin(kind="retry", job_id=job, checkpoint="b000002", version=2)))
    async with database.read() as session:
        rows = (await session.scalars(select(EventRow).where(EventRow.job_id == retry))).all()
    assert sorted((row.kind, row.data.get("batch", row.data.get("version"))) for row in rows) == [
        ("evaluation", 0), ("evaluation", 1), ("evaluation", 2), ("metrics", 0), ("metrics", 1)
    ]  # fmt: skip


class Told(Dispatcher):
    """A dispatcher whose queue is a list; `meanwhile` happens between the deed and its note."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, redis, None, told=lambda _: None)  # type: ignore[arg-type]
        self.queue: list[str] = []
        self.meanwhile: Any = None

    async def enqueue(self, job_ids: Any) -> None:
        self.queue += job_ids
        if self.meanwhile is not None:
            happening, self.meanwhile = self.meanwhile, None
            await happening()


@pytest.fixture
def told(redis: Redis) -> Told:
    return Told(redis)


@pytest.fixture
def reconciler(database: Database, told: Told, redis: Redis) -> Reconciler:
    queue = FairQueue(redis, redis, database)
    return Reconciler(database, told, queue, LOG, interval_s=1.0)


async def test_a_resume_that_comes_while_the_dispatch_is_noted_is_not_lost(
    database: Database, redis: Redis, told: Told, reconciler: Reconciler
) -> None:
    job, observer = await stored(database), Observer(redis, database, News(), LOG)

    async def pause_and_resume() -> None:
        await jobs.command(database, MINE, job, Command.PAUSE)
        await say(redis, job, "state", state="RUNNING")
        await say(redis, job, "state", state="PAUSED")
        await observer.observe()
        await jobs.command(database, MINE, job, Command.RUN)

    told.meanwhile = pause_and_resume
    await reconciler.reconcile()
    await reconciler.reconcile()
    await reconciler.reconcile()
    assert told.queue == [job, job]


async def test_a_pause_that_is_reached_before_the_dispatch_is_noted_makes_no_second_one(
    database: Database, redis: Redis, told: Told, reconciler: Reconciler
) -> None:
    job, observer = await stored(database), Observer(redis, database, News(), LOG)

    async def pause() -> None:
        await jobs.command(database, MINE, job, Command.PAUSE)
        await say(redis, job, "state", state="PAUSED")
        await observer.observe()

    told.meanwhile = pause
    for _ in range(3):
        await reconciler.reconcile()
    assert told.queue == [job]
    assert await redis.get(keys.control(job)) == b"pause"
    assert (await row_of(database, job)).state == "PAUSED"


async def test_a_dispatched_job_is_paused_by_its_trainer_alone(
    database: Database, redis: Redis, told: Told, reconciler: Reconciler
) -> None:
    job, observer = await stored(database), Observer(redis, database, News(), LOG)
    await reconciler.reconcile()
    await jobs.command(database, MINE, job, Command.PAUSE)
    await reconciler.reconcile()
    await observer.observe()
    assert (told.queue, await redis.get(keys.control(job))) == ([job], b"pause")
    assert (await row_of(database, job)).state == "QUEUED"


async def test_a_job_paused_before_it_was_dispatched_waits_until_it_is_resumed(
    database: Database, redis: Redis, told: Told, reconciler: Reconciler
) -> None:
    job, observer = await stored(database), Observer(redis, database, News(), LOG)
    await jobs.command(database, MINE, job, Command.PAUSE)
    await reconciler.reconcile()
    await observer.observe()
    assert (told.queue, (await row_of(database, job)).state) == ([], "PAUSED")
    await jobs.command(database, MINE, job, Command.RUN)
    await reconciler.reconcile()
    await reconciler.reconcile()
    assert told.queue == [job]


async def running(database: Database, redis: Redis, reconciler: Reconciler) -> tuple[str, Observer]:
    job, observer = await stored(database), Observer(redis, database, News(), LOG)
    await reconciler.reconcile()
    await say(redis, job, "state", state="RUNNING")
    await observer.observe()
    return job, observer


async def test_a_resume_before_the_pause_is_reached_starts_the_job_again(
    database: Database, redis: Redis, told: Told, reconciler: Reconciler
) -> None:
    job, observer = await running(database, redis, reconciler)
    for wanted in (Command.PAUSE, Command.RUN):
        await jobs.command(database, MINE, job, wanted)
        await reconciler.reconcile()
    assert told.queue == [job]
    await say(redis, job, "state", state="PAUSED")
    observer.expect([job])
    await observer.observe()
    await reconciler.reconcile()
    assert told.queue == [job, job]


async def test_a_cancelled_job_that_was_paused_is_given_to_a_trainer_that_ends_it(
    database: Database, redis: Redis, told: Told, reconciler: Reconciler
) -> None:
    job, observer = await running(database, redis, reconciler)
    await jobs.command(database, MINE, job, Command.PAUSE)
    await reconciler.reconcile()
    await say(redis, job, "state", state="PAUSED")
    observer.expect([job])
    await observer.observe()
    await jobs.command(database, MINE, job, Command.CANCEL)
    await reconciler.reconcile()
    assert told.queue == [job, job]


async def test_the_oldest_jobs_are_dispatched_first(database: Database, told: Told, reconciler: Reconciler) -> None:
    ordered = sorted([await stored(database, new_job(f"n{i}")) for i in range(5)])
    await reconciler.reconcile()
    assert told.queue == ordered


async def test_more_jobs_than_one_look_takes_are_dispatched_each_once(
    database: Database, told: Told, reconciler: Reconciler
) -> None:
    submissions = Submissions(database)
    answers = await asyncio.gather(*(submissions.store(new_job(f"n{i}")) for i in range(130)))
    assert await reconciler.reconcile()
    assert not await reconciler.reconcile()
    assert sorted(told.queue) == sorted(answer.job_id for answer in answers)


@pytest.fixture
def losses(database: Database, told: Told) -> Losses:
    return Losses(database, told, LOG, interval_s=1.0, wake=lambda: None)


async def test_a_dispatch_that_redis_lost_is_repeated_after_two_looks(
    database: Database, redis: Redis, told: Told, reconciler: Reconciler, losses: Losses
) -> None:
    job = await stored(database)
    await losses.look()
    await losses.look()
    assert not await redis.exists(keys.events_stream(job)), "what was not dispatched yet is not lost"
    await reconciler.reconcile()
    await redis.delete(keys.spec(job))
    for dispatches in (1, 2, 2, 3):  # the queue of these tests is not Redis's, so every dispatch is missing there
        await losses.look()
        await reconciler.reconcile()
        assert told.queue == [job] * dispatches
    assert await redis.exists(keys.spec(job), keys.environment(job)) == 2
    await Observer(redis, database, News(), LOG).observe()
    assert (await row_of(database, job)).state == "QUEUED"


async def test_a_command_that_redis_lost_is_told_again(
    database: Database, redis: Redis, reconciler: Reconciler, losses: Losses
) -> None:
    job = await stored(database)
    await reconciler.reconcile()
    await say(redis, job, "state", state="RUNNING")
    await Observer(redis, database, News(), LOG).observe()
    await jobs.command(database, MINE, job, Command.CANCEL)
    await reconciler.reconcile()
    await redis.set(keys.control(job), "run")  # as it was a second before
    await losses.look()
    assert not await reconciler.reconcile()
    assert await redis.get(keys.control(job)) == b"run", "one look alone may come too early"
    await losses.look()
    await reconciler.reconcile()
    assert await redis.get(keys.control(job)) == b"cancel"


async def test_a_loss_is_told_to_the_owner_and_mended_at_once_and_a_paused_job_has_none(
    database: Database, redis: Redis, told: Told, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_dispatches, "_PAGE", 1)
    paused, observer = await running(database, redis, reconciler)
    await jobs.command(database, MINE, paused, Command.PAUSE)
    await reconciler.reconcile()
    await say(redis, paused, "state", state="PAUSED")
    observer.expect([paused])
    await observer.observe()
    lost = sorted([await stored(database, new_job(f"n{i}")) for i in range(3)])
    await reconciler.reconcile()
    woken = list[None]()
    losses = Losses(database, told, LOG, interval_s=1.0, wake=lambda: woken.append(None))
    await losses.look()
    assert not woken
    await losses.look()
    await reconciler.reconcile()
    assert woken
    assert told.queue == [paused, *lost, *lost]
    for job in (paused, *lost):
        events = [decode(fields[FIELD], JobEvent) for _, fields in await redis.xrange(keys.events_stream(job))]
        assert ["had lost" in event.data["message"] for event in events if event.kind == "warning"] == [True] * (
            job in lost
        )


@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "PAUSED"])
@pytest.mark.parametrize(("wanted", "reached"), [(Command.PAUSE, "PAUSED"), (Command.CANCEL, "CANCELLED")])
async def test_a_command_is_fulfilled_without_a_message_or_by_another_one(
    database: Database,
    redis: Redis,
    told: Told,
    reconciler: Reconciler,
    losses: Losses,
    state: str,
    wanted: Command,
    reached: str,
) -> None:
    job, observer = await stored(database), Observer(redis, database, News(), LOG)
    await jobs.command(database, MINE, job, Command.RUN if state != "PAUSED" else Command.PAUSE)
    await reconciler.reconcile()
    if state == "RUNNING":
        await say(redis, job, "state", state="RUNNING")
    await observer.observe()
    assert (await row_of(database, job)).state == state
    dispatches = len(told.queue)
    await jobs.command(database, MINE, job, wanted)
    await reconciler.reconcile()
    await redis.delete(keys.events_stream(job), keys.control(job))  # with the event that would have ended it
    for _ in range(2):
        await losses.look()
        await reconciler.reconcile()
    assert await redis.get(keys.control(job)) == wanted.value.encode()
    if state == "RUNNING":
        assert len(told.queue) == dispatches + 1, "a trainer is to end or pause it"
    else:
        observer.expect([job])
        await observer.observe()
        assert (await row_of(database, job)).state == reached


async def test_who_went_away_leaves_a_stored_job_and_no_broken_neighbour(database: Database) -> None:
    submissions = Submissions(database)
    leaving = asyncio.create_task(submissions.store(new_job("gone", key="gone")))
    await asyncio.sleep(0)
    staying = asyncio.create_task(submissions.store(new_job("stays")))
    leaving.cancel()
    assert (await staying).new
    again = await submissions.store(new_job("gone", key="gone"))
    assert not again.new
