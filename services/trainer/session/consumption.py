"""Payloads of trained batches. They stay in Redis until every checkpoint of a possible restart has their effect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.ledger import Ledger


class Consumption:
    """The trained batches whose payloads the ledger still holds.

    Args:
        saved_batch: `Progress.batch` of the newest checkpoint; 0: there is none.
    """

    def __init__(self, ledger: Ledger, epoch: int, saved_batch: int = 0) -> None:
        self._ledger, self._epoch, self._saved_batch = ledger, epoch, saved_batch
        self._groups: dict[int, list[str]] = {}

    def trained(self, batch: int, group_ids: Sequence[str]) -> None:
        """A batch was trained; its groups may have to be trained again."""
        self._groups[batch] = list(group_ids)

    @property
    def group_ids(self) -> list[str]:
        """Ids of the groups of all trained batches whose payloads are held."""
        return [name for groups in self._groups.values() for name in groups]

    def is_saved(self, position: int) -> bool:
        """Whether the newest checkpoint holds the effect of every batch below `position`."""
        return position <= self._saved_batch

    async def saved(self, position: int, replayable_from: int) -> None:
        """A checkpoint is durable that holds every batch below `position`; free those that nobody may replay.

        Args:
            replayable_from: the first batch that may have to be trained again.
        """
        self._saved_batch = position
        await self._free(batch for batch in list(self._groups) if batch < replayable_from)

    async def finished(self) -> None:
        """The exported policy holds the effect of all batches: free them. What is done stays done on an error."""
        await self._free(list(self._groups))

    async def _free(self, batches: Iterable[int]) -> None:
        for batch in sorted(batches):
            await self._ledger.consume(self._epoch, batch, self._groups[batch])
            del self._groups[batch]
