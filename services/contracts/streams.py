"""The streams between services and the trainers' queue: who owns each, and which service reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from services.contracts import keys

PROMPTS_KEPT_S = 2 * 3_600
"""A large payload of requests or replies that nobody acknowledges goes after so long: twice as long as a replica keeps
prompts that it cannot sample."""

Owner = Literal["job", "replica", "worker", "queue"]


@dataclass(frozen=True)
class StreamKind:
    """One kind of stream; there is a stream of it for each owner."""

    name: str
    key: Callable[[str], str]
    """Owner's id -> key in Redis."""
    owner: Owner
    reader: str
    """The service that reads it, and sets aside what it cannot read."""

    def owner_of(self, key: str) -> str | None:
        """Id of the stream's owner; None: the key is of another kind."""
        before, _, after = self.key("\0").partition("\0")
        found = key.removeprefix(before).removesuffix(after)
        if self.owner == "queue" and found != keys.TRAINER_QUEUE:
            return None
        return found if found and self.key(found) == key and not set(found) & set("{}") else None


STREAMS = (
    StreamKind("groups", keys.groups_stream, "job", "rollout"),
    StreamKind("episodes", keys.episodes_stream, "job", "advantage"),
    StreamKind("scored", keys.scored_stream, "job", "trainer"),
    StreamKind("events", keys.events_stream, "job", "api"),
    StreamKind("requests", keys.requests_stream, "replica", "inference"),
    StreamKind("replies", keys.replies_stream, "worker", "rollout"),
    StreamKind("queue", str, "queue", "trainer"),
)
JOB_STREAMS = tuple(kind for kind in STREAMS if kind.owner == "job")
BY_NAME = {kind.name: kind for kind in STREAMS}


def stream_in(key: str) -> tuple[StreamKind, str] | None:
    """Kind and owner of a stream; None: no service reads such a stream."""
    found = (
        (kind, kind.owner_of(key)) for kind in STREAMS[::-1]
    )  # `{inference:r}:requests` before jobs' shorter names
    return next(((kind, owner) for kind, owner in found if owner is not None), None)
