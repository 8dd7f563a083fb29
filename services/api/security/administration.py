"""The use cases on keys and projects."""

from __future__ import annotations

import time

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from services.api.rest.problems import Problem, not_found
from services.api.security.keys import new_key
from services.api.security.quotas import usage
from services.api.sql.access_tables import KeyRow, ProjectRow
from services.api.sql.database import Database
from services.contracts.rest.access import (
    CreatedKey,
    KeyView,
    NewKeyRequest,
    NewProject,
    ProjectUsage,
    ProjectView,
    Quotas,
)


async def create_key(database: Database, wanted: NewKeyRequest) -> CreatedKey:
    """Make a key. Raises Problem 422 for an unknown project or an expiry that has passed."""
    now = time.time()
    if wanted.expires_unix_s is not None and wanted.expires_unix_s <= now:
        sentence = f"want a time to come, got {wanted.expires_unix_s:g}, now it is {now:.0f}"
        raise Problem(422, f"expires_unix_s: {sentence}", errors=[("expires_unix_s", sentence)])
    made = new_key()
    row = KeyRow(
        id=made.id,
        name=wanted.name,
        secret_hash=made.secret_hash,
        scopes=" ".join(sorted(set(wanted.scopes))),
        project_id=wanted.project,
        created_unix_s=now,
        expires_unix_s=wanted.expires_unix_s,
    )
    try:
        async with database.write() as session:
            session.add(row)
    except IntegrityError as error:
        sentence = f"no project {wanted.project!r}"
        raise Problem(422, f"project: {sentence}", errors=[("project", sentence)]) from error
    return CreatedKey(**_key_view(row).model_dump(), key=made.token)


async def keys(database: Database) -> list[KeyView]:
    """Every key in order of age, the revoked ones too."""
    async with database.read() as session:
        rows = await session.scalars(select(KeyRow).order_by(KeyRow.created_unix_s, KeyRow.id))
        return [_key_view(row) for row in rows]


async def key(database: Database, key_id: str) -> KeyView:
    """One key. Raises Problem 404."""
    async with database.read() as session:
        row = await session.get(KeyRow, key_id)
    if row is None:
        raise not_found("key", key_id)
    return _key_view(row)


async def revoke_key(database: Database, key_id: str) -> None:
    """Make a key invalid for ever; revoking twice is once. Raises Problem 404."""
    async with database.write() as session:
        row = await session.get(KeyRow, key_id)
        if row is None:
            raise not_found("key", key_id)
        row.revoked_unix_s = row.revoked_unix_s or time.time()


async def create_project(database: Database, wanted: NewProject) -> ProjectView:
    """Make a project. Raises Problem 409 when there is one of this id."""
    row = ProjectRow(id=wanted.id, created_unix_s=time.time(), storage_bytes=0, **wanted.quotas.model_dump())
    try:
        async with database.write() as session:
            session.add(row)
    except IntegrityError as error:
        raise Problem(409, f"the project {wanted.id!r} exists already") from error
    return await project(database, wanted.id)


async def projects(database: Database) -> list[ProjectView]:
    """Every project in order of id."""
    async with database.read() as session:
        ids = (await session.scalars(select(ProjectRow.id).order_by(ProjectRow.id))).all()
    return [await project(database, one) for one in ids]


async def project(database: Database, project_id: str) -> ProjectView:
    """One project with what it uses. Raises Problem 404."""
    async with database.read() as session:
        row = await session.get(ProjectRow, project_id)
        if row is None:
            raise not_found("project", project_id)
        used = await usage(session, project_id)
    return ProjectView(
        id=row.id,
        created_unix_s=row.created_unix_s,
        quotas=Quotas.model_validate(row, from_attributes=True),
        usage=ProjectUsage(
            concurrent_jobs=used.concurrent_jobs, total_steps=used.total_steps, storage_bytes=row.storage_bytes
        ),
    )


async def set_quotas(database: Database, project_id: str, wanted: Quotas) -> ProjectView:
    """Change the quotas that are named and leave the others. Raises Problem 404."""
    async with database.write() as session:
        row = await session.get(ProjectRow, project_id)
        if row is None:
            raise not_found("project", project_id)
        for name in wanted.model_fields_set:
            setattr(row, name, getattr(wanted, name))
    return await project(database, project_id)


def _key_view(row: KeyRow) -> KeyView:
    return KeyView(
        id=row.id,
        name=row.name,
        prefix=f"gigpo_{row.id}_",
        scopes=row.scopes.split(),
        project=row.project_id,
        created_unix_s=row.created_unix_s,
        expires_unix_s=row.expires_unix_s,
        revoked_unix_s=row.revoked_unix_s,
        last_used_unix_s=row.last_used_unix_s,
    )
