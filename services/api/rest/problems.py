"""Errors as RFC 9457 problem details: one sentence for people, `errors` with a field each for programs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse, Response
from pydantic import Field

from services.contracts.rest.base import Document

MEDIA_TYPE = "application/problem+json"


class FieldError(Document):
    """The mistake in one field."""

    field: str
    """Dotted path, e.g. `environment.environment_kwargs.size`; empty: the document as a whole."""
    message: str


class ProblemDetails(Document):
    """The body of every error."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] = Field(default_factory=list)


class Problem(Exception):
    """An error with its answer. Raised at the edge or by a use case, translated once in `app`."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: list[tuple[str, str]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, _encodable(detail), headers or {}
        self.errors = [(_encodable(field), _encodable(message)) for field, message in errors or []]

    def body(self) -> dict[str, object]:
        """The problem as JSON values."""
        return ProblemDetails(
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            errors=[FieldError(field=field, message=message) for field, message in self.errors],
        ).model_dump()


def _encodable(text: str) -> str:
    """The text with lone surrogates, which may have come with a request, written out."""
    return text.encode(errors="backslashreplace").decode()


def answer(problem: Problem) -> Response:
    """The problem as it goes out."""
    return JSONResponse(problem.body(), problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def bad_spec(problems: list[tuple[str, str]]) -> Problem:
    """422 for a job spec; the detail joins all sentences."""
    detail = "; ".join(f"{field}: {message}" if field else message for field, message in problems)
    return Problem(422, detail, errors=problems)


def not_found(what: str, name: str) -> Problem:
    """404 naming what was looked for."""
    return Problem(404, f"no {what} {name!r}")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of error answers, for a route."""
    return {
        status: {
            "description": _REASONS.get(status, HTTPStatus(status).phrase),
            **({"headers": _RETRY_AFTER} if status in (429, 503) else {}),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/ProblemDetails"},
                    "example": _example(status).body(),
                }
            },
        }
        for status in statuses
    }


_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}


def _example(status: int) -> Problem:
    detail = _DETAILS[status]
    field, _, message = detail.partition(": ")
    return Problem(status, detail, errors=[(field, message)] if status == 422 else None)


_DETAILS = {
    400: "There was an error parsing the body",
    401: "want a valid API key",
    403: "want a key with the scope submit, got one with read",
    404: "no job 'j1a2126c436f8acbfa'",
    409: "cannot pause job j1a2126c436f8acbfa: want a job that has not ended, got state SUCCEEDED",
    410: "the session is over: a session was abandoned: its agent asked nothing for 300 s",
    413: "want a body of at most 1048576 bytes, got 2097152",
    415: "want a body that is not compressed, got 'gzip'",
    422: "training.learning_rate: want a number > 0, got -1",
    429: "too many calls with key abc: want at most 100 per 1 second, call again in 2 s",
    500: "the request failed; the log of the API has the cause",
    503: "the environment service at 127.0.0.1:50051 does not answer: UNAVAILABLE",
}
"""An example of each."""
_REASONS = {
    400: "The body cannot be parsed.",
    401: "The key is missing or unknown.",
    403: "The key does not allow it, or the project's quota does not.",
    404: "The caller's project does not have it.",
    409: "The current state does not allow it; the detail names the state.",
    410: "The session is over; the detail says why.",
    413: "The body is too long.",
    415: "The body is compressed.",
    422: "A field is wrong; `errors` lists each with the value that came and the one that is wanted.",
    429: "Too many calls or open jobs; `Retry-After` says when to retry.",
    500: "An unexpected error; the log of the API has the cause.",
    503: "A service, a database or a disk that the request needs refuses for now; `Retry-After` says when to retry.",
}
