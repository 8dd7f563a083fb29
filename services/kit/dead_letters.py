"""Moves unreadable data aside: an entry goes to its stream's dead letters with the cause, a key gets another name."""

from __future__ import annotations

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from services.kit.payloads import KEPT_S, payload_key

log = structlog.get_logger("kit")

MOST_LETTERS = 1_000
"""About so many dead letters of a stream are kept, the newest ones."""
MOST_FIELDS, MOST_BYTES = 32, 2**20
"""Most fields that are kept of an entry that is set aside, and most bytes of their values together, and 1 KiB of each
name; of an entry that is larger, the cause says the size and the digest."""
CAUSE_CHARACTERS = 1_000

FIRST, TIMES = "first", "times"
"""Fields of a letter and of an entry that was put back: when it was set aside first, Unix ms, and how often."""
OWN_FIELDS = ("cause", "id", FIRST, TIMES, "cut")
"""Fields that a letter adds to the entry's own; the entry's fields of these names are not kept."""

_SET_ENTRY_ASIDE = """
local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'none' and kind ~= 'stream' then redis.call('RENAME', KEYS[2], KEYS[3]) end
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if found then
  local own = { cause = '', id = '', first = '', times = '', cut = '' }
  local letter, fields, cut, left, size, longest = {}, found[2], false, tonumber(ARGV[6]), 0, ''
  local function kept(text)
    cut = cut or #text > left
    text = string.sub(text, 1, left)
    left = left - #text
    return text
  end
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    size = size + #name + #value
    if #value > #longest then longest = value end
    if own[name] then
      own[name] = value
    elseif #letter < 2 * tonumber(ARGV[5]) then
      cut = cut or #name > 1024
      letter[#letter + 1] = string.sub(name, 1, 1024)
      letter[#letter + 1] = kept(value)
    else
      cut = true
    end
  end
  local cause = ARGV[2]
  if cut then
    cause = cause .. string.format('; of %d bytes not all are kept, the longest value has %d and the SHA-1 %s', size,
                                   #longest, redis.sha1hex(longest))
  end
  local function number(text, otherwise)
    return string.match(text, '^%d+$') and #text < 15 and tonumber(text) or otherwise
  end
  local time = redis.call('TIME')
  local now = 1000 * tonumber(time[1]) + math.floor(tonumber(time[2]) / 1000)
  local first = string.format('%d', math.min(number(own.first, now), now))
  local times = string.format('%d', number(own.times, 0) + 1)
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'cause', cause, 'id', ARGV[1], 'first', first,
             'times', times, 'cut', cut and '1' or '', unpack(letter))
  for i = 1, #fields, 2 do
    if fields[i] == 'r' then redis.call('EXPIRE', ARGV[7] .. fields[i + 1], ARGV[8]) end
  end
end
if ARGV[3] ~= '' then redis.call('XACK', KEYS[1], ARGV[3], ARGV[1]) end
redis.call('XDEL', KEYS[1], ARGV[1])
return found and 1 or 0
"""
"""KEYS: stream, its dead letters, where to these go aside. ARGV: id, cause, consumer group or '', the three limits,
what keys of payloads beside the stream begin with, and how long a letter's payload stays, seconds."""

_SET_KEY_ASIDE = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' or kind == ARGV[1] then return 0 end
redis.call('RENAME', KEYS[1], KEYS[2])
return 1
"""


def dead_letters(stream: str) -> str:
    """Key of the stream that holds what was set aside of `stream`: its fields and `OWN_FIELDS`; see `letters`."""
    return f"{stream}:dead"


async def set_entry_aside(redis: Redis, stream: str, entry_id: str, cause: str, group: str = "") -> bool:
    """Move an entry to the dead letters, acknowledged in `group`; False: it is not there any more."""
    dead = dead_letters(stream)
    limits = (MOST_LETTERS, MOST_FIELDS, MOST_BYTES)
    args: list[str | int] = [entry_id, cause[:CAUSE_CHARACTERS], group, *limits, payload_key(stream, ""), KEPT_S]
    script = redis.register_script(_SET_ENTRY_ASIDE)
    moved = await script(keys=[stream, dead, aside(dead)], args=args)
    log.error("an entry was set aside", stream=stream, id=entry_id, cause=cause[:CAUSE_CHARACTERS])
    return bool(moved)


async def set_key_aside(redis: Redis, key: str, wanted: str) -> bool:
    """Rename a key that is not of the type `wanted` (`aside`); False: it is of that type, or not there."""
    moved = bool(await redis.register_script(_SET_KEY_ASIDE)(keys=[key, aside(key)], args=[wanted]))
    if moved:
        log.error("a key of the wrong type was set aside", key=key, wanted=wanted, aside=aside(key))
    return moved


def is_wrong_type(error: ResponseError) -> bool:
    """Whether a command was refused because its key holds a value of another type."""
    return "WRONGTYPE" in str(error)


def aside(key: str) -> str:
    """The name of a key that was set aside; it stays in the same slot of a cluster."""
    return f"{key}:misplaced" if "{" in key else f"{{{key}}}:misplaced"
