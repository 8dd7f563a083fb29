"""The content of a dead letter as text that is safe to show: bounded, without control characters."""

from __future__ import annotations

import msgspec

from services.contracts.messages import CompleteGroup, ContractError, OpenedGroup, decode
from services.contracts.rest.dead_letters import DeadLetterField
from services.kit.letters import SHOWN_BYTES, Letter
from services.kit.streams import FIELD

MOST_FIELDS = 32
_NAME_CHARACTERS, _BYTES_SHOWN = 100, 16


def shown_fields(letter: Letter) -> list[DeadLetterField]:
    """The letter's first fields; of each the first `SHOWN_BYTES`."""
    return [_field(*field) for field in letter.fields[:MOST_FIELDS]]


def announced_group(letter: Letter) -> str | None:
    """The group that the letter announces; None: no message that can be read."""
    payload = next((value for name, value, size in letter.fields if name == FIELD and len(value) == size), b"")
    kinds: tuple[type[OpenedGroup | CompleteGroup], ...] = (OpenedGroup, CompleteGroup)
    for kind in kinds:
        try:
            return decode(payload, kind).group_id
        except (ContractError, RecursionError):
            continue
    return None


def printable(text: str) -> str:
    """The text with every character written out that a terminal could obey."""
    return "".join(one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text)


def _field(name: bytes, value: bytes, size: int) -> DeadLetterField:
    whole = len(value) == size
    text = printable((_message(value) if whole else None) or value.decode(errors="backslashreplace"))
    return DeadLetterField(
        name=printable(name.decode(errors="backslashreplace"))[:_NAME_CHARACTERS],
        size_bytes=size,
        text=text[:SHOWN_BYTES],
        cut=not whole or len(text) > SHOWN_BYTES,
    )


def _message(payload: bytes) -> str | None:
    """A message as JSON; None: it is no msgpack object."""
    try:
        found = msgspec.msgpack.decode(payload)
        return msgspec.json.encode(_plain(found)).decode() if isinstance(found, dict) else None
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
        return None


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return f"{len(value)} bytes: {value[:_BYTES_SHOWN].hex()}"
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)[:_NAME_CHARACTERS]
