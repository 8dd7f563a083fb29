"""Server-sent events by FastAPI: it writes them, and a comment every 15 s where there is nothing to say."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from fastapi import Response
from fastapi.routing import APIRoute
from fastapi.sse import ServerSentEvent
from pydantic import JsonValue
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope

from services.api.http.app_parts import Container
from services.api.sql.tables import EventRow
from services.api.sync import feed

MEDIA_TYPE = "text/event-stream"


def stream_content(body: str | None = None) -> dict[str, JsonValue]:
    """A stream in the documentation of an answer, by its media type.

    Args:
        body: the schema of the events' data in the document; None: any JSON.
    """
    data: dict[str, JsonValue] = {"type": "string", "contentMediaType": "application/json"}
    if body is not None:
        data["contentSchema"] = {"$ref": f"#/components/schemas/{body}"}
    # `itemSchema`, of OpenAPI 3.2, describes one event; FastAPI adds the fields `event`, `id` and `retry` to it
    event: JsonValue = {"type": "object", "required": ["data", "event", "id"], "properties": {"data": data}}
    return {MEDIA_TYPE: {"itemSchema": event}}


class AcceptsStream(APIRoute):
    """A route for clients that accept server-sent events alone; other requests come to the next route of its path."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        accepted = scope["type"] == "http" and MEDIA_TYPE in Headers(scope=scope).get("accept", "")
        return super().matches(scope) if accepted else (Match.NONE, {})


async def never_stored(response: Response) -> None:
    """A dependency: nobody between us and the reader keeps what is streamed."""
    response.headers["Cache-Control"] = "no-store"


async def event_stream(
    parts: Container, job_id: str, after: str, kind: str | None = None, *, wait: bool = True
) -> AsyncGenerator[ServerSentEvent, None]:
    """A job's events, each with its stream id as `id`, its kind as `event`, and JSON {kind, at_unix_s, data}."""
    rows = feed.followed_events(parts.database, parts.news, job_id, after, kind=kind, wait=wait)
    async with aclosing(rows) as following:
        async for row in following:
            yield _sent(row)


def _sent(row: EventRow) -> ServerSentEvent:
    body = msgspec.json.encode({"kind": row.kind, "at_unix_s": row.at_unix_s, "data": row.data})
    return ServerSentEvent(raw_data=body.decode(), event=row.kind, id=row.stream_id)
