"""Scoped sessions, quotas, the audit log and the storage meter, on each database."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import delete, func, insert, select, text, update

from services.api.jobs.submissions import NewJob, Submissions, body_sha
from services.api.rest.caller import Caller
from services.api.security.administration import create_project, project, set_quotas
from services.api.security.audit import AuditLog
from services.api.security.quotas import steps_wanted
from services.api.security.storage import StorageMeter
from services.api.sql.access_tables import KeyRow, ProjectRow
from services.api.sql.database import Database
from services.api.sql.scoping import OutOfScope
from services.api.sql.tables import EventRow, IdempotencyRow, JobRow
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import parse_spec
from services.contracts.rest.access import NewProject, Quotas, Scope

TEAM = frozenset({Scope.READ, Scope.SUBMIT})
ANTS, BEES = Caller("ant", TEAM, "ants"), Caller("bee", TEAM, "bees")
SPEC = parse_spec({"model": {"scratch": {}}, "rollout": {"max_completion_length": 6}})


async def submit(database: Database, caller: Caller) -> str:
    new = NewJob(caller=caller, spec=SPEC, environment=EnvironmentInfo(id="grid"), key="k", sha=body_sha(1))
    job = (await Submissions(database).store(new)).job_id
    async with database.write() as session:
        session.add(EventRow(job_id=job, ms=1, seq=0, kind="state", at_unix_s=0.0, data={}))
    return job


@pytest.fixture
async def teams(database: Database) -> tuple[Database, str, str]:
    """A database with a job of each team."""
    for name in ("ants", "bees"):
        await create_project(database, NewProject(id=name))
    return database, await submit(database, ANTS), await submit(database, BEES)


async def test_every_form_of_statement_is_confined(teams: tuple[Database, str, str]) -> None:
    database, mine, theirs = teams
    async with database.seen_by(ANTS).write() as session:
        assert (await session.scalars(select(JobRow.id))).all() == [mine]
        assert (await session.scalars(select(EventRow.job_id))).all() == [mine]
        assert (await session.scalars(select(IdempotencyRow.job_id))).all() == [mine]
        assert (await session.scalars(select(ProjectRow.id))).all() == ["ants"]
        assert await session.scalar(select(func.count()).select_from(JobRow)) == 1
        assert await session.get(JobRow, theirs) is None
        assert await session.get(EventRow, (theirs, 1, 0)) is None
        everything = select(JobRow.id).where(JobRow.id == theirs).union_all(select(JobRow.id))
        assert (await session.scalars(everything)).all() == [mine]
        joined = select(EventRow.job_id).join(JobRow, JobRow.id == EventRow.job_id)
        assert (await session.scalars(joined)).all() == [mine]
        await session.execute(update(JobRow).values(name="changed"))
    async with database.read() as session:
        names = {job: name for job, name in await session.execute(select(JobRow.id, JobRow.name))}
    assert names == {mine: "changed", theirs: None}


async def test_what_no_rule_covers_is_refused(teams: tuple[Database, str, str]) -> None:
    database, mine, _ = teams
    jobs = JobRow.__table__
    values: dict[str, Any] = {"job_id": mine, "ms": 2, "seq": 0, "kind": "x", "at_unix_s": 0.0, "data": {}}
    statements = (
        select(KeyRow),
        select(jobs),
        select(JobRow.id).join(KeyRow, KeyRow.project_id == JobRow.project_id),
        select(JobRow.id).where(JobRow.id.in_(select(KeyRow.id))),
        text("SELECT id FROM jobs"),
        insert(EventRow).values(values),
        update(KeyRow).values(name="x"),
        update(JobRow).values(name=select(KeyRow.secret_hash).limit(1).scalar_subquery()),
        delete(KeyRow),
        delete(jobs),
    )
    for statement in statements:
        async with database.seen_by(ANTS).read() as session:
            with pytest.raises(OutOfScope):
                await session.execute(statement)
    with pytest.raises(OutOfScope):
        async with database.seen_by(ANTS).write() as session:
            session.add(EventRow(**{**values, "ms": 3}))


async def test_an_administrator_and_the_loops_of_the_process_see_everything(teams: tuple[Database, str, str]) -> None:
    database, mine, theirs = teams
    for seen in (database, database.seen_by(Caller("a", frozenset({Scope.ADMIN}), "ants"))):
        async with seen.read() as session:
            assert set((await session.scalars(select(JobRow.id))).all()) == {mine, theirs}


async def test_steps_are_what_was_played_and_what_can_still_be(teams: tuple[Database, str, str]) -> None:
    database, mine, _ = teams
    assert (await project(database, "ants")).usage.total_steps == steps_wanted(SPEC) == 60 * 16 * 8 * 20
    for values, expected in (
        ({"state": "RUNNING", "started_unix_s": 1.0}, steps_wanted(SPEC)),
        ({"state": "FAILED"}, steps_wanted(SPEC)),
        ({"state": "SUCCEEDED", "summary": {"env_steps": 1234}}, 1234),
        ({"state": "CANCELLED", "summary": None, "started_unix_s": None}, 0),
    ):
        async with database.write() as session:
            await session.execute(update(JobRow).where(JobRow.id == mine).values(**values))
        assert (await project(database, "ants")).usage.total_steps == expected


async def test_quotas_hold_when_many_submit_at_the_same_time(teams: tuple[Database, str, str]) -> None:
    database = teams[0]
    await set_quotas(database, "ants", Quotas(max_concurrent_jobs=4))
    processes = [Submissions(database) for _ in range(3)]
    new = [NewJob(caller=ANTS, spec=SPEC, environment=EnvironmentInfo(id="grid")) for _ in range(12)]
    calls = (processes[number % 3].store(one) for number, one in enumerate(new))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, Exception)]
    assert len(refused) == 9  # one job is there already
    assert {getattr(one, "status", None) for one in refused} == {429}
    assert (await project(database, "ants")).usage.concurrent_jobs == 4


async def test_entries_of_the_audit_log_are_all_there_and_in_order(database: Database) -> None:
    log = AuditLog(database, structlog.get_logger())
    entry = {"actor": "me", "address": "::1", "method": "POST", "path": "/v1/jobs", "status": 201, "made": None}
    entries = [
        {**entry, "at_unix_s": float(number), "key_id": None, "project_id": f"p{number}"} for number in range(200)
    ]
    await asyncio.gather(*(log.add(one) for one in entries))
    newest = await log.page(limit=150, before=None)
    older = await log.page(limit=150, before=newest[-1].id)
    assert [row.project_id for row in [*newest, *older]] == [f"p{number}" for number in reversed(range(200))]


async def test_storage_is_what_the_jobs_folders_hold(teams: tuple[Database, str, str], tmp_path: Path) -> None:
    database, mine, theirs = teams
    for job, size in ((mine, 1000), (theirs, 30), ("unknown", 7)):
        folder = tmp_path / "jobs" / job / "final"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"x" * size)
    (tmp_path / "jobs" / mine / "big").symlink_to("/proc/kcore")
    meter = StorageMeter(database, tmp_path, structlog.get_logger())
    await meter.measure()
    ants = (await project(database, "ants")).usage.storage_bytes
    assert 1000 <= ants < 1100  # the link itself counts, not what it leads to
    assert (await project(database, "bees")).usage.storage_bytes == 30
    (tmp_path / "jobs" / theirs / "final" / "model.safetensors").unlink()
    await meter.measure()
    assert (await project(database, "bees")).usage.storage_bytes == 0
    assert (await project(database, "default")).created_unix_s <= time.time()
