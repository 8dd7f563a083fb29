"""Saves a session's checkpoint, and frees payloads once it is durable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from services.contracts.events import CheckpointSaved
from services.trainer.session.model_card import write_card
from services.trainer.session.session import Session
from services.trainer.session.writing import disk_cause
from services.trainer.storage.checkpoint import prune_checkpoints, replayable_from, write_checkpoint


async def save_checkpoint(session: Session, practised: Sequence[str] = ()) -> bool:
    """Write a checkpoint. Once it is durable, free the payloads that the checkpoint before it does not need either.

    Args:
        practised: live groups of the warm start, whose effect it holds too.

    Returns:
        False: the disk refuses it. The job's user is told, and the checkpoint before it stays the newest.

    Raises:
        StaleEpoch: a newer trainer holds the job.
    """
    await session.commands.check_epoch()
    progress, number, queue = session.progress, session.progress.batch, session.queue
    progress.waiting, progress.next_cursor, progress.lost = queue.cursors, queue.next_cursor, queue.lost
    balance = asdict(await session.ledger.balance())
    progress.ledger = {name: value for name, value in balance.items() if isinstance(value, int)}
    progress.books = await session.ledger.seal(session.epoch, [*session.consumption.group_ids, *practised])
    checkpoints, keep = session.folder.checkpoints, session.spec.checkpoint.checkpoint_keep
    folder = checkpoints / f"b{number:06d}"
    try:
        write_checkpoint(folder, session.learner, progress, lambda unfinished: write_card(unfinished, session.card))
    except OSError as error:
        message = f"checkpoint {folder.name} is skipped, the one before it stays the newest: {disk_cause(error)}"
        await session.events.warn(message)
        return False
    await session.consumption.saved(number, replayable_from(checkpoints, number, keep))
    prune_checkpoints(checkpoints, keep)
    await session.events.add(CheckpointSaved(batch=number, name=folder.name))
    return True


async def save_if_new(session: Session) -> None:
    """A checkpoint, unless the newest one holds this position already."""
    if not session.consumption.is_saved(session.progress.batch):
        await save_checkpoint(session)
