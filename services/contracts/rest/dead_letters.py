"""Dead letters as documents: messages that no service could read or finish."""

from __future__ import annotations

from services.contracts.rest.base import Document, Page


class DeadLetterView(Document):
    """A message that was set aside so that it stops nothing."""

    id: str
    """`<stream>.<owner>.<entry>`."""
    stream: str
    """groups, episodes, scored, events, requests, replies, or queue."""
    owner: str
    """The job, inference replica or rollout worker whose stream it is; `trainer`: the trainers' queue."""
    job_id: str | None
    """Null: the stream belongs to no job; only an administrator sees the letter."""
    service: str
    """Which service set it aside."""
    cause: str
    first_unix_s: float
    """Time when it was set aside first."""
    last_unix_s: float
    times: int
    """How often it was set aside: once, and once more for each retry that failed."""
    size_bytes: int
    cut: bool
    """The entry was too large to be kept whole, so it cannot be retried."""


class DeadLetterPage(Page[DeadLetterView]):
    """Some dead letters, the newest first."""


class DeadLetterField(Document):
    """One field of the message."""

    name: str
    size_bytes: int
    text: str
    """JSON where the field holds a message of the platform, otherwise its text; control characters are escaped."""
    cut: bool
    """The value is longer than what is shown."""


class DeadLetterDetail(DeadLetterView):
    """A dead letter with its content."""

    group_id: str | None
    """The group that it announces; null: its id can't be read."""
    fields: list[DeadLetterField]


class RetriedLetter(Document):
    """A dead letter that is a message again."""

    id: str
    """The letter's former id."""
    stream: str
    owner: str
    entry_id: str
    """Id of the new entry in the stream; in the trainers' queue the job that it names."""
