"""A few faults of several kinds, through everything that is real; `make chaos` does many more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
KILLS = 4
SERVICES = "rollout,env-worker,inference,advantage,trainer-child"
"""A killed trainer comes back after its message's time is up, which takes a minute: that is for `make chaos`."""


def test_a_job_struck_by_faults_of_several_kinds_ends_as_one_that_nothing_struck():
    words = ["--seed", "182", "--kills", str(KILLS), "--only", SERVICES, "--ignore-bars", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert [fault["recovered_in_s"] is not None for fault in told["faults"]] == [True] * KILLS
    assert len({fault["kind"] for fault in told["faults"]}) >= 4
    assert len(told["checks"]) == 9
