"""A backup of a working platform, in the order of docs/operations.md, is restored in an empty place; a job goes on."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
from redis import Redis

from services.stack.plan import stack_stages
from services.stack.settings import Settings
from services.stack.supervisor import Supervisor
from tests.redis_servers import answers, server, wait_until

BATCHES = 60
SPEC: dict[str, Any] = {
    "name": "kept",
    "model": {"scratch": {}, "warmstart": None},
    "environment": {"environment": "grid", "environment_kwargs": {"goal": "corner", "size": [3], "walls": [0]},
                    "max_turns": 4},
    "rollout": {"groups_per_batch": 2, "num_generations": 2, "max_completion_length": 6},
    "training": {"total_batches": BATCHES},
    "checkpoint": {"checkpoint_every": 1},
    "evaluation": {"eval_episodes": 2},
    "inference": {"engine": "transformers"},
}  # fmt: skip
HANGS_S = 500
PERSISTENT = ("appendonly yes", "appendfsync everysec", 'save ""')


@asynccontextmanager
async def stack(data: Path, redis_port: int) -> AsyncIterator[httpx.AsyncClient]:
    url = f"redis://127.0.0.1:{redis_port}/0"
    settings = Settings(data_dir=data, api_port=0, redis_url=url, drain_s=0.5)
    supervisor = Supervisor(stack_stages(settings, None, url), data / "logs", print)
    try:
        await supervisor.start()
        async with httpx.AsyncClient(base_url=supervisor.addresses["api"], timeout=60) as http:
            yield http
    finally:
        await supervisor.stop(asyncio.Event())


async def until(done: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(HANGS_S):
        while not await done():
            await asyncio.sleep(0.2)


def batches(data: Path, job: str) -> list[int]:
    """Those that the job has told its metrics of, in order."""
    lines = (data / "jobs" / job / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["batch"] for line in lines]


def backed_up(data: Path, redis_folder: Path, redis_port: int, to: Path) -> None:
    """Redis first, then the database, then the files: what Redis lacks is found again, what files lack is not."""
    with Redis(port=redis_port) as redis:
        redis.config_set("auto-aof-rewrite-percentage", "0")
        wait_until(lambda: not redis.info("persistence")["aof_rewrite_in_progress"])
        shutil.copytree(redis_folder / "appendonlydir", to / "redis" / "appendonlydir")
        redis.config_set("auto-aof-rewrite-percentage", "100")
    to.joinpath("data").mkdir()
    with closing(sqlite3.connect(data / "platform.sqlite")) as database:
        database.execute("VACUUM INTO ?", [str(to / "data" / "platform.sqlite")])
    archive = to / "data.tar"
    left_out = ("--exclude=./platform.sqlite*", "--exclude=./logs")
    packed = subprocess.run(
        ["tar", "-C", str(data), *left_out, "-cf", str(archive), "."], capture_output=True, check=False
    )
    assert packed.returncode in (0, 1), packed.stderr  # 1: a file changed or went while it was read
    subprocess.run(["tar", "-C", str(to / "data"), "-xf", str(archive)], check=True)


async def test_a_backup_of_a_working_platform_goes_on_elsewhere(tmp_path: Path) -> None:
    first, second, data = tmp_path / "first", tmp_path / "second", tmp_path / "data"
    elsewhere = tmp_path / "moved" / "data"
    with server(first / "redis", *PERSISTENT) as redis:
        wait_until(lambda: answers(redis.port))
        async with stack(data, redis.port) as http:
            answer = await http.post("/v1/jobs", json=SPEC)
            assert answer.is_success, answer.text
            job = answer.json()["id"]

            async def has_begun() -> bool:
                path = data / "jobs" / job / "metrics.jsonl"
                return path.exists() and len(batches(data, job)) >= 4

            await until(has_begun)
            backed_up(data, first / "redis", redis.port, second)
    copied = batches(second / "data", job)
    assert len(copied) < BATCHES, "the job ended before it was copied"
    shutil.rmtree(first)
    shutil.rmtree(data)
    elsewhere.parent.mkdir()
    (second / "data").rename(elsewhere)
    with server(second / "redis", *PERSISTENT) as redis:
        wait_until(lambda: answers(redis.port))
        async with stack(elsewhere, redis.port) as http:

            async def has_ended() -> bool:
                told = (await http.get(f"/v1/jobs/{job}")).raise_for_status().json()
                return told["state"] in ("SUCCEEDED", "FAILED", "CANCELLED")

            await until(has_ended)
            told = (await http.get(f"/v1/jobs/{job}")).json()
            assert told["state"] == "SUCCEEDED", told
    assert batches(elsewhere, job) == list(range(BATCHES))
    summary = json.loads((elsewhere / "jobs" / job / "summary.json").read_text())
    ledger = summary["ledger"]
    assert ledger["opened"] == ledger["consumed"] + sum(ledger["dropped"].values())
    assert ledger["consumed"] >= 2 * BATCHES
