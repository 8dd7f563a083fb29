"""The port of a learner: one in its own process, or one on a group of ranks."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Protocol

from gigpo_core import Turn
from services.contracts.job import WarmStart
from services.contracts.policy import PolicyProbe
from services.trainer.learner.rows import Row

Supervising = Generator[tuple[int, float], None, dict[str, float]]
"""Yields (optimizer step from 1, mean negative log-likelihood per token); returns the report."""


class TrainsPolicy(Protocol):
    """The methods of `Learner` are described there."""

    optimizer_steps: int

    @property
    def device(self) -> str: ...

    def supervise(self, turns: Sequence[Turn], warmstart: WarmStart) -> Supervising: ...

    def mismatch(self, rows: Sequence[Row]) -> dict[str, float]: ...

    def divergence(self, rows: Sequence[Row]) -> list[float]: ...

    def train_batch(self, rows: Sequence[Row], batch_index: int) -> dict[str, float]: ...

    def save_policy(self, folder: Path) -> dict[str, str]: ...

    def probe(self) -> PolicyProbe | None: ...

    def save(self, folder: Path) -> dict[str, str]: ...

    def load(self, folder: Path) -> None: ...

    def export(self, folder: Path) -> None: ...
