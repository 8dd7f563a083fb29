"""Costs of the ledger: its moves and acknowledgements against the time of rollouts, and its memory.

    python -m benchmarks.ledger [--groups 200] [--in-flight 10000] [--rounds 10] [--latency-ms 20] [--json out.json]

The moves of whole groups (open, read, start, record, read, score, read, assign, consume) run one after another on an
embedded server and are timed. Beside it a real rollout worker plays against a replica that answers after `latency-ms`:
the time that its episodes wait for inference and environment is the rollout time. Then so many groups are in flight at
once, played and scored; a tenth of them is consumed and replaced again and again, and the server's memory is read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import psutil
from msgspec.structs import replace
from redis.asyncio import Redis

from benchmarks.rollout import run as run_rollout
from services.contracts import keys
from services.contracts.arrays import pack_float32, pack_int32
from services.contracts.messages import Episode, OpenedGroup
from services.kit.redis import connect
from services.kit.streams import StreamConsumer
from services.ledger import Ledger
from services.ledger.ledger import ADVANTAGE, ROLLOUT, TRAINER
from services.stack.valkey import embedded_redis
from tests.rollout_archives import episode, scored

JOB = "job_benchmark"
STEPS, PROMPT_TOKENS, RESPONSE_TOKENS = 20, 100, 6
NEVER = 10**9
"""Entries of groups in flight stay with this process for as long as it measures."""
AT_ONCE = 32
"""Groups that are moved at the same time while memory is measured."""
T = TypeVar("T")


def played(n: int) -> list[Episode]:
    """The episodes of a group, of the size that the default job's have."""
    one = episode(0, [0.0] * STEPS)
    sizes = {
        "prompt_ids": pack_int32([7] * PROMPT_TOKENS),
        "response_ids": pack_int32([7] * RESPONSE_TOKENS),
        "logprobs": pack_float32([-0.5] * RESPONSE_TOKENS),
        "versions": pack_int32([3] * RESPONSE_TOKENS),
    }
    steps = [replace(step, **sizes) for step in one.steps]
    return [replace(one, k=k, steps=steps) for k in range(n)]


class Moves:
    """Moves groups as trainer, rollout worker and advantage service do, and notes how long each move takes."""

    def __init__(self, redis: Redis, n: int) -> None:
        self.ledger, self._episodes = Ledger(redis, JOB), played(n)
        self.took_s: dict[str, list[float]] = defaultdict(list)
        streams = {ROLLOUT: keys.groups_stream, ADVANTAGE: keys.episodes_stream, TRAINER: keys.scored_stream}
        self._readers = {
            name: StreamConsumer(redis, stream(JOB), name, "benchmark", reclaim_idle_ms=NEVER, max_deliveries=NEVER)
            for name, stream in streams.items()
        }
        self._scores = scored("", [0] * (n * STEPS))
        self.epoch = 0

    async def until_scored(self, cursor: int) -> str:
        """A group from its opening to its scores."""
        name = f"g{cursor}"
        group = OpenedGroup(job_id=JOB, group_id=name, purpose="train", cursor=cursor, task_seed=0, split="train",
                            n=len(self._episodes), min_version=0)  # fmt: skip
        await self._timed("open", self.ledger.open(self.epoch, group, 3))
        await self._timed("read", self._readers[ROLLOUT].read(1))
        attempt = await self._timed("start", self.ledger.start(name, "worker"))
        for one in self._episodes:
            mine = replace(one, group_id=name, attempt=attempt.number)
            await self._timed("record", self.ledger.record(mine, group))
        await self._timed("read", self._readers[ADVANTAGE].read(1))
        await self._timed("score", self.ledger.score(replace(self._scores, group_id=name)))
        await self._timed("read", self._readers[TRAINER].read(1))
        return name

    async def consume(self, batch: int, names: Sequence[str]) -> None:
        """The end of scored groups."""
        await self._timed("assign", self.ledger.assign(self.epoch, batch, "{}", names))
        await self._timed("consume", self.ledger.consume(self.epoch, batch, names))

    async def _timed(self, move: str, work: Awaitable[T]) -> T:
        begun = time.perf_counter()
        result = await work
        self.took_s[move].append(time.perf_counter() - begun)
        return result


@asynccontextmanager
async def ledger_on(folder: Path, n: int) -> AsyncIterator[tuple[Moves, Redis, int]]:
    """Moves on an empty server, a connection to it, and its process id."""
    with embedded_redis(folder) as url:
        async with connect(url) as redis:
            moves = Moves(redis, n)
            moves.epoch = await moves.ledger.claim_epoch()
            info: Any = await redis.info("server")
            yield moves, redis, int(info["process_id"])


async def cost(folder: Path, groups: int, n: int) -> dict[str, float]:
    """Time and CPU time of one group's moves."""
    async with ledger_on(folder, n) as (moves, _, server):
        before = cpu_s(server)
        for cursor in range(groups):
            await moves.consume(cursor, [await moves.until_scored(cursor)])
        used = {name: after - before[name] for name, after in cpu_s(server).items()}
    return {
        **{f"{move}_ms_p50": 1_000 * median(took) for move, took in moves.took_s.items()},
        "ledger_ms_per_group": 1_000 * sum(map(sum, moves.took_s.values())) / groups,
        **{f"{name}_cpu_ms_per_group": 1_000 * seconds / groups for name, seconds in used.items()},
    }


def cpu_s(server: int) -> dict[str, float]:
    """CPU seconds so far of Redis and of this process."""
    return {
        name: sum(psutil.Process(pid).cpu_times()[:2]) for name, pid in (("redis", server), ("client", os.getpid()))
    }


async def memory(folder: Path, in_flight: int, n: int, rounds: int) -> dict[str, float]:
    """The server's memory with so many groups in flight, while a tenth of them after the other is replaced."""
    async with ledger_on(folder, n) as (moves, redis, _):
        names = await _scored_together(moves, range(in_flight))
        used, ended = [await used_bytes(redis)], in_flight // 10
        for turn in range(rounds):
            await moves.consume(turn, names[:ended])
            first = in_flight + turn * ended
            names = [*names[ended:], *await _scored_together(moves, range(first, first + ended))]
            used.append(await used_bytes(redis))
        balance = await moves.ledger.balance()
    return {
        "memory_mb": used[0] / 1e6,
        "kb_per_group_in_flight": used[0] / in_flight / 1e3,
        "memory_mb_at_the_end": used[-1] / 1e6,
        "kb_per_ended_group": (used[-1] - used[0]) / (rounds * ended) / 1e3,
        "balanced": float(balance.holds and balance.live == in_flight),
    }


async def _scored_together(moves: Moves, cursors: range) -> list[str]:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(cursor: int) -> str:
        async with turns:
            return await moves.until_scored(cursor)

    return list(await asyncio.gather(*map(one, cursors)))


async def used_bytes(redis: Redis) -> int:
    """Memory of the server's data."""
    info: Any = await redis.info("memory")
    return int(info["used_memory_dataset"])


async def rollout_ms(folder: Path, options: argparse.Namespace) -> float:
    """Time that one episode waits for inference and environment."""
    wanted = argparse.Namespace(seconds=options.seconds, n=options.n, in_flight=64, latency_ms=options.latency_ms,
                                coalesce_ms=1.0, actor="policy")  # fmt: skip
    figures = await run_rollout(wanted, folder)
    return STEPS * (figures["generate_ms_per_step"] + figures["env_ms_per_step"])


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """All figures."""
    moves = await cost(folder / "moves", options.groups, options.n)
    episode_ms = await rollout_ms(folder / "rollout", options)
    held = await memory(folder / "memory", options.in_flight, options.n, options.rounds)
    rollout, cpu = options.n * episode_ms, moves["redis_cpu_ms_per_group"] + moves["client_cpu_ms_per_group"]
    shares = {
        "share_of_rollout_time": moves["ledger_ms_per_group"] / rollout,
        "cpu_share_of_rollout_time": cpu / rollout,
    }
    return {**moves, "episode_ms": episode_ms, **shares, **held}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, default=200, help="groups whose moves are timed")
    parser.add_argument("--n", type=int, default=8, help="episodes per group")
    parser.add_argument("--in-flight", type=int, default=10_000, help="groups at once while memory is read")
    parser.add_argument("--rounds", type=int, default=10, help="how often a tenth of them is consumed and replaced")
    parser.add_argument("--latency-ms", type=float, default=20.0, help="how long the replica thinks about a request")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long the worker plays")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(options, Path(folder)))
    for name, value in figures.items():
        print(f"{name:36} {value:12.4f}")
    asked = {name: value for name, value in vars(options).items() if name != "json"}
    found = {name: round(value, 5) for name, value in figures.items()}
    line = json.dumps(
        {"benchmark": "ledger", **asked, **found, "cores": os.cpu_count(), "load_average": os.getloadavg()[0]}
    )
    print(line)
    if options.json:
        options.json.write_text(line + "\n")


if __name__ == "__main__":
    main()
