"""Parses the dashboard's forms without a further package. The guard has already refused forms sent by other sites."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from services.api.http.routes.parameters import KEY_CHARACTERS
from services.api.rest.problems import Problem, bad_spec

_FIELDS = 120
"""Most fields that a form may send; no form here has as many."""


async def _pairs(request: Request) -> list[tuple[str, str]]:
    """The fields of an urlencoded form in their order. Raises Problem 400 when it is none, 422 for what cannot be
    stored."""
    try:
        pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=_FIELDS)
    except ValueError as error:
        raise Problem(400, f"want an urlencoded form: {error}") from error
    if problems := [(name, "want text without NUL") for name, text in pairs if "\0" in name + text]:
        raise bad_spec(problems)
    return pairs


Pairs = Annotated[list[tuple[str, str]], Depends(_pairs)]


async def _fields(pairs: Pairs) -> dict[str, str]:
    """The fields by name. Raises Problem 422 for a key that is too long."""
    fields = dict(pairs)
    if len(key := fields.get("key", "")) > KEY_CHARACTERS:
        raise bad_spec([("key", f"want at most {KEY_CHARACTERS} characters, got {len(key)}")])
    return fields


Form = Annotated[dict[str, str], Depends(_fields)]
