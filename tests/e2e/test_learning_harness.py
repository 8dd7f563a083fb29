"""The learning harness learns what a job through all services learns, to the bit where the job is deterministic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.learning.run import Run
from services.contracts.job import parse_spec
from tests.e2e.test_deterministic_run import Platform, learned

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    platform = Platform(tmp_path)
    platform.run("up", "--detach")
    try:
        yield platform
    finally:
        platform.run("down")


def test_the_curves_of_the_harness_are_those_of_a_job(platform: Platform) -> None:
    platform.run("train", "job.yaml", "--name", "job")
    spec = parse_spec(yaml.safe_load((platform.folder / "job.yaml").read_text()))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run = Run(spec, platform.folder / "harness")
        position = run.run()
    finally:
        torch.set_num_threads(before)
    job = platform.job("job")["id"]
    assert learned(run.curve) == learned(platform.metrics(job))
    assert position.env_steps == sum(row["env_steps"] for row in run.curve)
