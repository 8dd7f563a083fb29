"""Removes what jobs shared and no job names any more: files of users, and models of the hub.

Only what the platform itself wrote is looked at. Files that were taken or fetched within the last hour stay: their job
may not be stored yet.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from collections.abc import Iterator, Set
from pathlib import Path

from sqlalchemy import select

from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.contracts.references import hub_store
from services.contracts.user_files import ARRIVING, files_root

LEAST_AGE_S = 3600.0
_HASH = re.compile(r"[0-9a-f]{64}")
_NAMED = re.compile(r"\bfile:([0-9a-f]{64})/")


async def remove_unnamed(database: Database, data_dir: Path) -> None:
    """Remove the files and models that no stored job names. What cannot be removed stays.

    Args:
        database: shows the jobs of all projects.
    """
    async with database.read() as session:
        specs = (await session.scalars(select(JobRow.spec))).all()
    files = {sha for spec in specs for sha in _NAMED.findall(json.dumps(spec))}
    models = [model for spec in specs if isinstance(model := spec.get("model"), dict)]
    commits = {str(revision) for model in models if (revision := model.get("model_revision"))}
    await asyncio.to_thread(_remove, data_dir, files, commits)


def _remove(data_dir: Path, files: Set[str], commits: Set[str]) -> None:
    for folder in _old_folders(files_root(data_dir)):
        if folder.name.startswith(ARRIVING) or (_HASH.fullmatch(folder.name) and folder.name not in files):
            shutil.rmtree(folder, ignore_errors=True)
    from huggingface_hub import CacheNotFound, scan_cache_dir  # imported at the first use, as in `hub`

    try:
        cache = scan_cache_dir(hub_store(data_dir))
    except (CacheNotFound, OSError):
        return
    before = time.time() - LEAST_AGE_S
    revisions = [one for repo in cache.repos for one in repo.revisions if one.last_modified < before]
    if unnamed := [one.commit_hash for one in revisions if one.commit_hash not in commits]:
        cache.delete_revisions(*unnamed).execute()


def _old_folders(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        return
    for folder in root.iterdir():
        if folder.is_dir() and not folder.is_symlink() and time.time() - folder.stat().st_mtime > LEAST_AGE_S:
            yield folder
