"""Reads dead letters, puts one back into its stream, drops one. Letters of earlier versions are read too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from redis.asyncio import Redis

from services.kit.dead_letters import FIRST, MOST_BYTES, OWN_FIELDS, TIMES, dead_letters, set_key_aside
from services.kit.payloads import FIELD, KEPT_S, SIZE, payload_key, reference_in, unpacked

LETTERS_A_CALL = 50
"""Letters that one script looks at. A letter may be large, and the server answers no other client meanwhile."""
SHOWN_BYTES = 4_096
"""Bytes of each field that are shown of a letter."""
_READ = """
local found, most, own = {}, tonumber(ARGV[4]), {}
for i = 5, #ARGV do own[ARGV[i]] = true end
for _, letter in ipairs(redis.call('XREVRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])) do
  local fields, shown, size, beside = letter[2], {}, 0, {}
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if own[name] then
      shown[#shown + 1] = { name, string.sub(value, 1, 4096), #value }
    else
      size = size + #name + #value
      beside[name] = value
      if most > 0 then shown[#shown + 1] = { string.sub(name, 1, most), string.sub(value, 1, most), #value } end
    end
  end
  if beside.r and not beside.p and string.match(beside.n or '', '^%d+$') and #beside.n < 12 then
    size = size + tonumber(beside.n)
  end
  found[#found + 1] = { letter[1], size, shown }
end
return found
"""
"""KEYS: dead letters. ARGV: newest id, oldest id, how many, shown bytes of each of the entry's fields, own names."""

_PUT_BACK = """
local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then return false end
local own, kept, entry = {}, {}, {}
for i = 4, #ARGV do own[ARGV[i]] = true end
for i = 1, #letter[2], 2 do
  local name, value = letter[2][i], letter[2][i + 1]
  if own[name] then kept[name] = value else entry[#entry + 1] = name; entry[#entry + 1] = value end
end
local first = kept.first or string.match(letter[1], '^%d+')
for i = 1, #entry, 2 do
  if entry[i] == 'r' then redis.call('EXPIRE', ARGV[2] .. entry[i + 1], ARGV[3]) end
end
local id = redis.call('XADD', KEYS[2], '*', 'first', first, 'times', kept.times or '1', unpack(entry))
if KEYS[3] and redis.call('HGET', KEYS[3], 'message') == kept.id then redis.call('HSET', KEYS[3], 'message', id) end
redis.call('XDEL', KEYS[1], ARGV[1])
return id
"""
"""KEYS: dead letters, their stream, and perhaps the record whose field `message` names the entry. ARGV: id of the
letter, what keys of payloads beside the stream begin with, how long these stay, names of own fields."""

_DISCARD = """
local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then return 0 end
for i = 1, #letter[2], 2 do
  if letter[2][i] == 'r' then redis.call('UNLINK', ARGV[2] .. letter[2][i + 1]) end
end
return redis.call('XDEL', KEYS[1], ARGV[1])
"""
"""KEYS: dead letters. ARGV: id of the letter, what keys of payloads beside their stream begin with."""

_QUEUE = """
local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then return 0 end
for i = 1, #letter[2], 2 do
  if letter[2][i] == 'p' then redis.call('LPUSH', KEYS[2], letter[2][i + 1]) end
end
return redis.call('XDEL', KEYS[1], ARGV[1])
"""
"""KEYS: dead letters of a queue, the list that its messages wait in. ARGV: id of the letter."""


@dataclass(frozen=True)
class Letter:
    """An entry that was set aside."""

    id: str
    """Id among the dead letters of its stream."""
    entry_id: str
    """The one it had in the stream; empty: not known."""
    cause: str
    first_unix_s: float
    """Time when it was set aside first."""
    last_unix_s: float
    times: int
    """How often it was set aside: once, and once for each time that it was put back in vain."""
    size_bytes: int
    """Bytes of the fields that are kept, and of the payload that lies beside the stream."""
    cut: bool
    """The entry was not kept whole, so it cannot be put back."""
    fields: tuple[tuple[bytes, bytes, int], ...] = ()
    """Name, the first `SHOWN_BYTES` of the value, and the value's size; empty in lists."""
    gone: bool = False
    """Its payload lay beside the stream and is not there any more, so it cannot be put back; False in lists."""


async def letters_of(redis: Redis, stream: str) -> list[Letter]:
    """All letters of a stream without their fields, the newest first."""
    found: list[Letter] = []
    newest = "+"
    while True:
        some = await _read(redis, stream, newest, "-", LETTERS_A_CALL, 0)
        found += some
        if len(some) < LETTERS_A_CALL:
            return found
        newest = f"({some[-1].id}"


async def letter_of(redis: Redis, stream: str, letter_id: str) -> Letter | None:
    """One letter with its fields, and the first bytes of its payload where that lies beside the stream; None: there is
    none of this id."""
    found = await _read(redis, stream, letter_id, letter_id, 1, SHOWN_BYTES)
    return await _with_payload(redis, stream, found[0]) if found else None


async def put_back(redis: Redis, stream: str, letter_id: str, record: str | None = None) -> str | None:
    """Move a letter back into its stream as a new entry; None: it is not there any more.

    Args:
        record: key of a hash whose field `message` is the id of the entry, as the ledger keeps it; it gets the new id.
    """
    await set_key_aside(redis, stream, "stream")
    names = [dead_letters(stream), stream, *([record] if record else [])]
    moved = await redis.register_script(_PUT_BACK)(
        keys=names, args=[letter_id, payload_key(stream, ""), KEPT_S, *OWN_FIELDS]
    )
    return None if moved is None else cast(bytes, moved).decode()


async def put_back_in_queue(redis: Redis, queue: str, letter_id: str, waiting_list: str) -> bool:
    """Move a letter of a queue of Celery's to the end of a list of it; False: it is not there any more."""
    return bool(await redis.register_script(_QUEUE)(keys=[dead_letters(queue), waiting_list], args=[letter_id]))


async def discard(redis: Redis, stream: str, letter_id: str) -> bool:
    """Delete a letter and its payload for good; False: it is not there any more."""
    script = redis.register_script(_DISCARD)
    return bool(await script(keys=[dead_letters(stream)], args=[letter_id, payload_key(stream, "")]))


async def _with_payload(redis: Redis, stream: str, letter: Letter) -> Letter:
    fields = {name: value for name, value, _ in letter.fields}
    name = reference_in(fields)
    if name is None:
        return letter
    key, size = payload_key(stream, name), fields.get(SIZE, b"")
    stored = b""
    if await redis.type(key) == b"string":  # compressed, so twice the bytes that are shown are enough
        stored = cast(bytes, await redis.getrange(key, 0, 2 * SHOWN_BYTES))
    if not stored:
        return replace(letter, gone=True)
    payload, whole = unpacked(stored, SHOWN_BYTES)
    length = len(payload) if whole else max(_whole_number(size, 0), len(payload) + 1)
    return replace(letter, fields=(*letter.fields, (FIELD, payload, length)))


async def _read(redis: Redis, stream: str, newest: str, oldest: str, count: int, most: int) -> list[Letter]:
    args: list[str | int] = [newest, oldest, count, most, *OWN_FIELDS]
    answer = await redis.register_script(_READ)(keys=[dead_letters(stream)], args=args)
    return [_letter(raw_id.decode(), int(size), fields) for raw_id, size, fields in answer]


def _letter(letter_id: str, size: int, fields: list[Any]) -> Letter:
    own = {name: value for name, value, _ in fields if name.decode(errors="replace") in OWN_FIELDS}
    others = tuple((name, value, int(length)) for name, value, length in fields if name not in own)
    at_ms = int(letter_id.partition("-")[0])
    return Letter(
        id=letter_id,
        entry_id=_text(own, "id"),
        cause=_text(own, "cause") or "no cause is known",
        first_unix_s=_number(own, FIRST, at_ms) / 1_000,
        last_unix_s=at_ms / 1_000,
        times=_number(own, TIMES, 1),
        size_bytes=size,
        cut=bool(own.get(b"cut")) or any(length == MOST_BYTES for *_, length in others),
        fields=others,
    )


def _text(own: Mapping[bytes, bytes], name: str) -> str:
    return own.get(name.encode(), b"").decode(errors="replace")


def _number(own: Mapping[bytes, bytes], name: str, otherwise: int) -> int:
    return _whole_number(own.get(name.encode(), b""), otherwise)


def _whole_number(value: bytes, otherwise: int) -> int:
    return int(value) if value.isdigit() and len(value) < 15 else otherwise
