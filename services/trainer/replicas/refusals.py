"""Refusals of inference replicas: the reasons why they can't serve a version."""

from __future__ import annotations

from contextlib import suppress

from pydantic import ValidationError
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.policy import PolicyRefusal
from services.kit.values import hash_value
from services.trainer.errors import JobFailed
from services.trainer.replicas.live import live_replicas


async def refusals(redis: Redis, job: str, version: int) -> list[PolicyRefusal]:
    """Refusals of this version, one of each replica."""
    found = []
    for raw in (await hash_value(redis, keys.policy_refusals(job))).values():
        with suppress(ValidationError):  # what cannot be read is nobody's word
            found.append(PolicyRefusal.model_validate_json(raw))
    return [refusal for refusal in found if refusal.version == version]


async def raise_when_refused(redis: Redis, job: str, version: int) -> None:
    """Raises JobFailed where a replica refuses the version for good, and no other live one is about to serve it."""
    found = await refusals(redis, job, version)
    final = {refusal.replica: refusal.reason for refusal in found if refusal.final}
    if not final:
        return
    serving = {name for name, replica in (await live_replicas(redis)).items() if replica.job_id == job}
    if not serving - final.keys():
        raise JobFailed(f"policy version {version} can't be served: {next(iter(final.values()))}")


async def last_refusal(redis: Redis, job: str, version: int) -> str:
    """`; r0: why it can't`, or nothing where no replica said so."""
    return "".join(f"; {refusal.replica}: {refusal.reason}" for refusal in await refusals(redis, job, version))
