"""Ids of a job's events: `<ms>-<seq>`, as Redis Streams make them."""

from __future__ import annotations

import re

_ID = re.compile(r"([0-9]{1,19})-([0-9]{1,10})")
_MOST_MS, _MOST_SEQ = (1 << 63) - 1, (1 << 31) - 1
"""The longest id that fits the columns of `EventRow`."""

Position = tuple[int, int]
"""(ms, seq): compares as the stream orders its ids."""


def stream_position(stream_id: str) -> Position:
    """`<ms>-<seq>` as numbers that compare as the stream orders them. Raises ValueError for anything else."""
    parts = _ID.fullmatch(stream_id)
    if parts is None or int(parts[1]) > _MOST_MS or int(parts[2]) > _MOST_SEQ:
        raise ValueError(f"want a stream id <ms>-<seq>, got {stream_id!r}")
    return int(parts[1]), int(parts[2])
