"""Large payloads of stream entries lie beside their stream, compressed, and the entry refers to them.

A claim, a dead letter or a retry then moves a few bytes. Whoever acknowledges an entry deletes its payload; one that
nobody acknowledges goes by itself.
"""

from __future__ import annotations

import re
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.typing import EncodableT, FieldT

FIELD = b"p"
"""The field of an entry that holds its payload."""
REFERENCE, SIZE = b"r", b"n"
"""Fields of an entry whose payload lies beside the stream: its name there, and its bytes before compression."""
STORED = b"z"
"""Field that `fetched` adds: the compressed payload."""
LARGE_BYTES = 16 * 1024
"""A payload above this is stored beside its stream."""
MOST_PAYLOAD_BYTES = 64 * 2**20
"""No payload is larger, whatever a few compressed bytes claim to hold."""
KEPT_S = 7 * 86_400
"""A payload that nobody acknowledges goes after so long, as the keys of an ended job do."""
_LEVEL = 1
"""zlib's fastest: token ids shrink to a fifth at 0.3 ms for 64 KB, further levels take long for little."""
_NAME = re.compile(rb"[0-9a-f]{32}")

RawEntry = tuple[bytes, Mapping[bytes, bytes]]
"""An id and its fields, as the server sends them."""


class MalformedEntry(ValueError):
    """An entry without a payload."""


def payload_key(stream: str, name: str) -> str:
    """Key of a payload that lies beside `stream`; it is in the same slot of a cluster."""
    return f"{stream if '{' in stream else f'{{{stream}}}'}:payload:{name}"


def packed(payload: bytes) -> tuple[str, bytes, dict[bytes, bytes | int]]:
    """A name for a large payload, the bytes to store under it, and the fields of the entry that refers to it."""
    name = uuid.uuid4().hex
    return name, zlib.compress(payload, _LEVEL), {REFERENCE: name.encode(), SIZE: len(payload)}


def reference_in(fields: Mapping[bytes, bytes] | None) -> str | None:
    """Name of the payload that an entry refers to; None: it holds its payload itself, refers to none, or was deleted
    while it was pending."""
    if not fields or FIELD in fields or REFERENCE not in fields:
        return None
    name = fields[REFERENCE]
    return name.decode() if _NAME.fullmatch(name) else None


def payload_keys(stream: str, raw: Iterable[RawEntry]) -> dict[str, str]:
    """Entry -> key of its payload, of the entries whose payload lies beside the stream."""
    named = ((entry_id.decode(), reference_in(fields)) for entry_id, fields in raw)
    return {entry_id: payload_key(stream, name) for entry_id, name in named if name is not None}


async def fetched(redis: Redis, stream: str, raw: Sequence[RawEntry]) -> list[RawEntry]:
    """The entries, with the stored bytes of each payload that lies beside the stream and is there."""
    wanted = payload_keys(stream, raw)
    if not wanted:
        return list(raw)
    found = cast("list[bytes | None]", await redis.mget(list(wanted.values())))
    stored = dict(zip(wanted, found, strict=True))
    return [(one, _with(fields, stored.get(one.decode()))) for one, fields in raw]


def _with(fields: Mapping[bytes, bytes], stored: bytes | None) -> Mapping[bytes, bytes]:
    return fields if stored is None else {**fields, STORED: stored}


def queue_again(pipe: Pipeline, stream: str, fields: Mapping[bytes, bytes], keep_s: int) -> None:
    """Add an entry of another stream that went through `fetched`, with its payload, which stays at most `keep_s`."""
    entry = dict[FieldT, EncodableT](fields.items())
    name = reference_in(fields)
    if name is not None and STORED in fields:
        pipe.set(payload_key(stream, name), fields[STORED], ex=keep_s)
        del entry[STORED]
    pipe.xadd(stream, entry)


def payload_of(fields: Mapping[bytes, bytes]) -> bytes:
    """The payload of an entry that went through `fetched`. Raises MalformedEntry: it has none, or it cannot be had."""
    if FIELD in fields:
        return fields[FIELD]
    if (name := reference_in(fields)) is None:
        names = ", ".join(repr(field[:40])[1:] for field in list(fields)[:8])
        raise MalformedEntry(f"want an entry with the field {FIELD.decode()!r}, got the fields {names}")
    if STORED not in fields:
        raise MalformedEntry(f"want the payload {name} beside the stream, it is not there any more")
    payload, whole = unpacked(fields[STORED], MOST_PAYLOAD_BYTES)
    if not whole:
        raise MalformedEntry(
            f"payload {name}: want whole zlib data of at most {MOST_PAYLOAD_BYTES} bytes, got {len(fields[STORED])} "
            f"stored bytes of which {len(payload)} could be read"
        )
    return payload


def unpacked(stored: bytes, most: int) -> tuple[bytes, bool]:
    """Read at most `most` >= 1 bytes of a stored payload, as far as it is readable, and say whether these are all."""
    unpacking = zlib.decompressobj()
    try:
        payload = unpacking.decompress(stored, most + 1)
    except zlib.error:
        return b"", False
    return payload[:most], unpacking.eof and len(payload) <= most
