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
SERVICES = "rollout,env-worker,inference,advantage,trainer-child,stack"
"""A killed trainer comes back after its message's time is up, which takes a minute: that is for `make chaos`."""
KINDS = "kill,stop,cut,poison,upgrade"
SEED = "366"
"""With these it deals a kill, a stop, a cut, and at last the upgrade of every service."""


def test_a_job_struck_by_faults_of_several_kinds_ends_as_one_that_nothing_struck():
    words = ["--seed", SEED, "--kills", str(KILLS), "--only", SERVICES, "--kinds", KINDS, "--ignore-bars", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert [fault["recovered_in_s"] is not None for fault in told["faults"]] == [True] * KILLS
    assert [fault["kind"] for fault in told["faults"]] == ["kill", "stop", "cut", "upgrade"]
    assert len(told["checks"]) == 9
