"""A job's events, as documents."""

from __future__ import annotations

from pydantic import JsonValue

from services.contracts.events import Kind
from services.contracts.rest.base import Document, Named, Page


class EventBody(Document):
    """The `data` of a server-sent event."""

    kind: Named[Kind]
    at_unix_s: float
    data: dict[str, JsonValue]
    """The data of the kind, e.g. `state` of a `state`, a batch's figures of `metrics`."""


class JobEvent(EventBody):
    """One event of a job."""

    id: str
    """Ids follow the order of time; as `Last-Event-ID`, or as `cursor`, an id asks for what follows it."""


class EventPage(Page[JobEvent]):
    """Some events, in order of time. `next_cursor` is null once the job has ended and all is told."""


class MetricsPage(Page[dict[str, JsonValue]]):
    """Some rows of metrics, one a batch, in order of batch."""
