"""What every group of calls stands on."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from gigpo.client.http.call import Call, QueryValue, get
from gigpo.client.http.flow import Emit, Flow, Source, perform
from gigpo.client.http.retries import Retries

T = TypeVar("T")
Shape = TypeVar("Shape", bound=BaseModel)
_MOST = 200
"""Entries of one page; every list of the API gives so many."""


class Calls:
    """A group of calls of one client."""

    retries: Retries

    def _perform(self, call: Call[T]) -> Flow[T]:
        return perform(call, self.retries)

    def _entries(
        self,
        path: str,
        field: str,
        shape: type[Shape],
        query: Mapping[str, QueryValue],
        *,
        limit: int | None = None,
        **names: str,
    ) -> Source[Shape]:
        """The entries of a list, page by page as they are wanted.

        Args:
            field: where a page has its entries; where the next one begins stands in `next_cursor` or `next_offset`.
            limit: at most so many; None: all.
        """
        position: dict[str, QueryValue] = {}
        left = limit
        while left is None or left > 0:
            size = _MOST if left is None else min(_MOST, left)
            page = yield from self._perform(get(path, dict[str, Any], {**query, **position, "limit": size}, **names))
            for one in page[field]:
                yield Emit(shape.model_validate(one))
            left = None if left is None else left - len(page[field])
            position = {
                kind: page[f"next_{kind}"] for kind in ("cursor", "offset") if page.get(f"next_{kind}") is not None
            }
            if not position:
                return


def once(key: str | None = None) -> dict[str, str]:
    """Headers that give every repetition of a call the answer of the first."""
    return {"Idempotency-Key": key or uuid.uuid4().hex}


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None: the API's defaults are the defaults."""
    return {name: value for name, value in fields.items() if value is not None}
