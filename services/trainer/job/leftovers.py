"""Groups whose effect a checkpoint holds, although the ledger does not say so: their trainer, or Redis, died before."""

from __future__ import annotations

from contextlib import suppress

from services.contracts.ids import Purpose
from services.ledger import GroupRecord, Ledger, RecordUnreadable
from services.trainer.events import Events
from services.trainer.storage.progress import Progress

RECOVERED = "Redis had lost what happened before checkpoint b{:06d}; the groups are counted as the checkpoint says"


async def trained_leftovers(ledger: Ledger, epoch: int, progress: Progress, events: Events) -> dict[int, list[str]]:
    """The batches that the checkpoint holds and whose groups are not consumed: number -> ids, the newest first.

    A ledger of an instant before the checkpoint is brought to that of the checkpoint first.

    Raises:
        StaleEpoch, LedgerSpoiled, RecordUnreadable.
    """
    await ledger.forget_strangers()
    if await ledger.catch_up(epoch, progress.books):
        await events.warn(RECOVERED.format(progress.batch))
    records = await live_records(ledger)
    held: dict[int, list[str]] = {}
    for number in sorted((number for number in await ledger.manifests() if number < progress.batch), reverse=True):
        held[number] = [
            name for name, record in records.items() if (record.purpose, record.batch) == (Purpose.TRAINING, number)
        ]
    return held


async def consume_trained(ledger: Ledger, epoch: int, progress: Progress, events: Events) -> None:
    """Consume them all: nobody will train them again. Raises as `trained_leftovers`, and MoveRefused."""
    for number, names in (await trained_leftovers(ledger, epoch, progress, events)).items():
        await ledger.consume(epoch, number, names)


async def live_records(ledger: Ledger) -> dict[str, GroupRecord]:
    """Records of the live groups, by id. One that cannot be read is left out: whoever waits for its group drops it."""
    records: dict[str, GroupRecord] = {}
    for name in await ledger.live():
        with suppress(RecordUnreadable):
            if (record := await ledger.record_of(name)) is not None:
                records[name] = record
    return records
