"""Imports of other people's packages without what they load and we don't need."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def as_if_absent(package: str) -> Iterator[None]:
    """While the block imports, an import of this package fails as if it were not installed; afterwards it works.

    No effect where the package is loaded already.
    """
    if package in sys.modules:
        yield
        return
    absent: dict[str, object] = sys.modules  # type: ignore[assignment]  # None means that there is no such package
    absent[package] = None
    try:
        yield
    finally:
        del sys.modules[package]
