"""Cursors of collections that are whole in memory: how many entries lie before the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
OFFSET_CURSOR = r"^o[0-9]{1,10}$"


def cursor_at(offset: int) -> str:
    """The cursor of the page behind so many entries."""
    return f"o{offset}"


def offset_of(cursor: str) -> int:
    """How many entries lie before it. ValueError: it is no such cursor."""
    return int(cursor.removeprefix("o"))


def cut(entries: Sequence[T], offset: int, limit: int) -> tuple[list[T], str | None]:
    """At most `limit` entries behind the first `offset`, and the cursor of what follows; None: nothing does."""
    end = offset + limit
    return list(entries[offset:end]), cursor_at(end) if len(entries) > end else None
