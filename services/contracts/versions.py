"""Versions of stored formats. Every kind of message, the archives, the learner's state and each kind of JSON object in
a job's folder have their own number.

A format's version is 1 plus the number of its upgrades; upgrade n turns version n into version n + 1. So everything
that was ever written stays readable. To change a format:

1. Prefer a new field with a default. It needs no new version: older readers ignore it, newer ones fill it in.
2. Otherwise (a field changes its meaning, loses its default or goes) append an upgrade and raise the version. Write
   today's form into `tests/data/v<N>` before (`tests/data/write.py`), and upgrade the services that read the format
   before those that write it: a reader refuses what is newer than itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
Upgrade = Callable[[T], T]


class ContractError(ValueError):
    """Bytes that are not of the wanted kind, or of a version that cannot be read."""


def check_version(name: str, version: int, newest: int) -> None:
    """Raises ContractError: nothing of this version can be read; the sentence says which side to upgrade."""
    if version > newest:
        raise ContractError(
            f"{name} has schema {version}: a newer release wrote it, this service reads up to schema {newest}; "
            "upgrade this service"
        )
    if version < 1:
        raise ContractError(f"{name}: want a schema from 1 to {newest}, got {version}")


def upgraded(value: T, version: int, upgrades: Sequence[Upgrade[T]]) -> T:
    """`value`, of a version that can be read, in today's form."""
    for upgrade in upgrades[version - 1 :]:
        value = upgrade(value)
    return value
