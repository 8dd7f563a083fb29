"""Dead letters: messages that no service could read or finish."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Path, Query
from redis.exceptions import RedisError

from services.api.http.app_parts import Parts
from services.api.http.routes.collections import WantedPage
from services.api.http.routes.parameters import TEXT
from services.api.jobs import dead_letters
from services.api.rest.caller import Asking
from services.api.rest.problems import Problem, responses
from services.contracts.rest.dead_letters import DeadLetterDetail, DeadLetterPage, RetriedLetter

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])

LetterId = Annotated[
    str,
    Path(
        max_length=300,
        pattern=TEXT,
        description="Id of the dead letter.",
        examples=["groups.j1a2126c436f8acbfa.1795605451797-0"],
    ),
]
OfJob = Annotated[str | None, Query(max_length=32, pattern=TEXT, description="Only those of this job's streams.")]


@router.get("", responses=responses(404, 503))
async def list_dead_letters(parts: Parts, caller: Asking, wanted: WantedPage, job_id: OfJob = None) -> DeadLetterPage:
    """Messages that were set aside, the newest first: those of the caller's jobs, for administrators all."""
    with _answering():
        return wanted.page(DeadLetterPage, await dead_letters.listed(parts.database, parts.letters, caller, job_id))


@router.get("/{letter_id}", responses=responses(404, 503))
async def show_dead_letter(letter_id: LetterId, parts: Parts, caller: Asking) -> DeadLetterDetail:
    """One dead letter with its content, of each field the first 4096 bytes."""
    with _answering():
        return await dead_letters.shown(parts.database, parts.letters, caller, letter_id)


@router.post("/{letter_id}:retry", responses=responses(404, 409, 503))
async def retry_dead_letter(letter_id: LetterId, parts: Parts, caller: Asking) -> RetriedLetter:
    """Put the message back into its stream, once; in the same moment the dead letter is gone."""
    with _answering():
        return await dead_letters.retried(parts.database, parts.letters, caller, letter_id)


@router.delete("/{letter_id}", status_code=204, responses=responses(404, 409, 503))
async def drop_dead_letter(letter_id: LetterId, parts: Parts, caller: Asking) -> None:
    """Delete a dead letter for good. 409 while its group waits for it."""
    with _answering():
        await dead_letters.dropped(parts.database, parts.letters, caller, letter_id)


@contextmanager
def _answering() -> Iterator[None]:
    """Raises Problem 503 while Redis, which keeps the letters, does not answer."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise Problem(503, f"dead letters cannot be read: {error}", headers={"Retry-After": "2"}) from error
