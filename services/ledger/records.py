"""Parses the ledger's hashes field by field. Unknown fields are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.kit.values import text_of, texts
from services.ledger.states import DropReason, GroupState

MOST_DIGITS = 20
"""Most characters of a number of the ledger, with its sign."""


class RecordUnreadable(ValueError):
    """A field of the ledger holds what no move of it writes; the message names the field and its value."""


@dataclass(frozen=True)
class Balance:
    """The ledger's counters at one instant."""

    opened: int
    consumed: int
    live: int
    retried: int
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """opened = consumed + dropped + live."""
        return self.apart == 0

    @property
    def apart(self) -> int:
        """Groups opened that are neither consumed, dropped nor live."""
        return self.opened - self.consumed - sum(self.dropped.values()) - self.live


@dataclass(frozen=True)
class GroupRecord:
    """One group as the ledger knows it."""

    state: GroupState
    purpose: str
    cursor: int
    n: int
    attempt: int
    batch: int | None
    reason: str | None
    cause: str | None
    redrawn: int = 0
    """Attempts that failed on what the policy did, see `Ledger.fail`."""


Raw = Mapping[bytes, bytes]


def balance_of(raw: Raw, live: int) -> Balance:
    """The counters in a job's ledger. Raises RecordUnreadable."""
    dropped = {reason.value: _number(raw, f"dropped:{reason.value}", 0) for reason in DropReason}
    return Balance(
        opened=_number(raw, "opened", 0),
        consumed=_number(raw, "consumed", 0),
        live=live,
        retried=_number(raw, "retried", 0),
        dropped=dropped,
    )


def counters_in(raw: Raw) -> dict[str, int]:
    """All counters in a job's ledger; a field that holds none is no counter.

    Raises:
        RecordUnreadable: one of those that `balance_of` reads is no number.
    """
    balance_of(raw, 0)
    return {name: int(value) for name in texts(raw) if _is_number(value := raw[name.encode()])}


def record_in(raw: Raw) -> GroupRecord | None:
    """The record in a group's hash; None: it holds no state. Raises RecordUnreadable."""
    if b"state" not in raw:
        return None
    return GroupRecord(
        state=state_in(raw[b"state"]),
        purpose=_text(raw, "purpose") or "",
        cursor=_number(raw, "cursor"),
        n=_number(raw, "n"),
        attempt=_number(raw, "attempt"),
        batch=_number(raw, "batch") if b"batch" in raw else None,
        reason=_text(raw, "reason"),
        cause=_text(raw, "cause"),
        redrawn=_number(raw, "redrawn", 0),
    )


def state_in(value: bytes) -> GroupState:
    """The state that a group's record names. Raises RecordUnreadable."""
    try:
        return GroupState(value.decode())
    except ValueError as error:
        raise RecordUnreadable(f"state: want one of {', '.join(GroupState)}, got {value[:40]!r}") from error


def episodes_in(group_id: str, raw: Raw) -> list[bytes]:
    """The payloads in a group's hash k -> episode, in order of k. Raises RecordUnreadable: a field is no k."""
    odd = [name for name in raw if not _is_number(name) or name.startswith(b"-")]
    if odd:
        raise RecordUnreadable(f"group {group_id}: want episodes under their numbers, got one under {odd[0][:40]!r}")
    return [raw[k] for k in sorted(raw, key=int)]


def manifests_in(raw: Raw) -> dict[int, str]:
    """Batch number -> manifest; what stands under no number or is no text is passed over."""
    texts = {name: text_of(value) for name, value in raw.items() if _is_number(name)}
    return {int(name): text for name, text in texts.items() if text is not None}


def _is_number(value: bytes) -> bool:
    return value.removeprefix(b"-").isdigit() and len(value) <= MOST_DIGITS


def _number(raw: Raw, name: str, default: int | None = None) -> int:
    value = raw.get(name.encode())
    if value is None and default is not None:
        return default
    try:
        return int(value or b"")
    except ValueError as error:
        raise RecordUnreadable(f"{name}: want a whole number, got {(value or b'')[:40]!r}") from error


def _text(raw: Raw, name: str) -> str | None:
    value = raw.get(name.encode())
    return None if value is None else value.decode(errors="replace")
