"""Archives of trained groups. They show why a step was rewarded after Redis has deleted the group.

`rollouts/batch-00001.msgpack.zlib` holds a trained batch and `rollouts/eval-after-00060.msgpack.zlib` an evaluation by
label and policy version: zlib over a msgpack array with one entry per group, in order of cursor:
[`ScoredGroup` payload, [`Episode` payload, ... in order of k]]. The payloads are the messages' bytes as they were in
the ledger.

That is version 1 of the archive, which does not hold its version number. Every later version is a map that holds it as
`archive`. The messages inside have their own versions; an archive is readable if its messages are.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from services.contracts.messages import ContractError, Episode, ScoredGroup, decode
from services.contracts.versions import check_version

FOLDER = "rollouts"
MOST_BYTES = 1 << 30
"""Largest archive that is unpacked; a bigger one was not written by a trainer."""
_LEVEL = 1  # 103 kB -> 70 kB a rollout; higher levels cost more than they save
_NAME = re.compile(r"(?:batch|eval-([a-z_]{1,32}))-(\d{5,})\.msgpack\.zlib")

Encoded = tuple[bytes, list[bytes]]
"""One group as its messages' bytes: (scores, episodes in order of k)."""
Group = tuple[ScoredGroup, list[Episode]]
_READERS = (msgspec.msgpack.Decoder(list[Encoded]).decode,)
"""One for each version of an archive, from 1 on: unpacked bytes -> groups."""


@dataclass(frozen=True)
class ArchiveName:
    """The contents of an archive."""

    number: int
    """Number of the trained batch, or the policy version that an evaluation measured."""
    label: str | None = None
    """The label of the evaluation; None: a trained batch."""

    @classmethod
    def of(cls, name: str) -> Self | None:
        """The contents of a file of this name; None: it is no archive."""
        found = _NAME.fullmatch(name)
        return None if found is None else cls(int(found[2]), found[1])

    def __str__(self) -> str:
        kind = "batch" if self.label is None else f"eval-{self.label}"
        return f"{kind}-{self.number:05d}.msgpack.zlib"


def packed(groups: Sequence[Encoded]) -> bytes:
    """An archive's bytes; the same groups give the same bytes."""
    return zlib.compress(msgspec.msgpack.encode(groups), _LEVEL)


def encoded_groups(path: Path) -> list[Encoded]:
    """The groups of an archive as they were written.

    Raises:
        OSError: the file cannot be read.
        ContractError: it is no archive, or one of a newer version.
    """
    unpacking = zlib.decompressobj()
    try:
        unpacked = unpacking.decompress(path.read_bytes(), MOST_BYTES)
        version = _version_of(unpacked)
        check_version(f"archive {path.name}", version, len(_READERS))
        return _READERS[version - 1](unpacked)
    except (zlib.error, msgspec.MsgspecError) as error:
        raise ContractError(f"archive {path.name}: {error}") from error


class _Head(msgspec.Struct):
    archive: int


_heads = msgspec.msgpack.Decoder(_Head)


def _version_of(unpacked: bytes) -> int:
    try:
        return _heads.decode(unpacked).archive
    except msgspec.MsgspecError:  # an array, not a map
        return 1


def decoded(encoded: Encoded) -> Group:
    """A group's messages. Raises ContractError."""
    scores, episodes = encoded
    return decode(scores, ScoredGroup), [decode(one, Episode) for one in episodes]


def read_archive(path: Path) -> list[Group]:
    """The groups of an archive. Raises OSError or ContractError."""
    return [decoded(one) for one in encoded_groups(path)]
