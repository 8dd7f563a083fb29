"""The base of every group of calls: a single call, a paged list, a streamed answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import httpx

from gigpo.client.errors import ApiRefused, NotFound
from gigpo.client.http.call import Call, QueryValue, reads_page, refusal
from gigpo.client.http.retries import Retries, wait_or_raise

T = TypeVar("T")
_MOST = 200
"""Entries of one page; every list of the API gives so many."""


class Calls:
    """A group of calls of one client."""

    retries: Retries
    _http: httpx.AsyncClient

    async def _perform(self, call: Call[T]) -> T:
        """The value of one call, repeated as `retries` has it.

        Raises:
            ApiRefused: it answered with a problem.
            Unreachable: it did not answer.
            BadAnswer.
        """
        attempt = 0
        while True:
            try:
                return call.value(await self._http.send(call.request(self._http)))
            except (httpx.TransportError, ApiRefused) as error:
                if attempt and call.method == "DELETE" and isinstance(error, NotFound):
                    return call.parse(httpx.Response(204))  # an earlier attempt did it, and its answer was lost
                wait_s = wait_or_raise(error, attempt, self.retries, repeatable=call.repeatable)
            attempt += 1
            await asyncio.sleep(wait_s)

    @asynccontextmanager
    async def _opened(self, call: Call[None]) -> AsyncIterator[httpx.Response]:
        """An answer whose body can be read as it comes. Raises ApiRefused for a problem, httpx.TransportError."""
        answer = await self._http.send(call.request(self._http), stream=True)
        try:
            if not answer.is_success:
                await answer.aread()
                raise refusal(answer)
            yield answer
        finally:
            await answer.aclose()

    async def _entries(
        self,
        path: str,
        field: str,
        shape: type[T],
        query: Mapping[str, QueryValue],
        *,
        limit: int | None = None,
        **names: str,
    ) -> AsyncIterator[T]:
        """The entries of a list, page by page as they are wanted.

        Args:
            field: where a page has its entries.
            limit: at most so many; None: all.
        """
        position: dict[str, QueryValue] = {}
        left = limit
        while left is None or left > 0:
            asked = {**query, **position, "limit": _MOST if left is None else min(_MOST, left)}
            page = await self._perform(Call("GET", path, reads_page(field, shape), names=names, query=asked))
            for one in page.entries:
                yield one
            left = None if left is None else left - len(page.entries)
            position = page.next
            if not position:
                return

    async def _all(self, path: str, shape: type[T], **names: str) -> list[T]:
        """Every entry of a list that has no filters.

        It does not say how many it wants at a time: an API of the last version knows no pages of such lists.
        """
        found: list[T] = []
        position: dict[str, QueryValue] = {}
        while True:
            page = await self._perform(Call("GET", path, reads_page("items", shape), names=names, query=position))
            found += page.entries
            position = page.next
            if not position:
                return found
