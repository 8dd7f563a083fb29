"""Downloads files from the API: streams, resumes after a broken connection, verifies, and leaves no incomplete file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from gigpo.client.asynchronous.base import Calls
from gigpo.client.errors import ApiRefused
from gigpo.client.http.call import Call
from gigpo.client.http.download import Arrival
from gigpo.client.http.retries import wait_or_raise
from gigpo.client.own_files import arriving_file


class Downloads(Calls):
    """A group of calls some of which fetch files."""

    async def _downloaded(
        self, call: Call[None], target: Path, *, size: int | None = None, sha256: str | None = None, force: bool = False
    ) -> Path:
        """Write the answer's body to `target`.

        Args:
            size: bytes that were promised; None: what the answer declares.
            sha256: hex digest that was promised; None: only the size is checked.
            force: replace a file that is there already.

        Raises:
            BadInput: `target` is there already and `force` is not given, or it is a folder.
            BrokenDownload: what came is not what was promised; `target` is as it was.
            ApiRefused, Unreachable.
        """
        with arriving_file(target, force=force) as file:
            arrival = Arrival(file)
            await self._arrived(call, arrival)
            arrival.verify(target.name, size, sha256)
        return target

    async def _arrived(self, call: Call[None], arrival: Arrival) -> None:
        attempt = 0
        while True:
            before = arrival.size
            try:
                async with self._opened(arrival.rest_of(call)) as answer:
                    arrival.begin_with(answer)
                    async for chunk in answer.aiter_bytes():
                        arrival.add(chunk)
                return
            except (httpx.TransportError, ApiRefused) as error:
                attempt = 0 if arrival.size > before else attempt
                wait_s = wait_or_raise(error, attempt, self.retries)
                attempt += 1
            await asyncio.sleep(wait_s)
