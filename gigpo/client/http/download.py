"""A file from the API: streamed, continued where a connection broke, verified, and there wholly or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

import httpx

from gigpo.client.errors import ApiRefused, BrokenDownload
from gigpo.client.http.call import Call, nothing
from gigpo.client.http.flow import Flow, Read, Sleep, opened, wait_or_raise
from gigpo.client.http.retries import Retries
from gigpo.client.own_files import arriving_file


def downloaded(
    call: Call[None],
    target: Path,
    retries: Retries,
    *,
    size: int | None = None,
    sha256: str | None = None,
    force: bool = False,
) -> Flow[Path]:
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
        arrival = _Arrival(file)
        yield from _arrived(call, arrival, retries)
        _verify(target.name, arrival, size, sha256)
    return target


class _Arrival:
    """What of a file has come so far."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.version: str | None = None
        """ETag of the file that is arriving."""
        self.declared: int | None = None
        """Its size, as the answer has it."""
        self.begin()

    def begin(self) -> None:
        """From the first byte."""
        self._file.seek(0)
        self._file.truncate()
        self.size, self.digest = 0, hashlib.sha256()

    def add(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self.digest.update(chunk)
        self.size += len(chunk)


def _arrived(call: Call[None], arrival: _Arrival, retries: Retries) -> Flow[None]:
    attempt = 0
    while True:
        before = arrival.size
        try:
            answer = yield from opened(_continued(call, arrival))
            if answer.status_code != httpx.codes.PARTIAL_CONTENT:
                arrival.begin()
            arrival.version, arrival.declared = answer.headers.get("etag"), _whole_size(answer)
            while (chunk := (yield Read())) is not None:
                arrival.add(chunk)
            return
        except (httpx.TransportError, ApiRefused) as error:
            attempt = 0 if arrival.size > before else attempt
            wait_s = wait_or_raise(error, attempt, retries)
            attempt += 1
        yield Sleep(wait_s)


def _continued(call: Call[None], arrival: _Arrival) -> Call[None]:
    headers = {**call.headers, "Accept-Encoding": "identity"}
    if arrival.size and arrival.version:
        headers |= {"Range": f"bytes={arrival.size}-", "If-Range": arrival.version}
    return Call("GET", call.path, nothing, names=call.names, query=call.query, headers=headers)


def _whole_size(answer: httpx.Response) -> int | None:
    """Bytes of the whole file, as the answer declares them."""
    if answer.status_code == httpx.codes.PARTIAL_CONTENT:
        total = answer.headers.get("content-range", "").rpartition("/")[2]
        return int(total) if total.isdecimal() else None
    length = answer.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


def _verify(name: str, arrival: _Arrival, size: int | None, sha256: str | None) -> None:
    wanted = arrival.declared if size is None else size
    if wanted is not None and arrival.size != wanted:
        raise BrokenDownload(f"{name}: want {wanted} bytes, got {arrival.size}")
    if sha256 is not None and (got := arrival.digest.hexdigest()) != sha256:
        raise BrokenDownload(f"{name}: want SHA-256 {sha256}, got {got}")
