"""The tables of all trainers, and the lookup of a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from services.contracts.foreign.row import Foreign
from services.contracts.foreign.shared import SHARED
from services.contracts.foreign.swift import SWIFT, SWIFT_DEFAULTS, SWIFT_SAME
from services.contracts.foreign.trl import TRL, TRL_DEFAULTS, TRL_SAME
from services.contracts.foreign.verl import VERL, VERL_DEFAULTS


@dataclass(frozen=True)
class Source:
    """A trainer whose names people know."""

    title: str
    rows: tuple[Foreign, ...]
    same: tuple[str, ...]
    """Names that are ours too."""
    defaults: Mapping[str, object]
    """Our key -> its default there, where that differs from ours."""


SOURCES: dict[str, Source] = {
    "ms-swift": Source("ms-swift", (*SWIFT, *SHARED), SWIFT_SAME, SWIFT_DEFAULTS),
    "trl": Source("TRL", (*TRL, *SHARED), TRL_SAME, TRL_DEFAULTS),
    "verl-agent": Source("verl-agent", VERL, (), VERL_DEFAULTS),
}


@cache
def _by_name() -> dict[str, Foreign]:
    return {row.name: row for source in reversed(SOURCES.values()) for row in source.rows}


def foreign_name(name: str) -> Foreign | None:
    """The row of a name as it stands in a script: `--save-steps`, `save_steps`, `+trainer.save_freq`; None: unknown."""
    return _by_name().get(name.lstrip("-+~").replace("-", "_"))


@cache
def synonyms() -> dict[str, str]:
    """Foreign name -> our key (`MAPPING.KEY` inside a mapping), of the names that are taken for ours."""
    return {row.name: row.ours for row in _by_name().values() if row.taken and row.ours is not None}
