"""Server-sent events: bytes into events, and a source that follows a job over broken connections."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx

from gigpo.client.errors import ApiRefused, BadAnswer
from gigpo.client.http.call import Call, nothing
from gigpo.client.http.flow import Emit, Read, Sleep, Source, opened, perform, wait_or_raise
from gigpo.client.http.retries import Retries
from gigpo.client.models.jobs import Event, Job

SILENCE_S = 60.0
"""Longest silence on an event stream; the API breaks it every 15 s."""


class EventParser:
    """The `text/event-stream` format, fed with bytes as they come."""

    def __init__(self) -> None:
        self._rest = b""
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that `chunk` completes. Raises BadAnswer for data that is not an event of a job."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.decode(errors="replace").rstrip("\r").partition(":")
            value = value.removeprefix(" ")
            if name == "id":
                self._id = value
            elif name == "data":
                yield self._event(value)

    def _event(self, text: str) -> Event:
        try:
            return Event(id=self._id, **json.loads(text))
        except (ValueError, TypeError) as error:
            raise BadAnswer(f"the event {self._id} cannot be read: {text[:200]!r}") from error


def followed(job: Call[Job], stream: Call[None], after: str, retries: Retries, *, to_end: bool = True) -> Source[Event]:
    """Every event after `after` once, until the job has ended, or without `to_end` until the stream has.

    Args:
        job: asks for the job, to tell an ended stream from one that was cut.
        stream: asks for its events; the header `Last-Event-ID` is set here.
    """
    attempt = 0
    while True:
        parser = EventParser()
        try:
            yield from opened(_resumed(stream, after))
            while (chunk := (yield Read())) is not None:
                for event in parser.feed(chunk):
                    after, attempt = event.id, 0
                    yield Emit(event)
            if not to_end or (yield from perform(job, retries)).ended:
                return
            wait_s = retries.first_wait_s
        except (httpx.TransportError, ApiRefused) as error:
            wait_s = wait_or_raise(error, attempt, retries)
            attempt += 1
        yield Sleep(wait_s)


def _resumed(stream: Call[None], after: str) -> Call[None]:
    headers = {**stream.headers, "Last-Event-ID": after, "Accept": "text/event-stream"}
    return Call(
        "GET", stream.path, nothing, names=stream.names, query=stream.query, headers=headers, read_timeout_s=SILENCE_S
    )
