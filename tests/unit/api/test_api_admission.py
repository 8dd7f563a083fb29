"""A job's inherited files stay or go with the job, whoever went away in between; repeated calls get one answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from services.api.jobs.admission import Admission, Call
from services.api.jobs.preflight import Opening
from services.api.jobs.submissions import Answer, NewJob, Submissions
from services.api.rest.caller import THIS_MACHINE, Caller
from services.api.rest.problems import Problem
from services.api.sql.access_tables import ProjectRow
from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec, parse_spec
from services.contracts.rest.access import Quotas, Scope
from services.contracts.rest.catalogue import EnvironmentView


class Taken:
    def bring(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "model").write_text("weights")


class Store:
    """Answers once it is told to."""

    def __init__(self, outcome: bool | Exception) -> None:
        self.asked, self.told, self._outcome = asyncio.Event(), asyncio.Event(), outcome

    async def store(self, new: NewJob) -> Answer:
        self.asked.set()
        await self.told.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return Answer(new.id, "{}", new=self._outcome)


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        (True, True),
        (False, False),
        (Problem(429, "too many"), False),
        (OperationalError("COMMIT", {}, OSError("lost")), True),
    ],
)
async def test_the_folder_goes_only_when_the_job_was_refused(
    tmp_path: Path, outcome: bool | Exception, kept: bool, leaves: bool
) -> None:
    woken = asyncio.Event()
    nothing: Any = SimpleNamespace()
    admission = Admission(nothing, nothing, data_dir=tmp_path, model_roots=[], engines=[], trackers=[], wake=woken.set)
    store: Any = Store(outcome)
    admission._submissions = store
    taken: Any = Taken()
    asking = asyncio.create_task(
        admission._store(Call(THIS_MACHINE, None, ""), nothing, nothing, origin=None, taken=taken)
    )
    await store.asked.wait()
    others = asyncio.all_tasks() - {asyncio.current_task(), asking}
    if leaves:
        asking.cancel()
    store.told.set()
    await asyncio.gather(asking, *others, return_exceptions=True)
    assert bool([*tmp_path.rglob("model")]) == kept
    assert woken.is_set() == (outcome is True)


class Broken:
    """A database that another process was faster in, and that cannot be asked about it."""

    def write(self) -> Any:
        raise IntegrityError("INSERT", {}, Exception("twice"))

    def read(self) -> Any:
        raise OperationalError("SELECT", {}, OSError("lost"))


async def test_a_submission_whose_lost_race_cannot_be_looked_up_is_answered() -> None:
    database: Any = Broken()
    new: Any = SimpleNamespace(caller=THIS_MACHINE, key="k", sha="s")
    async with asyncio.timeout(30):
        with pytest.raises(OperationalError):
            await Submissions(database).store(new)


SPEC = parse_spec({"model": {"scratch": {}}, "rollout": {"max_completion_length": 8}})
OTHER_PROJECT = Caller("somebody", frozenset({Scope.SUBMIT}), project_id="other")


class NoEnvironments:
    """A catalogue that lost what it had: no spec passes any more."""

    async def list(self) -> list[EnvironmentView]:
        return []


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'api.db'}")
    await database.migrate()
    async with database.write() as session:
        session.add(ProjectRow(id="other", created_unix_s=0.0, storage_bytes=0, **Quotas().model_dump()))
    yield database
    await database.close()


def refusing(database: Database, folder: Path) -> Admission:
    """An admission that takes no new job."""
    catalogue: Any = NoEnvironments()
    return Admission(
        database, catalogue, data_dir=folder, model_roots=[], engines=["vllm"], trackers=[], wake=lambda: None
    )


async def stored(database: Database, caller: Caller, key: str) -> Answer:
    """A job that this key was used for."""
    environment = EnvironmentInfo(id="grid")
    return await Submissions(database).store(
        NewJob(caller=caller, spec=SPEC, environment=environment, key=key, sha="s")
    )


async def row_of(database: Database, job: str) -> JobRow:
    async with database.read() as session:
        row = await session.get(JobRow, job)
    assert row is not None
    return row


async def test_a_repeated_submission_gets_its_first_answer_though_the_spec_would_be_refused_now(
    database: Database, tmp_path: Path
) -> None:
    first, admission = await stored(database, THIS_MACHINE, "k"), refusing(database, tmp_path)
    assert (await admission.submit(Call(THIS_MACHINE, "k", "s"), SPEC)).job_id == first.job_id
    for key in (None, "another"):
        with pytest.raises(Problem, match="unknown environment 'grid', known: none") as refused:
            await admission.submit(Call(THIS_MACHINE, key, "s"), SPEC)
        assert refused.value.status == 422
    with pytest.raises(Problem, match=r"was used for job .* with another request"):
        await admission.submit(Call(THIS_MACHINE, "k", "another body"), SPEC)


async def test_a_repeated_retry_gets_its_first_answer_in_the_job_s_project_whoever_asks(
    database: Database, tmp_path: Path
) -> None:
    first, admission = await stored(database, OTHER_PROJECT, "k"), refusing(database, tmp_path)
    job = await row_of(database, first.job_id)  # it waits, so no other retry of it is taken
    for caller in (OTHER_PROJECT, THIS_MACHINE):  # the second one is an administrator of another project
        assert (await admission.retry(Call(caller, "k", "s"), job)).job_id == first.job_id
    for key in (None, "another"):
        with pytest.raises(Problem, match="want a failed or cancelled job, got state PENDING"):
            await admission.retry(Call(THIS_MACHINE, key, "s"), job)


class OneEnvironment:
    """A catalogue with an environment that opens."""

    def __init__(self, *, names_actions: bool = True) -> None:
        self._opening = Opening(names_actions=names_actions)

    async def list(self) -> list[EnvironmentView]:
        return [EnvironmentView(info=EnvironmentInfo(id="grid", vocabulary=["go"]))]

    async def opening(self, spec: JobSpec, kwargs: object) -> Opening:
        return self._opening


@pytest.mark.parametrize("named", [True, False])
async def test_guided_decoding_wants_an_environment_that_names_its_actions(
    database: Database, tmp_path: Path, named: bool
) -> None:
    catalogue: Any = OneEnvironment(names_actions=named)
    admission = Admission(
        database, catalogue, data_dir=tmp_path, model_roots=[], engines=["vllm"], trackers=[], wake=lambda: None
    )
    rollout = {"max_completion_length": 8, "guided_decoding": "admissible_actions"}
    spec = parse_spec({"model": {"scratch": {}}, "rollout": rollout})
    if named:
        assert await admission.dry_run(THIS_MACHINE, spec)
        return
    with pytest.raises(Problem, match="wants an environment that names them in its observations, grid names none"):
        await admission.dry_run(THIS_MACHINE, spec)


async def test_a_submission_warns_of_what_its_dry_run_warns_of(database: Database, tmp_path: Path) -> None:
    catalogue: Any = OneEnvironment()
    admission = Admission(
        database, catalogue, data_dir=tmp_path, model_roots=[], engines=["vllm"], trackers=[], wake=lambda: None
    )
    training = {"total_batches": 3, "warmup_batches": 9}
    spec = parse_spec({**SPEC.model_dump(exclude_unset=True), "training": training})
    foretold = (await admission.dry_run(THIS_MACHINE, spec)).warnings
    assert [one.partition(":")[0] for one in foretold] == ["warmup_batches", "learning_rate"]
    answer = await admission.submit(Call(THIS_MACHINE, None, "s"), spec)
    assert json.loads(answer.body)["warnings"] == foretold
