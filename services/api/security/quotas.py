"""Quotas of projects: their limits, their use, and the check for one more job in the transaction that stores it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import BigInteger, ColumnElement, case, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.api.rest.problems import Problem
from services.api.sql.access_tables import ProjectRow
from services.api.sql.tables import JobRow
from services.contracts.job import JobSpec
from services.contracts.states import TERMINAL

_ENDED = [state.value for state in TERMINAL]
_RETRY_AFTER_S = 300
"""A job takes minutes: longer than a client waits by itself, so that the refusal is told instead of waited out."""


@dataclass(frozen=True)
class Usage:
    """The resources of a project's jobs."""

    concurrent_jobs: int
    """Jobs that have not ended."""
    total_steps: int
    """Steps played by jobs that have ended, and the most that the others can play."""


def steps_wanted(spec: JobSpec) -> int:
    """The most training steps that a job of this spec can play; evaluation and warm start are not counted."""
    groups = spec.training.total_batches * spec.rollout.groups_per_batch
    return groups * spec.rollout.num_generations * spec.environment.max_turns


async def usage(session: AsyncSession, project: str) -> Usage:
    """The current use of the project."""
    live = JobRow.state.not_in(_ENDED)
    query = select(func.count().filter(live), func.coalesce(func.sum(_steps()), 0)).where(JobRow.project_id == project)
    jobs, steps = (await session.execute(query)).one()
    return Usage(int(jobs), int(steps))


async def locked_projects(session: AsyncSession, projects: Iterable[str]) -> dict[str, ProjectRow]:
    """The projects by id; until the transaction ends no other one can submit to them."""
    query = select(ProjectRow).where(ProjectRow.id.in_(projects)).order_by(ProjectRow.id).with_for_update()
    return {row.id: row for row in await session.scalars(query)}


async def admit(session: AsyncSession, row: ProjectRow | None, spec: JobSpec) -> None:
    """Make sure that one more job fits its locked project, in the transaction that stores it.

    Raises:
        Problem: 429, it will when another job has ended; 403, it will not. Both name quota, use and wish.
    """
    if row is None or (row.max_concurrent_jobs, row.max_total_steps, row.max_storage_bytes) == (None, None, None):
        return
    used, wanted = await usage(session, row.id), steps_wanted(spec)
    _fit(row.id, "max_storage_bytes", row.max_storage_bytes, row.storage_bytes, 1)
    _fit(row.id, "max_total_steps", row.max_total_steps, used.total_steps, wanted)
    _fit(row.id, "max_concurrent_jobs", row.max_concurrent_jobs, used.concurrent_jobs, 1)


def _fit(project: str, name: str, quota: int | None, used: int, asked: int) -> None:
    if quota is None or used + asked <= quota:
        return
    sentence = f"project {project}: want at most {quota} ({name}), {used} are used and {asked} more were requested"
    passes = name == "max_concurrent_jobs" and quota > 0
    headers = {"Retry-After": str(_RETRY_AFTER_S)} if passes else {}
    raise Problem(429 if passes else 403, sentence, errors=[(name, sentence)], headers=headers)


def _steps() -> ColumnElement[int]:
    """Episodes of one job: those played where it says so, none where it never began, otherwise the most it can play."""

    def number(*path: str) -> ColumnElement[int]:
        return cast(JobRow.spec[path].as_string(), BigInteger)

    most = number("training", "total_batches") * number("rollout", "groups_per_batch")
    most = most * number("rollout", "num_generations") * number("environment", "max_turns")
    played = cast(JobRow.summary["env_steps"].as_string(), BigInteger)
    ended = JobRow.state.in_(_ENDED)
    return case((ended & played.is_not(None), played), (ended & JobRow.started_unix_s.is_(None), 0), else_=most)
