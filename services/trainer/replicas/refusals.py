"""What inference replicas say of a version that they can't serve."""

from __future__ import annotations

from contextlib import suppress

from pydantic import ValidationError
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.policy import PolicyRefusal, ReplicaStatus
from services.kit.values import hash_value, texts
from services.trainer.errors import JobFailed


async def refusals(redis: Redis, job: str, version: int) -> list[PolicyRefusal]:
    """Of this version, one of each replica."""
    found = []
    for raw in (await hash_value(redis, keys.policy_refusals(job))).values():
        with suppress(ValidationError):  # what cannot be read is nobody's word
            found.append(PolicyRefusal.model_validate_json(raw))
    return [refusal for refusal in found if refusal.version == version]


async def raise_when_refused(redis: Redis, job: str, version: int) -> None:
    """Raises JobFailed where a replica refuses the version for good, and no other live one is about to serve it."""
    found = await refusals(redis, job, version)
    final = {refusal.replica: refusal.reason for refusal in found if refusal.final}
    if final and not await _replicas_of(redis, job) - final.keys():
        raise JobFailed(f"policy version {version} can't be served: {next(iter(final.values()))}")


async def last_refusal(redis: Redis, job: str, version: int) -> str:
    """`; r0: why it can't`, or nothing where no replica said so."""
    return "".join(f"; {refusal.replica}: {refusal.reason}" for refusal in await refusals(redis, job, version))


async def _replicas_of(redis: Redis, job: str) -> set[str]:
    """Live replicas that took the job."""
    rows = await hash_value(redis, keys.REPLICAS)
    taken = set(texts(name for name, row in rows.items() if _job_of(row) == job))
    return {name for name in taken if await redis.exists(keys.replica_heartbeat(name))}


def _job_of(row: bytes) -> str | None:
    try:
        return ReplicaStatus.model_validate_json(row).job_id
    except ValidationError:  # of another version of the inference service
        return None
