"""Dead letters: all that the caller sees or those of one job, and one letter with its content."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from redis.exceptions import RedisError

from services.api.dashboard.rendering import PageRoute, page
from services.api.http.app_parts import Parts
from services.api.http.routes.dead_letters import LetterId, OfJob
from services.api.jobs import dead_letters
from services.api.rest.caller import Asking
from services.api.rest.problems import Problem
from services.contracts.rest.positions import OFFSET_CURSOR, cut, offset_of

router = APIRouter(prefix="/dead-letters", route_class=PageRoute, include_in_schema=False)

PAGE = 100
_AWAY = Problem(503, "Redis, which keeps dead letters, does not answer")


@router.get("")
async def letters(
    request: Request,
    parts: Parts,
    caller: Asking,
    job_id: OfJob = None,
    cursor: Annotated[str | None, Query(pattern=OFFSET_CURSOR)] = None,
) -> Response:
    """The newest first."""
    try:
        found = await dead_letters.listed(parts.database, parts.letters, caller, job_id)
    except (RedisError, OSError) as error:
        raise _AWAY from error
    shown, older = cut(found, offset_of(cursor) if cursor else 0, PAGE)
    values: dict[str, Any] = {"letters": shown, "older": older, "total": len(found), "job_id": job_id}
    return await page(request, "dead_letters.html", **values)


@router.get("/{letter_id}")
async def letter(letter_id: LetterId, request: Request, parts: Parts, caller: Asking) -> Response:
    """The page of one letter: its content and its buttons."""
    try:
        found = await dead_letters.shown(parts.database, parts.letters, caller, letter_id)
    except (RedisError, OSError) as error:
        raise _AWAY from error
    return await page(request, "dead_letter.html", letter=found)


@router.post("/{letter_id}/{verb}")
async def command(
    letter_id: LetterId, verb: Literal["retry", "drop"], parts: Parts, caller: Asking
) -> RedirectResponse:
    """Retry or drop it."""
    act = dead_letters.retried if verb == "retry" else dead_letters.dropped
    try:
        await act(parts.database, parts.letters, caller, letter_id)
    except (RedisError, OSError) as error:
        raise _AWAY from error
    place = dead_letters.place_of(letter_id)
    job_id = place.job_id if place is not None else None
    return RedirectResponse(f"/dead-letters?job_id={job_id}" if job_id else "/dead-letters", 303)
