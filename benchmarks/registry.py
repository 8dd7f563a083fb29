"""What knowing each other costs Redis and the workers, by simulation: many replicas, rollout workers, environment pods.

    python -m benchmarks.registry [--replicas 64] [--workers 64] [--pods 1000] [--seconds 15] [--json out.json]

First part: so many inference replicas with an engine that samples nothing, and so many workers' views of them, all
from the services' own code, serve one job on an embedded Redis in which nothing else happens. What is counted is what
Redis counts. Second part: one worker's view of so many environment pods, which a gRPC server on as many ports plays;
what is counted is the CPU time of that worker. On a busy machine the simulation falls behind: `looks` says how far.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import psutil
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc
from redis import Redis as SyncRedis

import services.inference.service as replica_service
import services.rollout.instances as worker_instances
from services.contracts import keys
from services.inference.running import running_replica
from services.inference.settings import Settings as ReplicaSettings
from services.kit.log import configure_logging
from services.kit.redis import connect
from services.ledger.active_jobs import active_jobs
from services.ledger.presence import present
from services.rollout.inference import connected_inference
from services.rollout.instances import Instances
from services.rollout.settings import Settings as WorkerSettings
from services.stack.valkey import embedded_redis
from tests.unit.inference.fake_engine import FakeEngine
from tests.unit.inference.policy_versions import any_manifest

JOB = "job"
PROCESSES = 4
SETTLED_S = 4.0
"""Longer than a row proves life, so that what every reader asks at first is over."""
START_S = 300.0


async def _replica(url: str, name: str, folder: Path) -> None:
    settings = ReplicaSettings(redis_url=url, data_dir=folder, replica=name)
    async with running_replica(settings, {"fake": FakeEngine}) as failed:
        await failed


async def _worker(url: str, name: str) -> None:
    """What a rollout worker asks of Redis while it has nothing to play."""
    settings = WorkerSettings(redis_url=url, env_address="127.0.0.1:1", data_dir=Path("/nowhere"))
    async with connect(url) as redis, AsyncExitStack() as held:
        await held.enter_async_context(present(redis, "rollout", name, dict))
        await held.enter_async_context(connected_inference(redis, name, settings.inference_limits()))
        while True:
            await active_jobs(redis)
            await asyncio.sleep(settings.discover_every_s)


def _play(url: str, folder: Path, replicas: Sequence[str], workers: Sequence[str]) -> None:
    """One process of the simulation, until it is ended."""
    # As many replicas in one process would each read the CPU time of all processes of the machine, every second.
    replica_service.cpu_s = time.process_time  # type: ignore[attr-defined]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    configure_logging("benchmark", "ERROR")

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for name in replicas:
                group.create_task(_replica(url, name, folder))
            for name in workers:
                group.create_task(_worker(url, name))

    asyncio.run(all_of_them())


def _serving(redis: SyncRedis) -> int:
    rows: Any = redis.hvals(keys.REPLICAS)
    return sum(json.loads(row)["state"] == "serving" for row in rows)


def _counts(redis: SyncRedis) -> dict[str, float]:
    """Everything that the server has counted since its start."""
    told: Any = {**redis.info("cpu"), **redis.info("stats")}
    commands: Any = redis.info("commandstats")
    found = {f"calls {name.removeprefix('cmdstat_')}": float(one["calls"]) for name, one in commands.items()}
    return found | {
        "cpu_s": told["used_cpu_user"] + told["used_cpu_sys"],
        "in_bytes": float(told["total_net_input_bytes"]),
        "out_bytes": float(told["total_net_output_bytes"]),
        "commands": sum(found.values()),
    }


def _per_second(before: Mapping[str, float], after: Mapping[str, float], lasted_s: float) -> dict[str, float]:
    rates = {name: (after[name] - before.get(name, 0.0)) / lasted_s for name in after}
    return {name: round(rate, 3 if name == "cpu_s" else 1) for name, rate in sorted(rates.items()) if rate > 0.05}


def polling(replicas: int, workers: int, seconds: float) -> dict[str, float]:
    """What Redis counts each second."""
    names = [f"r{number}" for number in range(replicas)], [f"w{number}" for number in range(workers)]
    spawning = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, embedded_redis(Path(folder)) as url, SyncRedis.from_url(url) as redis:
        redis.set(keys.policy(JOB), any_manifest(0, job=JOB).model_dump_json())
        redis.sadd(keys.ACTIVE_JOBS, JOB)
        parts = [
            spawning.Process(target=_play, args=(url, Path(folder), *(one[part::PROCESSES] for one in names)))
            for part in range(PROCESSES)
        ]
        for part in parts:
            part.start()
        try:
            deadline = time.monotonic() + START_S
            while _serving(redis) < replicas and time.monotonic() < deadline:
                time.sleep(0.5)
            time.sleep(SETTLED_S)
            before, began = _counts(redis), time.monotonic()
            time.sleep(seconds)
            return _per_second(before, _counts(redis), time.monotonic() - began)
        finally:
            for part in parts:
                part.terminate()
                part.join()


class _Pod(env_pb2_grpc.EnvironmentServiceServicer):
    async def GetInstance(self, request: env_pb2.GetInstanceRequest, context: Any) -> env_pb2.GetInstanceResponse:
        return env_pb2.GetInstanceResponse(instance="pod", leases=1, max_leases=8)


def _pods(count: int, ports: Any) -> None:
    """Serve `count` pods, each on a port of one server, until the process is ended."""

    async def serve() -> None:
        server = grpc.aio.server()
        env_pb2_grpc.add_EnvironmentServiceServicer_to_server(_Pod(), server)
        ports.put([server.add_insecure_port("127.0.0.1:0") for _ in range(count)])
        await server.start()
        await server.wait_for_termination()

    asyncio.run(serve())


async def _watched(ports: Sequence[int], seconds: float) -> dict[str, float]:
    async def resolved(host: str, port: int) -> set[str]:
        return {f"127.0.0.1:{one}" for one in ports}

    worker_instances._resolved = resolved  # one name that stands for all of them, as a headless Service does
    instances, process = Instances("pods:1"), psutil.Process()
    deadline = time.monotonic() + START_S
    await instances.look()
    following = asyncio.create_task(instances.follow())
    while not all(one["reachable"] for one in instances.seen()) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    known_s = time.monotonic() + START_S - deadline
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    await asyncio.sleep(seconds)
    used = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await instances.end()
    reachable = sum(bool(one["reachable"]) for one in instances.seen())
    return {"cores": round(used, 3), "all_known_after_s": round(known_s, 1), "reachable": reachable}


def watching(pods: int, seconds: float) -> dict[str, float]:
    """CPU time a second of one worker that knows so many environment pods."""
    spawning = multiprocessing.get_context("spawn")
    ports = spawning.Queue()
    serving = spawning.Process(target=_pods, args=(pods, ports))
    serving.start()
    try:
        return asyncio.run(_watched(ports.get(timeout=START_S), seconds))
    finally:
        serving.terminate()
        serving.join()


def main() -> None:
    """Measure, print, and write where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=64)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    configure_logging("benchmark", "ERROR")
    told: dict[str, Any] = {"replicas": options.replicas, "workers": options.workers, "pods": options.pods}
    if options.replicas:
        counted = polling(options.replicas, options.workers, options.seconds)
        told["redis_per_second"] = counted
        told["looks"] = {
            "per_second": counted["calls hgetall"],
            "at_full_pace": 2 * (options.workers + options.replicas),
            "heartbeats_each": round(counted.get("calls exists", 0.0) / counted["calls hgetall"], 2),
        }
    if options.pods:
        told["worker"] = watching(options.pods, options.seconds)
    text = json.dumps(told, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
