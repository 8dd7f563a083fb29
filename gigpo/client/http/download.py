"""The state of a download: how many bytes have arrived, how to request the rest, and the check of the whole file."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import BinaryIO

import httpx

from gigpo.client.errors import BrokenDownload
from gigpo.client.http.call import Call


class Arrival:
    """The part of a file that has arrived."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._version: str | None = None
        """ETag of the file that is arriving."""
        self._declared: int | None = None
        """Its size, as the answer has it."""
        self._begin()

    def _begin(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.size, self._digest = 0, hashlib.sha256()

    def rest_of(self, call: Call[None]) -> Call[None]:
        """The call for what has not come yet, or for the whole file where its version is not known."""
        headers = {**call.headers, "Accept-Encoding": "identity"}
        if self.size and self._version:
            headers |= {"Range": f"bytes={self.size}-", "If-Range": self._version}
        return dataclasses.replace(call, headers=headers)

    def begin_with(self, answer: httpx.Response) -> None:
        """Take an answer whose body follows: the rest, or the whole file from its first byte."""
        if answer.status_code != httpx.codes.PARTIAL_CONTENT:
            self._begin()
        self._version, self._declared = answer.headers.get("etag"), _whole_size(answer)

    def add(self, chunk: bytes) -> None:
        """Write what came."""
        self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    def verify(self, name: str, size: int | None, sha256: str | None) -> None:
        """Check what came against what was promised; None: the size that was declared, no digest.

        Raises:
            BrokenDownload: it is another file.
        """
        wanted = self._declared if size is None else size
        if wanted is not None and self.size != wanted:
            raise BrokenDownload(f"{name}: want {wanted} bytes, got {self.size}")
        if sha256 is not None and (got := self._digest.hexdigest()) != sha256:
            raise BrokenDownload(f"{name}: want SHA-256 {sha256}, got {got}")


def _whole_size(answer: httpx.Response) -> int | None:
    """Bytes of the whole file, as the answer declares them."""
    if answer.status_code == httpx.codes.PARTIAL_CONTENT:
        total = answer.headers.get("content-range", "").rpartition("/")[2]
        return int(total) if total.isdecimal() else None
    length = answer.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None
