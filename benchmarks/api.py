"""Load of the API: submissions by many clients at once, and followers of event streams.

    python -m benchmarks.api [--seconds 60] [--clients 64] [--followers 100] [--database URL] [--json out.json]

A real API process, environment service and Redis, on one machine with this program. Submissions: each client sends the
default job with an Idempotency-Key of its own, waits for the answer, and sends the next; afterwards every acknowledged
job must be stored once and stand in the trainer's queue once. Followers: five on each of a few of those jobs, while
events are told as fast as `--events-per-s` says; each breaks its connection a few times and goes on by Last-Event-ID;
afterwards it must have had every id of the stream once and in order.
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
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import yaml
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.messages import JobEvent, encode
from services.kit.redis import connect
from services.kit.streams import FIELD
from services.stack.valkey import embedded_redis
from tests.integration.api.api_process import ApiProcess, running_api
from tests.integration.rollout.conftest import env_process

ROOT = Path(__file__).parents[1]
FOLLOWERS_OF_A_JOB = 5
BREAKS = 3
"""How often a follower loses its connection."""
SETTLE_S = 120.0
WARM_UP_S = 1.0


class Connection:
    """One HTTP/1.1 connection; written by hand so that the clients take little of the machine that is measured."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, head: str, body: bytes = b"") -> tuple[int, asyncio.StreamReader]:
        """Send a request; the status, and the reader behind the answer's head."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=1 << 20)
        reader, writer = self._streams
        writer.write(f"{head}Host: {self._host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        self.length = next(
            (int(line[15:]) for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        return int(answer[9:12]), reader

    async def call(self, head: str, body: bytes = b"") -> tuple[int, bytes]:
        """A whole answer."""
        status, reader = await self.request(head, body)
        return status, await reader.readexactly(self.length)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class Submitted:
    """The answers that the clients got."""

    ids: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


async def submit(url: str, name: str, spec: dict[str, Any], until: float, seen: Submitted) -> None:
    """One client: submissions one after the other."""
    connection, body = Connection(url), json.dumps(spec).encode()
    count = 0
    while time.perf_counter() < until:
        head = f"POST /v1/jobs HTTP/1.1\r\nContent-Type: application/json\r\nIdempotency-Key: {name}-{count}\r\n"
        begun = time.perf_counter()
        try:
            status, answer = await connection.call(head, body)
        except (OSError, asyncio.IncompleteReadError) as error:
            seen.errors[repr(error)] += 1
            connection.close()
            continue
        seen.seconds.append(time.perf_counter() - begun)
        count += 1
        if status == 201:
            seen.ids.append(json.loads(answer)["id"])
        else:
            seen.errors[f"{status}: {answer[:200]!r}"] += 1
    connection.close()


async def submissions(api: ApiProcess, options: argparse.Namespace) -> tuple[dict[str, float], list[str]]:
    """Rates and latencies, and the ids that were acknowledged."""
    spec = yaml.safe_load((ROOT / "examples" / "default.yaml").read_text())
    every: list[str] = []
    for seconds in (WARM_UP_S, options.seconds):
        seen, begun, cpu = Submitted(), time.perf_counter(), cpu_s(api.process.pid)
        names = [f"{len(every)}-{number}" for number in range(options.clients)]
        await asyncio.gather(*(submit(api.url, name, spec, begun + seconds, seen) for name in names))
        wall = time.perf_counter() - begun
        every += seen.ids
    assert not seen.errors, seen.errors
    latencies = statistics.quantiles(seen.seconds, n=100)
    return {
        "submissions": len(seen.ids),
        "submissions_per_s": len(seen.ids) / wall,
        "submission_p50_ms": 1000 * latencies[49],
        "submission_p99_ms": 1000 * latencies[98],
        "submission_max_ms": 1000 * max(seen.seconds),
        "api_cores": (cpu_s(api.process.pid) - cpu) / wall,
        "errors": sum(seen.errors.values()),
    }, every


async def settled(api: ApiProcess, ids: list[str]) -> dict[str, float]:
    """Seconds until every acknowledged job, and no other, stands in the trainer's queue, each once."""
    begun = time.perf_counter()
    while len(queued := await asyncio.to_thread(api.queued_jobs)) < len(ids):
        assert time.perf_counter() < begun + SETTLE_S, f"{len(ids)} acknowledged, {len(queued)} in the queue"
        await asyncio.sleep(0.5)
    assert sorted(queued) == sorted(ids), "the queue does not hold each acknowledged job once"
    return {"dispatched": len(queued), "dispatched_after_s": time.perf_counter() - begun}


@dataclass
class Followed:
    """The events that one follower was sent."""

    ids: list[str] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)


async def follow(url: str, job: str, breaks: list[int], seen: Followed) -> None:
    """Read a job's events to their end, losing the connection after so many of them."""
    while True:
        connection, last = Connection(url), seen.ids[-1] if seen.ids else "0-0"
        _, reader = await connection.request(f"GET /v1/jobs/{job}/events HTTP/1.1\r\nLast-Event-ID: {last}\r\n")
        ended = await _read(reader, breaks, seen)
        connection.close()
        if ended:
            return


async def _read(reader: asyncio.StreamReader, breaks: list[int], seen: Followed) -> bool:
    while line := (await reader.readline()).rstrip():
        if line.startswith(b"id: "):
            id_ = line[4:].decode()
            seen.ids.append(id_)
            seen.late_ms.append(1000 * time.time() - int(id_.partition("-")[0]))
        elif b'"SUCCEEDED"' in line:
            return True
        if breaks and len(seen.ids) >= breaks[0]:
            breaks.pop(0)
            return False
    return await _read(reader, breaks, seen) if not reader.at_eof() else False


async def tell(redis: Redis, jobs: list[str], options: argparse.Namespace) -> None:
    """Events of all jobs at the wanted rate, then each job's end."""
    every = len(jobs) / options.events_per_s
    for number in range(options.events):
        begun = time.perf_counter()
        data = {"batch": number, "success": number / options.events, "loss": 0.5}
        await _add(redis, jobs, JobEvent(kind="metrics", at_unix_s=time.time(), data=data))
        await asyncio.sleep(max(0.0, every - (time.perf_counter() - begun)))
    await _add(redis, jobs, JobEvent(kind="state", at_unix_s=time.time(), data={"state": "SUCCEEDED"}))


async def _add(redis: Redis, jobs: list[str], event: JobEvent) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for job in jobs:
            pipe.xadd(keys.events_stream(job), {FIELD: encode(event)})
        await pipe.execute()


async def followers(api: ApiProcess, ids: list[str], options: argparse.Namespace) -> dict[str, float]:
    """The followers' events, each checked against the stream id by id."""
    jobs = ids[:: max(1, len(ids) * FOLLOWERS_OF_A_JOB // options.followers)][: options.followers // FOLLOWERS_OF_A_JOB]
    redis, rng = connect(api.redis_url), random.Random(0)
    async with redis:
        await redis.sadd(keys.ACTIVE_JOBS, *jobs)  # as the trainer does
        await _add(redis, jobs, JobEvent(kind="state", at_unix_s=time.time(), data={"state": "RUNNING"}))
        seen = [(job, Followed()) for job in jobs for _ in range(FOLLOWERS_OF_A_JOB)]
        breaks = [sorted(rng.randrange(1, options.events) for _ in range(BREAKS)) for _ in seen]
        begun, cpu = time.perf_counter(), cpu_s(api.process.pid)
        following = [follow(api.url, job, cut, one) for (job, one), cut in zip(seen, breaks, strict=True)]
        await asyncio.wait_for(asyncio.gather(tell(redis, jobs, options), *following), SETTLE_S + 600)
        wall = time.perf_counter() - begun
        wanted = {job: [id_.decode() for id_, _ in await redis.xrange(keys.events_stream(job))] for job in jobs}
    lost = sum(len(set(wanted[job]) - set(one.ids)) for job, one in seen)
    assert all(one.ids == wanted[job] for job, one in seen), f"{lost} events were lost, or some came twice"
    late = sorted(ms for _, one in seen for ms in one.late_ms[-options.events // 2 :])
    return {
        "followers": len(seen),
        "events_told": sum(map(len, wanted.values())),
        "events_received": sum(len(one.ids) for _, one in seen),
        "events_lost": lost,
        "events_received_per_s": sum(len(one.ids) for _, one in seen) / wall,
        "event_late_p50_ms": late[len(late) // 2],
        "event_late_p99_ms": late[len(late) * 99 // 100],
        "followed_api_cores": (cpu_s(api.process.pid) - cpu) / wall,
    }


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children so far."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to submit")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--followers", type=int, default=100)
    parser.add_argument("--events", type=int, default=300, help="events of each followed job")
    parser.add_argument("--events-per-s", type=float, default=200.0, help="of all jobs together")
    parser.add_argument("--database", default="", help="SQLAlchemy URL; empty: SQLite")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    settings = {"API_DATABASE_URL": options.database, "API_RECONCILE_S": "1.0", "API_LOG_LEVEL": "WARNING"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            embedded_redis(folder / "valkey") as url,
            env_process() as address,
            running_api(folder, url, address, **settings) as api,
        ):
            figures, ids = asyncio.run(submissions(api, options))
            figures |= asyncio.run(settled(api, ids))
            figures |= asyncio.run(followers(api, ids, options))
    figures["load_average"] = os.getloadavg()[0]
    for key, value in figures.items():
        print(f"{key:28} {value:12.3f}")
    asked = {key: value for key, value in vars(options).items() if key != "json"}
    line = json.dumps({"benchmark": "api", **asked, **{key: round(value, 4) for key, value in figures.items()}})
    print(line)
    if options.json:
        options.json.write_text(line + "\n")


if __name__ == "__main__":
    main()
