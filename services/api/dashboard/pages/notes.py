"""Actions on kept jobs: name, tags, notes, archive, delete; on one job, or on all that are selected."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from services.api.dashboard.forms import Form, Pairs
from services.api.dashboard.rendering import PageRoute
from services.api.http.app_parts import Container, Parts
from services.api.http.routes.parameters import FoundJob, JobId
from services.api.jobs import queries as jobs
from services.api.jobs.annotations import annotate
from services.api.jobs.removal import Removal
from services.api.rest.caller import Asking, Caller
from services.api.rest.problems import Problem, bad_spec
from services.contracts.plain_errors import in_words
from services.contracts.rest.jobs import JobChanges

router = APIRouter(prefix="/jobs", route_class=PageRoute, include_in_schema=False)

Action = Literal["archive", "unarchive", "delete", "tag", "untag"]


async def _ticked(pairs: Pairs) -> list[str]:
    """Ids of the jobs that are ticked. Raises Problem 422: there are none."""
    found = list(dict.fromkeys(value for name, value in pairs if name == "job"))
    if not found:
        raise Problem(422, "want at least one job: tick those that are meant")
    return found


Ticked = Annotated[list[str], Depends(_ticked)]


@router.post("/chosen/{action}")
async def do_to_chosen(action: Action, ticked: Ticked, fields: Form, parts: Parts, caller: Asking) -> RedirectResponse:
    """Do it to every job that is ticked; what cannot be done to one is said after the others are done."""
    refused: list[str] = []
    for job_id in ticked:
        try:
            await _do(action, job_id, fields.get("tag", "").split(), parts, caller)
        except Problem as problem:
            refused.append(problem.detail)
    if refused:
        raise Problem(409, "; ".join(refused))
    return RedirectResponse(f"/?{fields.get('back', '')}", 303)


@router.post("/{job_id}/notes")
async def write_notes(job_id: JobId, fields: Form, parts: Parts, caller: Asking) -> RedirectResponse:
    """Name, tags and notes as the form has them."""
    notes = fields.get("notes", "").replace("\r\n", "\n")
    given = {"name": fields.get("name") or None, "tags": fields.get("tags", "").split(), "notes": notes or None}
    await annotate(parts.database, caller, job_id, _changes(**given))
    return RedirectResponse(f"/jobs/{job_id}", 303)


@router.post("/{job_id}/delete")
async def delete(job: FoundJob, parts: Parts, caller: Asking) -> RedirectResponse:
    """The job with everything that the platform wrote for it."""
    await _do("delete", job.id, [], parts, caller)
    return RedirectResponse("/", 303)


@router.post("/{job_id}/archive")
async def archive(job: FoundJob, parts: Parts, caller: Asking) -> RedirectResponse:
    """Leave the job out of lists."""
    await _do("archive", job.id, [], parts, caller)
    return RedirectResponse(f"/jobs/{job.id}", 303)


@router.post("/{job_id}/unarchive")
async def unarchive(job: FoundJob, parts: Parts, caller: Asking) -> RedirectResponse:
    """Show it in lists again."""
    await _do("unarchive", job.id, [], parts, caller)
    return RedirectResponse(f"/jobs/{job.id}", 303)


async def _do(action: Action, job_id: str, tags: list[str], parts: Container, caller: Caller) -> None:
    async def change(**given: Any) -> None:
        await annotate(parts.database, caller, job_id, _changes(**given))

    async def tag() -> None:
        there = (await jobs.find(parts.database, caller, job_id)).tags
        kept = [one for one in there if action == "tag" or one not in tags]
        await change(tags=[*kept, *(tags if action == "tag" else [])])

    async def remove() -> None:
        await Removal(parts.database, parts.redis, parts.broker, parts.settings.data_dir).delete(caller, job_id)

    actions: dict[Action, Callable[[], Awaitable[None]]] = {
        "archive": lambda: change(archived=True),
        "unarchive": lambda: change(archived=False),
        "delete": remove,
        "tag": tag,
        "untag": tag,
    }
    await actions[action]()


def _changes(**given: Any) -> JobChanges:
    try:
        return JobChanges(**given)
    except ValidationError as error:
        raise bad_spec([(_field(one["loc"]), _sentence(one)) for one in error.errors()]) from error


def _field(loc: tuple[int | str, ...]) -> str:
    return ".".join(map(str, loc[:1]))


def _sentence(error: Any) -> str:
    if error["type"] == "string_pattern_mismatch":
        return (
            "want small letters, digits and . _ - with a letter or digit first (tags: also : / = +), "
            f"got {str(error['input'])[:64]!r}"
        )
    return in_words(error)
