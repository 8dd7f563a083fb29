"""`deterministic: true`: two runs of one spec are equal to the last bit, though services are killed in one of them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import psutil
import pytest
import yaml
from redis import Redis

from services.contracts import keys
from services.contracts.metrics import of_the_clock
from services.ledger.records import state_in
from services.ledger.states import GroupState
from tests.chaos.stack import embedded_redis_url

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
GIGPO = [sys.executable, "-m", "gigpo.client.main"]
BATCHES = 6
KILLED = {1: "rollout", 2: "env", 3: "inference"}
"""Number of a batch that is done -> the service that is killed then."""
OF_THE_RUN = {"failed_attempts"}


class Platform:
    """One folder with a stack of its own, and the command run in it."""

    def __init__(self, folder: Path, **rollout: object) -> None:
        self.folder = folder
        document = yaml.safe_load((ROOT / "examples/default.yaml").read_text())
        document["model"]["warmstart"].update(warmstart_rows=2_000, warmstart_steps=40, warmstart_max_invalid=1.0)
        document["rollout"].update(groups_per_batch=4, num_generations=4, max_staleness=0, max_attempts=9)
        document["rollout"].update(rollout)
        document["training"].update(total_batches=BATCHES, minibatches=2)
        document["evaluation"] = {"eval_episodes": 16}
        document["inference"] = {"engine": "transformers", "deterministic": True}
        (folder / "job.yaml").write_text(yaml.safe_dump(document))
        self.environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "proto")])}

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [*GIGPO, *words], cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def job(self, name: str) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.run("jobs", "show", name, "--json"))
        return found

    def metrics(self, job_id: str) -> list[dict[str, float]]:
        file = self.folder / "runs/.platform/jobs" / job_id / "metrics.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def has_ended(self, job_id: str) -> bool:
        return (self.folder / "runs/.platform/jobs" / job_id / "summary.json").exists()

    def weights(self, job_id: str) -> str:
        (file,) = (self.folder / "runs/.platform/jobs" / job_id / "final").rglob("model.safetensors")
        return hashlib.sha256(file.read_bytes()).hexdigest()

    def is_played(self, job_id: str) -> bool:
        """Whether a group of the job is being played, so that a kill strikes its attempt."""
        with Redis.from_url(embedded_redis_url(self.folder / "runs/.platform")) as redis:
            names = cast("set[bytes]", redis.smembers(keys.live(job_id)))
            states = [redis.hget(keys.group(job_id, name.decode()), "state") for name in names]
        return GroupState.GENERATING in [state_in(cast(bytes, state)) for state in states if state]

    def kill(self, service: str) -> None:
        """End the service's process of this stack; the stack starts it again."""
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if f"services.{service}.main" in words and Path(process.cwd()) == self.folder:
                process.send_signal(signal.SIGKILL)
                return
        raise AssertionError(f"{service} does not run")


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    platform = Platform(tmp_path, guided_decoding="admissible_actions")  # what a step could say is replayed too
    platform.run("up", "--detach")
    try:
        yield platform
    finally:
        platform.run("down")


def test_a_run_through_kills_is_equal_to_the_bit_to_one_that_nothing_struck(platform: Platform) -> None:
    platform.run("train", "job.yaml", "--name", "quiet")
    platform.run("train", "job.yaml", "--name", "struck", "--no-follow")
    quiet, struck = (platform.job(name)["id"] for name in ("quiet", "struck"))
    waiting = dict(KILLED)
    while not platform.has_ended(struck):
        for batch in [batch for batch in waiting if len(platform.metrics(struck)) > batch]:
            if platform.is_played(struck):
                platform.kill(waiting.pop(batch))
        time.sleep(0.05)
    assert not waiting
    while (state := platform.job("struck")["state"]) not in ("SUCCEEDED", "FAILED"):
        time.sleep(0.2)  # the API has not read the last event yet
    assert state == "SUCCEEDED"
    assert sum(row["failed_attempts"] for row in platform.metrics(struck)) > 0
    assert learned(platform.metrics(struck)) == learned(platform.metrics(quiet))
    assert platform.weights(struck) == platform.weights(quiet)
    for row in platform.metrics(quiet):
        assert (row["invalid_share"], row["mismatch_max"]) == (0.0, pytest.approx(0.0, abs=1e-5))


def learned(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Metrics of every batch, without those of the clock and of the faults."""
    assert len(rows) == BATCHES
    return [
        {name: value for name, value in row.items() if not of_the_clock(name) and name not in OF_THE_RUN}
        for row in rows
    ]
