"""Episodes per second by the order in which batches are cut, where some episodes take ten times as long.

    python -m benchmarks.tails [--batches 30] [--groups 4] [--n 8] [--places 64] [--slow-share 0.05] [--json out.json]

The trainer's own admission, waiting and cutting of batches, on the real ledger in Redis. Groups are played by a script
that sleeps: an episode takes `turns` steps of `step_ms`, a slow one ten times as many; `places` episodes are played at
a time in all orders, and whoever waits for a place is served in order. Training a batch is a sleep too. So nothing but
the ledger costs CPU time; on a busy machine it makes the rates of all orders lower, the fastest ones most.

`synchronous` opens a batch when the one before is trained, `cursor` one batch ahead, `arrival` cuts a batch from the
groups played first, with `extra_groups` more under way, and `arrival_patient` lets slow groups become four versions
old. Reference: arrival is to have >= 1.6 times the episodes per second of the synchronous order. Its price is the bias
towards short episodes: the mean length of the episodes that are trained, over that of all that were opened.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from redis.asyncio import Redis

from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec, parse_spec
from services.contracts.messages import OpenedGroup
from services.kit.redis import connect
from services.kit.tasks import ended
from services.ledger import DropReason, GroupState, Ledger
from services.rollout.slots import EpisodeSlots
from services.stack.valkey import embedded_redis
from services.trainer.batch.batches import next_batch
from services.trainer.groups.arrivals import Arrivals
from services.trainer.groups.payloads import StoredGroups
from services.trainer.session.session import Session
from tests.integration.trainer.trainer_platform import register
from tests.unit.trainer.trainer_loop import EPOCH, JOB, FakeEvents, loop_session
from tests.unit.trainer.trainer_payloads import payload, step

SLOWER = 10
ORDERS: dict[str, dict[str, Any]] = {
    "synchronous": {"max_staleness": 0},
    "cursor": {"max_staleness": 1},
    "arrival": {"max_staleness": 1, "batch_order": "arrival"},
    "arrival_patient": {"max_staleness": 4, "batch_order": "arrival"},
}


class SleptLedger(Ledger):
    """The real ledger; groups are played as soon as they are opened and there is a place."""

    def __init__(self, redis: Redis, options: argparse.Namespace) -> None:
        super().__init__(redis, JOB)
        self._options, self._places = options, EpisodeSlots(options.places)
        self._playing: dict[str, asyncio.Task[None]] = {}
        self.version = 0
        self.opened: dict[str, list[int]] = {}
        """Group -> turns of its episodes."""

    async def open(self, epoch: int, group: OpenedGroup, max_attempts: int) -> GroupState:
        """Open it, and begin to play it."""
        state = await super().open(epoch, group, max_attempts)
        if group.group_id not in self._playing:
            chance, turns = random.Random(group.cursor), self._options.turns
            lengths = [turns * SLOWER if chance.random() < self._options.slow_share else turns for _ in range(group.n)]
            self.opened[group.group_id] = lengths
            self._playing[group.group_id] = asyncio.create_task(self._play(group, lengths))
        return state

    async def leave(self) -> None:
        """Play no more."""
        await ended(list(self._playing.values()))

    async def _play(self, group: OpenedGroup, lengths: list[int]) -> None:
        await self._places.take(group.n)
        version = self.version
        await self.start(group.group_id, "sleeper")
        played = payload(
            group.group_id, group.cursor, [[step(at, version=version) for at in range(own)] for own in lengths]
        )
        await asyncio.sleep(max(lengths) * self._options.step_ms / 1000)  # episodes of a group are played side by side
        self._places.give(group.n)
        for episode in played.episodes:
            await self.record(episode, group)
        await self.score(played.scored)


def spec_of(options: argparse.Namespace, order: dict[str, Any]) -> JobSpec:
    """The job, whose groups are opened up to a version ahead."""
    rollout = {
        "groups_per_batch": options.groups, "num_generations": options.n, "max_completion_length": 8, **order,
    }  # fmt: skip
    if "batch_order" in order:
        rollout["extra_groups"] = options.extra_groups
    return parse_spec({"model": {"scratch": {}}, "rollout": rollout, "training": {"total_batches": options.batches}})


async def measure(redis: Redis, folder: Path, options: argparse.Namespace, order: dict[str, Any]) -> dict[str, float]:
    """Episodes per second and what was trained, after a batch to warm up."""
    await redis.flushall()
    await register(redis, JOB)
    ledger = SleptLedger(redis, options)
    assert await ledger.claim_epoch() == EPOCH
    parts: dict[str, Any] = {
        "environment": EnvironmentInfo(id="grid"),
        "settings": SimpleNamespace(batch_timeout_s=600.0, poll_s=0.02),
        "redis": redis,
        "ledger": ledger,
        "events": FakeEvents(),
        "arrivals": Arrivals(redis, ledger, "trainer-1", poll_s=0.02),
        "stored": StoredGroups(redis, JOB),
        "commands": SimpleNamespace(check=_nothing, check_epoch=_nothing),
    }
    session = loop_session(folder, spec_of(options, order), parts)
    trained, waits, wall_s = await _train(session, ledger, options)
    await ledger.leave()
    records = [await ledger.record_of(name) for name in ledger.opened]
    lengths = [length for own in ledger.opened.values() for length in own]
    kept = [length for name in trained for length in ledger.opened[name]]
    return {
        "episodes_per_s": len(kept) / wall_s,
        "wait_s_mean": statistics.mean(waits),
        "length_mean": statistics.mean(kept),
        "length_ratio": statistics.mean(kept) / statistics.mean(lengths),
        "slow_share_opened": sum(length > options.turns for length in lengths) / len(lengths),
        "slow_share_trained": sum(length > options.turns for length in kept) / len(kept),
        "groups_opened": float(len(records)),
        "groups_dropped_as_stale": float(sum(one is not None and one.reason == DropReason.STALE for one in records)),
    }


async def _train(
    session: Session, ledger: SleptLedger, options: argparse.Namespace
) -> tuple[list[str], list[float], float]:
    """Ids of the groups that were trained, the seconds waited for each batch, and those of everything."""
    trained, waits, began = list[str](), list[float](), time.perf_counter()
    for number in range(options.batches):
        asked = time.perf_counter()
        batch = await next_batch(session)
        waits.append(time.perf_counter() - asked)
        trained += batch.group_ids
        await asyncio.sleep(options.train_ms / 1000)
        session.progress.batch = ledger.version = number + 1
        await ledger.consume(EPOCH, number, batch.group_ids)
    return trained, waits, time.perf_counter() - began


async def _nothing() -> None: ...


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """All orders, one after another on one Redis, `rounds` times in turn: medians."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ORDERS}
    with tempfile.TemporaryDirectory() as folder, embedded_redis(Path(folder) / "valkey") as url:
        async with connect(url) as redis:
            for _ in range(options.rounds):
                for name, order in ORDERS.items():
                    found[name].append(await measure(redis, Path(folder), options, order))
    orders = {
        name: {figure: round(statistics.median(one[figure] for one in rounds), 4) for figure in rounds[0]}
        for name, rounds in found.items()
    }
    return {"orders": orders, "over_synchronous": {name: _ratio(found, name, "synchronous") for name in ORDERS}}


def _ratio(found: dict[str, list[dict[str, float]]], name: str, other: str) -> float:
    """Median over the rounds of the ratio of episodes per second within one round."""
    pairs = zip(found[name], found[other], strict=True)
    return round(statistics.median(one["episodes_per_s"] / two["episodes_per_s"] for one, two in pairs), 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--groups", type=int, default=4, help="groups of a batch")
    parser.add_argument("--n", type=int, default=8, help="episodes of a group")
    parser.add_argument("--places", type=int, default=64, help="episodes played at a time")
    parser.add_argument("--extra-groups", type=int, default=4, help="groups opened beyond those that batches need")
    parser.add_argument(
        "--turns", type=int, default=5, help=f"of a usual episode; a slow one has {SLOWER} times as many"
    )
    parser.add_argument("--step-ms", type=float, default=40.0)
    parser.add_argument("--train-ms", type=float, default=100.0)
    parser.add_argument("--slow-share", type=float, default=0.05, help="share of the episodes that are slow")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    load = os.getloadavg()
    figures = asyncio.run(run(options))
    asked = {name: value for name, value in vars(options).items() if name != "json"}
    loads = {"before": load, "after": os.getloadavg()}
    text = json.dumps({"benchmark": "tails", **asked, **figures, "load": loads, "cores": os.cpu_count()}, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
