"""Keys, projects, the audit log, and the caller's own identity."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from services.api.http.app_parts import Parts
from services.api.http.routes.collections import Wanted
from services.api.http.routes.parameters import TEXT
from services.api.rest.caller import Asking
from services.api.rest.problems import responses
from services.api.security import administration
from services.api.sql.access_tables import AuditRow
from services.contracts.rest.access import (
    AuditEntry,
    AuditPage,
    CreatedKey,
    KeyPage,
    KeyView,
    NewKeyRequest,
    NewProject,
    ProjectPage,
    ProjectView,
    Quotas,
    WhoAmI,
)

router = APIRouter(prefix="/v1", tags=["administration"])

KeyId = Annotated[str, Path(max_length=64, pattern=TEXT, description="Id of the key.", examples=["88da96c49dba"])]
ProjectId = Annotated[str, Path(max_length=64, pattern=TEXT, description="Id of the project.", examples=["robots"])]


@router.get("/whoami")
async def show_caller(caller: Asking) -> WhoAmI:
    """The caller's key, project and scopes."""
    return WhoAmI(
        name=caller.name,
        key_id=caller.key_id,
        project=caller.project_id,
        scopes=sorted(caller.scopes),
        sees_every_project=caller.sees is None,
    )


@router.post("/keys", status_code=201, responses=responses(422))
async def create_key(wanted: NewKeyRequest, parts: Parts, response: Response) -> CreatedKey:
    """Make a key. This answer holds it as a whole; afterwards nobody can read it, we neither."""
    made = await administration.create_key(parts.database, wanted)
    response.headers["Location"] = f"/v1/keys/{made.id}"
    return made


@router.get("/keys")
async def list_keys(parts: Parts, wanted: Wanted) -> KeyPage | list[KeyView]:
    """Keys, the revoked ones too."""
    return wanted.of(KeyPage, await administration.keys(parts.database))


@router.get("/keys/{key_id}", responses=responses(404))
async def show_key(key_id: KeyId, parts: Parts) -> KeyView:
    """One key, without its secret."""
    return await administration.key(parts.database, key_id)


@router.delete("/keys/{key_id}", status_code=204, responses=responses(404))
async def revoke_key(key_id: KeyId, parts: Parts) -> None:
    """Revoke a key: this process refuses it at once, others within five seconds; its browser sessions end with it."""
    await administration.revoke_key(parts.database, key_id)
    parts.security.authenticator.forget(key_id)


@router.post("/projects", status_code=201, responses=responses(409, 422))
async def create_project(wanted: NewProject, parts: Parts, response: Response) -> ProjectView:
    """Make a project."""
    made = await administration.create_project(parts.database, wanted)
    response.headers["Location"] = f"/v1/projects/{made.id}"
    return made


@router.get("/projects")
async def list_projects(parts: Parts, wanted: Wanted) -> ProjectPage | list[ProjectView]:
    """Projects, with their quotas and what they use."""
    return wanted.of(ProjectPage, await administration.projects(parts.database))


@router.get("/projects/{project_id}", responses=responses(404))
async def show_project(project_id: ProjectId, parts: Parts) -> ProjectView:
    """One project, with its quotas and what it uses."""
    return await administration.project(parts.database, project_id)


@router.patch("/projects/{project_id}", responses=responses(404, 422))
async def set_quotas(project_id: ProjectId, wanted: Quotas, parts: Parts) -> ProjectView:
    """Change the quotas that are named; null lifts one."""
    return await administration.set_quotas(parts.database, project_id, wanted)


@router.get("/audit")
async def list_audit_entries(
    parts: Parts,
    limit: Annotated[int, Query(ge=1, le=500, description="Largest number of entries on a page.")] = 100,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,18}$", description="`next_cursor` of the previous page.")
    ] = None,
) -> AuditPage:
    """Every attempt to change something, newest first."""
    rows = await parts.security.audit.page(limit=limit + 1, before=int(cursor) if cursor else None)
    more = str(rows[limit - 1].id) if len(rows) > limit else None
    return AuditPage(items=[_entry(row) for row in rows[:limit]], next_cursor=more)


def _entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at_unix_s=row.at_unix_s,
        actor=row.actor,
        key_id=row.key_id,
        project=row.project_id,
        address=row.address,
        method=row.method,
        path=row.path,
        made=row.made,
        status=row.status,
    )
