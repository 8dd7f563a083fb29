"""The port of a learner; the trainer's process uses one on a group of ranks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Protocol

from gigpo_core import Turn
from services.contracts.job import JobSpec, WarmStart
from services.contracts.messages import Episode, ScoredGroup
from services.contracts.policy import PolicyProbe
from services.trainer.learner.rows import Row

Supervising = Generator[tuple[int, float], None, dict[str, float]]
"""Yields (optimizer step from 1, mean negative log-likelihood per token); returns the report."""

Divergences = Sequence[Sequence[float]]
"""The k1 estimate of the KL to the reference policy, nats, for each row of each group in order."""

Scored = tuple[ScoredGroup, list[Episode]]
"""A group's scores, and the episodes that they are of."""

Rescoring = Callable[[Sequence[Scored], JobSpec, Divergences | None], list[ScoredGroup]]
"""See `second_stage.rescored`."""


class TrainsPolicy(Protocol):
    """The methods of `Learner` are described there."""

    optimizer_steps: int

    @property
    def device(self) -> str: ...

    def supervise(self, turns: Sequence[Turn], warmstart: WarmStart) -> Supervising: ...

    def mismatch(self, rows: Sequence[Row]) -> dict[str, float]: ...

    def divergence(self, rows: Sequence[Row]) -> list[float]: ...

    def rescored(self, groups: Sequence[Scored], spec: JobSpec, kl: Divergences | None) -> list[ScoredGroup]: ...

    def train_batch(self, rows: Sequence[Row], batch_index: int) -> dict[str, float]: ...

    def save_policy(self, folder: Path) -> dict[str, str]: ...

    def probe(self) -> PolicyProbe | None: ...

    def save(self, folder: Path) -> dict[str, str]: ...

    def load(self, folder: Path) -> None: ...

    def export(self, folder: Path) -> None: ...
