"""What a job took over stays or goes with the job, whoever went away in between."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from services.api.jobs.admission import Admission, Call
from services.api.jobs.submissions import Answer, NewJob, Submissions
from services.api.rest.caller import THIS_MACHINE
from services.api.rest.problems import Problem


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
