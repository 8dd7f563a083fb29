"""Collections that are whole in memory: a page of them, or all at once for those who know the last version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Query

from services.contracts.rest.base import Page
from services.contracts.rest.positions import OFFSET_CURSOR, cut, offset_of

T = TypeVar("T")
PageT = TypeVar("PageT", bound=Page[Any])
OffsetCursor = Annotated[
    str | None, Query(pattern=OFFSET_CURSOR, description="`next_cursor` of the page before.", examples=["o200"])
]
Offset = Annotated[
    int,
    Query(ge=0, le=1 << 31, deprecated=True, description="`next_offset` of the page before; give `cursor` instead."),
]


Limit = Annotated[int, Query(ge=1, le=1000, description="Most entries of one page.")]


class Slice:
    """Which part of a collection is asked for."""

    def __init__(self, limit: Limit = 200, cursor: OffsetCursor = None) -> None:
        self._limit, self._offset = limit, offset_of(cursor) if cursor else 0

    def page(self, page: type[PageT], entries: Sequence[Any]) -> PageT:
        """The wanted part of these entries."""
        items, following = cut(entries, self._offset, self._limit)
        return page(items=items, next_cursor=following)


class SliceOrList(Slice):
    """The same of a collection that the last version answered as a bare array."""

    def __init__(
        self,
        limit: Limit = 200,
        cursor: OffsetCursor = None,
        shape: Annotated[
            Literal["page", "list"],
            Query(deprecated=True, description="`list`: all entries as a bare array, as the last version answered."),
        ] = "page",
    ) -> None:
        super().__init__(limit, cursor)
        self._shape = shape

    def of(self, page: type[PageT], entries: Sequence[T]) -> PageT | list[T]:
        """The wanted part of these entries, or all of them."""
        return list(entries) if self._shape == "list" else self.page(page, entries)


WantedPage = Annotated[Slice, Depends()]
"""The parameters of a collection that is whole in memory."""
Wanted = Annotated[SliceOrList, Depends()]
"""Those of one that was a bare array."""
