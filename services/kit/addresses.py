"""Addresses of services, as settings name them: host:port, several with commas between them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def split_address(address: str) -> tuple[str, int]:
    """Host and port. Raises ValueError."""
    host, colon, port = address.strip().rpartition(":")
    if not host or not colon or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError(f"want host:port, several with commas between them, got {address.strip()!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _checked(listed: str) -> str:
    for one in listed.split(","):
        split_address(one)
    return listed


Addresses = Annotated[str, AfterValidator(_checked)]
