"""Each service of a stack is stopped (SIGSTOP) while a job trains: it is started again, and the job succeeds."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from tests.e2e.test_deterministic_run import Platform

pytestmark = pytest.mark.timeout(1_500)

HUNG_S = 12
SERVICES = ("rollout", "advantage", "env", "inference", "trainer", "child", "api", "valkey")
"""One is stopped after each batch."""


class FrozenPlatform(Platform):
    """A stack that gives its services little time, and a job with a batch for each of them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.environ |= {"STACK_HUNG_S": str(HUNG_S), "TRAINER_CHILD_HUNG_S": str(HUNG_S), "STACK_API_PORT": "0"}
        document = yaml.safe_load((folder / "job.yaml").read_text())
        document["training"]["total_batches"] = len(SERVICES) + 2
        document["evaluation"] = {"eval_episodes": 4, "eval_baselines": False}
        (folder / "job.yaml").write_text(yaml.safe_dump(document))

    def stop(self, service: str) -> None:
        """SIGSTOP to the process that the stack's record names, or to the trainer's child."""
        services = json.loads((self.folder / "runs/.platform/stack.json").read_text())["services"]
        pid = services["trainer" if service == "child" else service]["pid"]
        if service == "child":
            found = psutil.Process(pid).children()
            (pid,) = [one.pid for one in found if "spawn_main" in " ".join(one.cmdline())]
        os.kill(pid, signal.SIGSTOP)

    def log(self) -> str:
        return (self.folder / "runs/.platform/logs/stack.log").read_text()


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[FrozenPlatform]:
    platform = FrozenPlatform(tmp_path)
    platform.run("up", "--detach")
    try:
        yield platform
    finally:
        platform.run("down")


def test_a_job_succeeds_though_each_service_hangs_once(platform: FrozenPlatform) -> None:
    platform.run("train", "job.yaml", "--name", "frozen", "--no-follow")
    job = platform.job("frozen")["id"]
    for number, service in enumerate(SERVICES, 1):
        while len(platform.metrics(job)) < number:
            time.sleep(0.2)
        platform.stop(service)
    state = ""
    while state not in ("SUCCEEDED", "FAILED", "CANCELLED"):
        time.sleep(1)
        with suppress(AssertionError):  # the API may be starting
            state = platform.job(job)["state"]
    assert state == "SUCCEEDED"
    for service in SERVICES:
        if service != "child":
            assert platform.log().count(f"{service} hung") == 1, platform.log()
    assert sorted(record["batch"] for record in platform.metrics(job)) == list(range(len(SERVICES) + 2))
