"""Forms of the dashboard: read without a further package, and taken from its own pages only."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, Request

from services.api.problems import Problem

_FIELDS = 50
"""More fields than any form here has."""


async def _own_form(request: Request) -> dict[str, str]:
    """The fields of an urlencoded form. Raises Problem 403 when another site's page sent it, 400 when it is none."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    same_host = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if site not in {None, "same-origin", "none"} or not same_host:
        raise Problem(403, "want a form of this dashboard, got one from another site")
    try:
        pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=_FIELDS)
    except ValueError as error:
        raise Problem(400, f"want an urlencoded form: {error}") from error
    return dict(pairs)


OwnForm = Annotated[dict[str, str], Depends(_own_form)]
