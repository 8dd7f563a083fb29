"""Server-sent events: requests a job's events and parses the bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator

from gigpo.client.errors import BadAnswer
from gigpo.client.http.call import Call, nothing
from gigpo.client.models import Event

SILENCE_S = 60.0
"""Longest silence on an event stream; the API breaks it every 15 s."""


class EventParser:
    """The `text/event-stream` format, fed with bytes as they come."""

    def __init__(self) -> None:
        self._rest = b""
        self._id, self._data = "", list[str]()

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that `chunk` completes. Raises BadAnswer for data that is not an event of a job."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.decode(errors="replace").rstrip("\r").partition(":")
            value = value.removeprefix(" ")
            if name == "id":
                self._id = value
            elif name == "data":
                self._data.append(value)
            elif not name and not value and self._data:  # an empty line: its fields come in any order
                text, self._data = "\n".join(self._data), []
                yield self._event(text)

    def _event(self, text: str) -> Event:
        try:
            return Event(id=self._id, **json.loads(text))
        except (ValueError, TypeError) as error:
            raise BadAnswer(f"the event {self._id} cannot be read: {text[:200]!r}") from error


def stream_of(job_id: str, after: str, *, follow: bool) -> Call[None]:
    """Asks for a job's events after the id `after`; without `follow` for those that there are."""
    return Call(
        "GET",
        "/v1/jobs/{job_id}/events",
        nothing,
        names={"job_id": job_id},
        query={} if follow else {"follow": False},
        headers={"Last-Event-ID": after, "Accept": "text/event-stream"},
        read_timeout_s=SILENCE_S,
    )


def watch_stream_of(job_id: str, watch_id: str, after: str) -> Call[None]:
    """Asks for what is told of a watched episode after the id `after`; empty: from its beginning."""
    return Call(
        "GET",
        "/v1/jobs/{job_id}/watches/{watch_id}",
        nothing,
        names={"job_id": job_id, "watch_id": watch_id},
        headers={"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})},
        read_timeout_s=SILENCE_S,
    )
