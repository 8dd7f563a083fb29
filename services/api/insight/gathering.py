"""Gathers the evidence of a diagnosis from SQL, from the job's archives, and from the ledger of a running job."""

from __future__ import annotations

import asyncio
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.api.artifacts.rollouts import RolloutArchive
from services.api.insight.diagnosis import checked, findings
from services.api.insight.evidence import Evidence
from services.api.rest.problems import Problem
from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.api.sync import feed
from services.contracts.archive import Group
from services.contracts.rest.insight import Diagnosis
from services.contracts.summary import JobSummary
from services.ledger import Ledger, RecordUnreadable

NEWEST_BATCHES, ENOUGH_GROUPS = 3, 64
"""Stored batches that are looked at; fewer where one has so many groups already."""


async def diagnose(database: Database, redis: Redis, archive: RolloutArchive, folder: Path, job: JobRow) -> Diagnosis:
    """The findings that keep the job from learning."""
    evidence = await gathered(database, redis, archive, folder, job)
    found = await asyncio.to_thread(findings, evidence)
    return Diagnosis(
        job_id=job.id,
        batches=len(evidence.metrics),
        groups=len(evidence.groups),
        findings=found,
        checked=checked(),
    )


async def gathered(database: Database, redis: Redis, archive: RolloutArchive, folder: Path, job: JobRow) -> Evidence:
    """Everything that the job has said of itself so far."""
    opened, dropped = await _ledger(redis, job)
    measured = await feed.evaluations(database, job.id)
    return Evidence(
        spec=job.spec,
        metrics=await feed.metrics(database, job.id),
        groups=await asyncio.to_thread(newest_groups, archive, folder),
        evaluations={str(one.get("label")): one for one in measured},
        opened=opened,
        dropped=dropped,
        warnings=[one.message for one in await feed.warnings(database, job.id)],
    )


def newest_groups(archive: RolloutArchive, folder: Path) -> list[Group]:
    """Groups of the newest trained batches; what cannot be read is left out."""
    found: list[Group] = []
    for batch in archive.batches(folder)[: -NEWEST_BATCHES - 1 : -1]:
        try:
            found += archive.groups(folder, batch)[1]
        except Problem:  # it is broken, or was trained again meanwhile
            continue
        if len(found) >= ENOUGH_GROUPS:
            break
    return found


async def _ledger(redis: Redis, job: JobRow) -> tuple[int, dict[str, int]]:
    """Groups opened, and dropped by reason; 0 where nobody knows. An ended job's summary has both."""
    if job.summary is not None:
        ledger = JobSummary.model_validate(job.summary).ledger
        return ledger.opened, ledger.dropped
    try:
        balance = await Ledger(redis, job.id).balance()
    except (RecordUnreadable, RedisError, OSError):
        return 0, {}
    return balance.opened, {str(reason): count for reason, count in balance.dropped.items()}
