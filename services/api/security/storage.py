"""Measures each project's use of shared storage, once a minute because it is too slow for every submission."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError
from structlog.stdlib import BoundLogger

from services.api.sql.access_tables import ProjectRow
from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.contracts.jobfolder import all_jobs

INTERVAL_S = 60.0


class StorageMeter:
    """One loop that writes `ProjectRow.storage_bytes`."""

    def __init__(self, database: Database, data_dir: Path, log: BoundLogger) -> None:
        self._database, self._jobs, self._log = database, all_jobs(data_dir), log

    async def run(self) -> None:
        """Measure every minute without end; a project that can't be measured now is measured a minute later."""
        while True:
            try:
                await self.measure()
            except (OSError, SQLAlchemyError) as error:
                self._log.warning("measure_later", error=repr(error))
            await asyncio.sleep(INTERVAL_S)

    async def measure(self) -> None:
        """Look at every job's folder and note each project's sum."""
        async with self._database.read() as session:
            projects = {job: of for job, of in await session.execute(select(JobRow.id, JobRow.project_id))}
            sizes = await session.execute(select(ProjectRow.id, ProjectRow.storage_bytes))
            stored = {project: size for project, size in sizes}
        sums = await asyncio.to_thread(self._sums, projects)
        changed = [project for project, size in stored.items() if sums[project] != size]
        for project in changed:
            async with self._database.write() as session:
                values = {"storage_bytes": sums[project]}
                await session.execute(update(ProjectRow).where(ProjectRow.id == project).values(**values))

    def _sums(self, projects: dict[str, str]) -> Counter[str]:
        sums: Counter[str] = Counter()
        if self._jobs.is_dir():
            for folder in os.scandir(self._jobs):
                if folder.name in projects and folder.is_dir(follow_symlinks=False):
                    sums[projects[folder.name]] += _size(folder.path)
        return sums


def _size(folder: str) -> int:
    """Bytes of all files below; a file that vanishes meanwhile counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue
    return total
