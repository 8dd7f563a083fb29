"""Errors as RFC 9457 problem details: one sentence for people, `errors` with a field each for programs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field

MEDIA_TYPE = "application/problem+json"


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str
    """Dotted path, e.g. `environment.environment_kwargs.size`; empty: the document as a whole."""
    message: str


class ProblemDetails(BaseModel):
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
        self.status, self.detail, self.errors, self.headers = status, detail, errors or [], headers or {}

    def body(self) -> dict[str, Any]:
        """The problem as JSON values."""
        return ProblemDetails(
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            errors=[FieldError(field=field, message=message) for field, message in self.errors],
        ).model_dump()


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
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
        }
        for status in statuses
    }


_REASONS = {
    404: "There is no such thing in the caller's project.",
    409: "The state of things does not allow it; the detail says which.",
    413: "The body is too long.",
    422: "A field is wrong; `errors` names each with what came and what is wanted.",
    503: "Something that the answer needs does not answer; `Retry-After` says when to ask again.",
}
