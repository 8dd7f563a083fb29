"""Builds the light image and runs it, where a container engine runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TAG = "gigpo-light:test"


def engine(*words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=timeout_s, check=False, cwd=ROOT)


def has_engine() -> bool:
    return shutil.which("docker") is not None and engine("info").returncode == 0


@pytest.fixture(scope="module")
def image() -> str:
    if not has_engine():
        pytest.skip("no container engine runs: `docker info` fails, so images are neither built nor started")
    build = ["build", "--build-arg", "PACKAGES=light", "--tag", TAG]
    base = os.environ.get("GIGPO_PYTHON_IMAGE")
    done = engine(*build, *(["--build-arg", f"PYTHON={base}"] if base else []), ".", timeout_s=1_800)
    assert done.returncode == 0, done.stderr[-4_000:]
    return TAG


@pytest.mark.timeout(2_000)
def test_the_image_runs_confined(image: str) -> None:
    confined = ["--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--network", "none"]
    told = "import os, services.api.main, services.env.main, services.rollout.main; print(os.getuid())"
    done = engine("run", *confined, image, "python3", "-c", told, timeout_s=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "10001"
    without_torch = engine("run", *confined, image, "python3", "-c", "import torch", timeout_s=300)
    assert without_torch.returncode == 1
