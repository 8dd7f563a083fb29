"""Throughput of the rollout loop: a real worker, environment service and Redis, and a policy that costs nothing.

    python -m benchmarks.rollout [--seconds 10] [--n 8] [--in-flight 256] [--latency-ms 0] [--json out.json]

The replica is a coroutine of this process that answers the real stream with replies drawn by seed, so what is measured
is the worker (prompts, joining, gRPC, Redis, ledger) and the environment service, in CPU seconds of each process. The
environment is the grid with its default worlds; with random moves nearly every episode takes all of its turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.messages import CompleteGroup, Episode, decode
from services.kit.redis import connect
from services.kit.streams import StreamConsumer
from services.kit.tasks import ended
from services.ledger import DropReason
from services.ledger.ledger import ADVANTAGE
from services.stack.valkey import embedded_redis
from tests.integration.rollout.conftest import env_process
from tests.integration.rollout.fake_replica import FakeReplica, serving
from tests.integration.rollout.worker_process import WorkedJob, worker_process

MOVES = ("go north", "go south", "go east", "go west")
WARM_UP_S = 2.0


@dataclass
class Played:
    """The counts of the ledger so far."""

    groups: int = 0
    episodes: int = 0
    steps: int = 0
    generate_s: float = 0.0
    env_s: float = 0.0


class Trainer:
    """Opens groups ahead, and takes the played ones out of the ledger: what a trainer and an advantage service do."""

    def __init__(self, redis: Redis, job: WorkedJob, options: argparse.Namespace) -> None:
        self._job, self._options, self.played = job, options, Played()
        self._complete = StreamConsumer(redis, keys.episodes_stream(job.job_id), ADVANTAGE, "benchmark")

    async def run(self) -> None:
        """Open groups without end, so that twice as many episodes are open as the worker plays at a time."""
        ahead, cursor = max(2, 2 * self._options.in_flight // self._options.n), 0
        while True:
            while cursor < self.played.groups + ahead:
                await self._job.open(cursor, n=self._options.n, actor=self._options.actor)
                cursor += 1
            for entry in await self._complete.read(64, block_ms=200):
                await self._take(decode(entry.payload, CompleteGroup).group_id)

    async def _take(self, group_id: str) -> None:
        for payload in await self._job.ledger.episodes_of(group_id):
            episode = decode(payload, Episode)
            self.played.episodes += 1
            self.played.steps += len(episode.steps)
            self.played.generate_s += episode.generate_s
            self.played.env_s += episode.env_s
        self.played.groups += 1
        await self._job.ledger.drop(self._job.epoch, group_id, DropReason.FILTERED)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children so far."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def child(command: str) -> int:
    """Pid of the child of ours that runs `command`."""
    children = psutil.Process().children(recursive=True)
    return next(one.pid for one in children if command in " ".join(one.cmdline()))


async def traffic_of(redis: Redis) -> dict[str, int]:
    """What the server has read, written and done since its start, as it counts itself."""
    told = await redis.info("stats")
    return {
        "in_bytes": int(told["total_net_input_bytes"]),
        "out_bytes": int(told["total_net_output_bytes"]),
        "commands": int(told["total_commands_processed"]),
    }


async def measure(
    redis: Redis, folder: Path, options: argparse.Namespace, addresses: tuple[str, str]
) -> dict[str, float]:
    """Steps per second and CPU seconds per 1,000 steps of each process, after a warm-up."""
    job = WorkedJob(redis, folder, "job_benchmark", {"max_turns": 20})
    await job.begin()
    replica = FakeReplica(redis, job.job_id, job.replies(*MOVES))
    replica.late_s = options.latency_ms / 1000
    trainer = Trainer(redis, job, options)
    settings = {"ROLLOUT_MAX_EPISODES": str(options.in_flight), "ROLLOUT_COALESCE_MS": str(options.coalesce_ms)}
    with worker_process(*addresses, folder, ROLLOUT_LOG_LEVEL="WARNING", **settings) as worker:
        pids = {"rollout": worker.pid, "env": child("services.env.main"), "redis": child("valkey")}
        async with serving(replica):
            running = asyncio.create_task(trainer.run())
            await asyncio.sleep(WARM_UP_S)
            before, requests, items = Played(**vars(trainer.played)), replica.requests, replica.items
            cpu, start = {name: cpu_s(pid) for name, pid in pids.items()}, time.perf_counter()
            traffic = await traffic_of(redis)
            await asyncio.sleep(options.seconds)
            wall, steps = time.perf_counter() - start, trainer.played.steps - before.steps
            traffic = {name: value - traffic[name] for name, value in (await traffic_of(redis)).items()}
            used = {name: cpu_s(pid) - cpu[name] for name, pid in pids.items()}
            await ended([running])
    return {
        "steps": steps,
        "steps_per_s": steps / wall,
        "episodes_per_s": (trainer.played.episodes - before.episodes) / wall,
        **{f"{name}_cpu_s_per_1000_steps": 1000 * seconds / steps for name, seconds in used.items()},
        **{f"{name}_cores": seconds / wall for name, seconds in used.items()},
        **{f"redis_{name}_per_step": value / steps for name, value in traffic.items()},
        "prompts_per_request": (replica.items - items) / max(1, replica.requests - requests),
        "generate_ms_per_step": 1000 * (trainer.played.generate_s - before.generate_s) / steps,
        "env_ms_per_step": 1000 * (trainer.played.env_s - before.env_s) / steps,
    }


async def run(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """The measured figures, with everything started for it and ended after it."""
    with embedded_redis(folder / "valkey") as url, env_process() as address:
        redis = connect(url)
        async with redis:
            return await measure(redis, folder, options, (url, address))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to measure")
    parser.add_argument("--n", type=int, default=8, help="episodes per group")
    parser.add_argument("--in-flight", type=int, default=256, help="episodes at a time")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="how long the replica thinks about a request")
    parser.add_argument("--coalesce-ms", type=float, default=1.0, help="how long a call waits for others")
    parser.add_argument("--actor", choices=["policy", "random"], default="policy")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(run(options, Path(folder)))
    for name, value in figures.items():
        print(f"{name:32} {value:10.3f}")
    asked = {name: value for name, value in vars(options).items() if name != "json"}
    line = json.dumps({"benchmark": "rollout", **asked, **{name: round(value, 4) for name, value in figures.items()}})
    print(line)
    if options.json:
        options.json.write_text(line + "\n")


if __name__ == "__main__":
    main()
