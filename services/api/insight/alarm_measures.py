"""Reads the figures that alarms watch, of a job and of the installation."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from services.api.insight.evidence import LEARNED
from services.api.jobs.dead_letters import counted
from services.contracts import keys
from services.contracts.alarms import BY_NAME
from services.contracts.inert_steps import StepLevel, inert_streak
from services.kit.streams import RawEntry
from services.kit.values import hash_value
from services.ledger import Ledger, RecordUnreadable
from services.ledger.presence import present_names
from services.ledger.records import Balance
from services.ledger.replicas import ReplicaRows

FEW_GROUPS = 20
"""Fewer opened groups give no share."""
ROWS_READ = 20
"""Newest batches that are looked at."""
OLD_STREAMS = (keys.groups_stream, keys.episodes_stream)
"""Streams whose entries go once their group is played or scored."""


@dataclass(frozen=True)
class Measure:
    """One figure."""

    alarm: str
    value: float
    detail: str = ""
    """Words that stand in the sentence in place of the figure."""
    subject: str = ""
    """Which instance; empty: the whole."""

    @property
    def cause(self) -> str:
        """The cause of one alarm."""
        return f"{self.alarm}:{self.subject}" if self.subject else self.alarm

    @property
    def is_over(self) -> bool:
        """Whether the figure is an alarm."""
        return self.value > BY_NAME[self.alarm].above


async def job_measures(
    redis: Redis, job: str, rows: Sequence[Mapping[str, object]], step_level: StepLevel
) -> list[Measure]:
    """The figures of a job whatever its state.

    Args:
        rows: metrics of its newest batches, the newest first.
    """
    found = [
        Measure("dead_letters", await counted(redis, job)),
        Measure("livelock", await _fruitless_takes(redis, job)),
        Measure("zero_variance_streak", equal_batches(rows)),
        inert_batches(step_level, rows),
    ]
    try:
        balance = await Ledger(redis, job).balance()
    except (RecordUnreadable, ResponseError) as error:
        return [*found, Measure("ledger_imbalance", 1, f"it cannot be read: {error}"[:300])]
    return [*found, *ledger_measures(balance)]


async def oldest_pending(redis: Redis, job: str, patience_s: float, watched_s: float) -> Measure:
    """Age of the oldest group that waits to be played or scored.

    Args:
        patience_s: the job's batch_timeout_s.
        watched_s: since when the job is seen running; what waited while nobody could take it does not count.
    """
    seconds, microseconds = await redis.time()
    now = seconds + microseconds / 1e6
    ages = []
    for stream in OLD_STREAMS:
        try:
            oldest = cast("list[RawEntry]", await redis.xrange(stream(job), count=1))
        except ResponseError:  # another type stands there; its reader sets it aside
            continue
        ages += [now - int(entry.partition(b"-")[0]) / 1_000 for entry, _ in oldest]
    age = min(max(ages, default=0.0), watched_s)
    return Measure("oldest_pending", age / patience_s, f"it waits for {age:,.0f} s, batch_timeout_s is {patience_s:g}")


def ledger_measures(balance: Balance) -> list[Measure]:
    """Imbalance, and what infrastructure took."""
    lost = balance.dropped.get("infra", 0)
    share = lost / balance.opened if balance.opened >= FEW_GROUPS else 0.0
    detail = f"{share:.1%} of {balance.opened:,} opened groups"
    return [Measure("ledger_imbalance", abs(balance.apart)), Measure("infra_share", share, detail)]


def equal_batches(rows: Sequence[Mapping[str, object]]) -> int:
    """How many of the newest batches in a row trained no step, in a job that has not learned its tasks yet."""
    return sum(1 for _ in takewhile(_teaches_nothing, rows))


def inert_batches(level: StepLevel, rows: Sequence[Mapping[str, object]]) -> Measure:
    """How many of the newest batches in a row had a step level that says nothing, and why."""
    streak, cause = inert_streak(level, rows)
    return Measure("inert_step_level", streak, f"{cause}, {streak} batches in a row" if cause else "")


def disk(folder: Path) -> Measure:
    """How full the disk of the jobs' folders is."""
    usage = shutil.disk_usage(folder)
    return disk_measure(usage.total, usage.free)


def disk_measure(total_bytes: int, free_bytes: int) -> Measure:
    """The same of a disk of this size."""
    used = 1 - free_bytes / total_bytes if total_bytes else 0.0
    return Measure("disk_nearly_full", used, f"{used:.1%} is used, {free_bytes / 1e9:,.1f} GB are free")


async def silent_replicas(redis: Redis, expected: Sequence[str]) -> list[Measure]:
    """Inference replicas that did not say goodbye and send no heartbeat, and expected services without any instance."""
    rows = await ReplicaRows(redis).read()
    found = [Measure("replica_silent", int(not row.alive), f"{name} of inference", name) for name, row in rows.items()]
    for service in expected:
        alive = bool(await present_names(redis, service))
        found.append(Measure("replica_silent", 0 if alive else 1, f"no live instance of {service}", service))
    return found


def _teaches_nothing(row: Mapping[str, object]) -> bool:
    success = row.get("success")
    return row.get("trained_rows") == 0 and not (isinstance(success, int | float) and success >= LEARNED)


async def _fruitless_takes(redis: Redis, job: str) -> int:
    count = (await hash_value(redis, keys.takes(job))).get(b"count", b"")
    return int(count) if count.isdigit() and len(count) < 10 else 0
