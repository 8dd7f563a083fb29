"""Groups that belong to no training batch. Here they have a purpose, in the ledger a negative batch number.

The ledger consumes groups batch by batch. Training batches count up from 0. Groups of evaluations, of the warm start
and leftovers of a dead trainer get numbers below 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class SettlementKind(Enum):
    """Why groups are settled; the value is the first number of the kind, further ones count down from it."""

    EVALUATION = -1
    WARM_START = -1_000_000_000
    LEFTOVERS = -2_000_000_000
    """The warm start's groups, whose trainer died between its checkpoint and their consumption."""


CHUNKS_PER_EVALUATION = 4_096
"""Numbers of one evaluation: enough for a million episodes."""


@dataclass(frozen=True)
class Settlement:
    """Groups that are consumed without being trained in a batch."""

    kind: SettlementKind
    round: int = 0
    """Number of an evaluation, >= 0; its label and version determine it. It is 0 for the others."""

    def batch_number(self, chunk: int) -> int:
        """The ledger's number for the `chunk`-th part of the groups, below 0.

        Raises:
            ValueError: there is no such number.
        """
        number = self.kind.value - self.round * CHUNKS_PER_EVALUATION - chunk
        if chunk < 0 or settlement_of(number) != self:
            raise ValueError(f"{self} has no chunk {chunk}")
        return number


def settlement_of(batch_number: int) -> Settlement | None:
    """The meaning of a number of the ledger's; None: a training batch."""
    if batch_number >= 0:
        return None
    kind = min((kind for kind in SettlementKind if kind.value >= batch_number), key=lambda kind: kind.value)
    if kind is SettlementKind.EVALUATION:
        return Settlement(kind, (kind.value - batch_number) // CHUNKS_PER_EVALUATION)
    return Settlement(kind)


def training_manifests(manifests: Mapping[int, str]) -> dict[int, str]:
    """Batch -> manifest of the training batches among the ledger's, in order."""
    return {number: manifests[number] for number in sorted(manifests) if settlement_of(number) is None}
