"""Finds the live inference replicas that serve a job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from pydantic import ValidationError
from redis.asyncio import Redis

from services.contracts.policy import ReplicaStatus
from services.ledger.replicas import ReplicaRows

log = structlog.get_logger("rollout")

SERVING, DRAINING = "serving", "draining"


class ReplicaTable:
    """A copy of `keys.REPLICAS`, the live ones only.

    Args:
        read: called after each reading.
        owed: told the tokens that each live replica owes, after each reading.
    """

    def __init__(self, redis: Redis, read: Callable[[], None], owed: Callable[[dict[str, int]], None]) -> None:
        self._rows, self._read, self._owed = ReplicaRows(redis), read, owed
        self._live: dict[str, ReplicaStatus] = {}
        self._crashed: set[str] = set()
        self._changed = asyncio.Event()

    def serving(self, job_id: str) -> list[str]:
        """Replicas that serve the job now."""
        return [name for name, status in self._live.items() if status.job_id == job_id and status.state == SERVING]

    def lives(self, replica: str) -> bool:
        """Whether its heart beat at the last reading."""
        return replica in self._live

    def answers(self, replica: str, job_id: str) -> bool:
        """Whether an answer to the job's requests may still come: it lives and has not turned to another job."""
        status = self._live.get(replica)
        return status is not None and status.job_id == job_id

    def crashed(self, replica: str) -> bool:
        """Whether it ended without a word, so that what it worked on may be the cause: it did not drain or sign off."""
        return replica in self._crashed

    async def change(self) -> None:
        """Return after the next reading."""
        await self._changed.wait()

    async def refresh(self) -> None:
        """Read the table once."""
        rows = await self._rows.read()
        live = {
            name: status
            for name, row in rows.items()
            if row.alive and (status := _status(name, row.status)) is not None
        }
        gone = set(self._live) - set(live)
        self._crashed = {name for name in rows if not rows[name].alive and not _drained(name, rows[name].status)}
        self._live = live
        self._owed({name: status.outstanding_tokens for name, status in live.items()})
        if gone:
            log.warning("replicas are gone", replicas=sorted(gone))
        self._read()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _drained(name: str, row: bytes) -> bool:
    status = _status(name, row)
    return status is not None and status.state == DRAINING


def _status(name: str, row: bytes) -> ReplicaStatus | None:
    try:
        return ReplicaStatus.model_validate_json(row)
    except ValidationError as error:
        log.error("a replica's status cannot be read", replica=name, error=str(error))
        return None
