"""How long a vLLM server may take to start: for ever while it shows that it works, `start_s` while it shows nothing."""

import hashlib
from pathlib import Path

import pytest

from services.contracts.policy import PolicyManifest
from services.inference.engine import EngineFailed
from services.inference.vllm_engine import VllmEngine, VllmSettings
from tests.model_folders import write_model

BUSY = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo loading shard $i; sleep 0.2; done"


async def failure(tmp_path: Path, script: str) -> str:
    """The sentence with which a server that runs this instead of vLLM fails to start."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    base = write_model(tmp_path / "data" / "base")
    digest = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
    manifest = PolicyManifest(
        job_id="job", version=0, base=str(base), base_sha="x", path=str(base), files={"model.safetensors": digest},
        engine="vllm", max_model_len=64,
    )  # fmt: skip
    engine = VllmEngine(VllmSettings(python, tmp_path / "data", tmp_path / "log", start_s=1.0, stop_s=0.1))
    with pytest.raises(EngineFailed) as failed:
        await engine.start(manifest)
    assert engine.pid is None
    return str(failed.value)


async def test_a_start_that_shows_nothing_hangs(tmp_path: Path) -> None:
    said = await failure(tmp_path, "echo ValueError: no such device; exec sleep 1000")
    assert said == "the engine failed while starting: it gave no sign of life for 1 s: ValueError: no such device"


@pytest.mark.parametrize("work", [BUSY, "timeout 3 sh -c 'while :; do :; done'"])
async def test_a_start_that_works_may_take_longer(tmp_path: Path, work: str) -> None:
    said = await failure(tmp_path, f"{work}; echo ValueError: no kernel for it; exit 3")
    assert said == "vLLM ended with status 3: ValueError: no kernel for it"
