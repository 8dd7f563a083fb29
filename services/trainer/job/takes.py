"""Counts how often trainers took a job up without progress, and ends a job that kills every trainer.

A killed trainer reports nothing, and its job goes to the next trainer. Without this count, a job that needs more memory
than the machine has, or two trainers that take a job from each other, would go on for ever.
"""

from __future__ import annotations

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.jobfolder import JobFolder
from services.kit.values import hash_value
from services.ledger import GroupState, Ledger
from services.trainer.errors import JobFailed
from services.trainer.events import Events
from services.trainer.groups.settlement import training_manifests
from services.trainer.phases.evaluation import read_results


async def count_take(redis: Redis, folder: JobFolder, job: str, limit: int) -> None:
    """Note that a trainer takes the job up, before it loads anything; warn of takes in a row that brought nothing new.

    Args:
        limit: so many of them are the job's end.

    Raises:
        JobFailed: there were `limit` of them.
    """
    name, position = keys.takes(job), await _position(redis, folder, job)
    former = await hash_value(redis, name)
    count = former.get(b"count", b"")
    fruitless = int(count) if former.get(b"position") == position.encode() and count.isdigit() else 0
    await redis.hset(name, mapping={"position": position, "count": fruitless + 1})
    if fruitless >= limit:
        raise JobFailed(_sentence(fruitless))
    if fruitless >= limit // 2:
        await Events(redis, job).warn(f"{_sentence(fruitless)}; after {limit} times the job fails")


async def forget_takes(redis: Redis, job: str) -> None:
    """The trainer leaves the job for a known reason: the takes so far count for nothing."""
    await redis.delete(keys.takes(job))


def _sentence(count: int) -> str:
    return (
        f"no progress: trainers took the job up {count} times in a row without a new batch, evaluation or group, and "
        "ended without an error; look at the trainer's log and the machine's memory for the cause"
    )


async def _position(redis: Redis, folder: JobFolder, job: str) -> str:
    """Differs once anything new is durable: a batch, an evaluation, a scored, consumed or dropped group."""
    ledger = Ledger(redis, job)
    batch = max(training_manifests(await ledger.manifests()), default=-1)
    balance = await ledger.balance()
    async with redis.pipeline(transaction=False) as pipe:
        for group in await ledger.live():
            pipe.hget(keys.group(job, group), "state")
        scored = (await pipe.execute()).count(GroupState.SCORED.value.encode())
    ended = balance.consumed + sum(balance.dropped.values())
    return f"{batch} {len(read_results(folder))} {ended} {scored}"
