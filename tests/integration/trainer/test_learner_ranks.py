"""A learner on two and four ranks trains what one rank trains."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoConfig, Qwen2ForCausalLM

from services.contracts.job import JobSpec
from services.trainer.learner.learner import Learner
from services.trainer.learner.ranks import ALONE
from tests.integration.trainer.rank_course import course
from tests.unit.trainer.learner_cases import job_spec, scratch_folder

LORA = {"tuner_type": "lora", "lora_rank": 4, "lora_alpha": 8.0}
CASES: dict[str, tuple[bool, dict[str, Any]]] = {
    "full tied": (True, {"beta": 0.05}),
    "full untied": (False, {"beta": 0.05, "gradient_checkpointing": True}),
    "lora tied": (True, {"beta": 0.05, **LORA}),
    "lora untied": (False, {"beta": 0.05, "minibatches": 1, **LORA}),
}
"""Whether head and embeddings are one tensor, and leaves of the spec."""
ROUNDED = {"lora bfloat16": (True, {"beta": 0.05, "minibatches": 1, "torch_dtype": "bfloat16", **LORA})}
"""The first forward of a batch is the reference's, and bfloat16 sums in another order give other values."""

GIVE_UP_S = 500.0
STEP = 5e-5
"""Tolerated share of one optimizer step: AdamW divides a gradient by its own size, so rounding of one near 0 is a share
of a step."""


def written(folder: Path, *cases: str) -> Path:
    """A folder of cases to run."""
    for case in cases:
        tied, leaves = {**CASES, **ROUNDED}[case]
        base = scratch_folder(folder / case / "base")
        if not tied:
            untie(base)
        spec = job_spec(**{"microbatch_tokens": 64, "minibatches": 2, "learning_rate": STEP, **leaves})
        (folder / case / "spec.json").write_text(spec.model_dump_json())
    return folder


def untie(base: Path) -> None:
    config = AutoConfig.from_pretrained(base)
    config.tie_word_embeddings = False
    torch.manual_seed(1)
    Qwen2ForCausalLM(config).save_pretrained(base)


def run(folder: Path, ranks: int, **environment: str) -> Path:
    """Run the folder's cases on so many ranks."""
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--local-addr", "127.0.0.1"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    command = [sys.executable, *torchrun, "-m", "tests.integration.trainer.rank_course", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=GIVE_UP_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = written(tmp_path_factory.mktemp("alone"), *CASES, *ROUNDED)
    for case in (*CASES, *ROUNDED):
        course(folder / case, ALONE)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(written(tmp_path_factory.mktemp("two"), *CASES, *ROUNDED), 2)


def test_two_ranks_train_what_one_rank_trains(alone: Path, two: Path) -> None:
    for case in CASES:
        same(alone / case, two / case)
    for case in ROUNDED:
        one, other = (json.loads((folder / case / "found.json").read_text())["metrics"] for folder in (alone, two))
        norms = [[figures["grad_norm"] for figures in metrics] for metrics in (one, other)]
        assert norms[1] == pytest.approx(norms[0], rel=0.05)


def test_two_copies_in_main_memory_train_it_too_and_go_on_with_what_two_ranks_saved(
    alone: Path, two: Path, tmp_path: Path
) -> None:
    four, one = tmp_path / "four", tmp_path / "one"
    for again in (four / "again", one / "again"):
        written(again, "full tied")
        saved = two / "full tied" / "pieces"  # set aside where a test has looked at it already
        shutil.copytree(saved if saved.exists() else two / "full tied" / "state", again / "full tied" / "begin")
    run(written(four, "full untied", "lora tied"), 4, SHARD_RANKS="2", OFFLOAD="all")
    course(one / "again" / "full tied", ALONE)
    same(one / "again" / "full tied", four / "again" / "full tied")
    for case in ("full untied", "lora tied"):
        same(alone / case, four / case)


def on_one_rank(folder: Path) -> None:
    """Load what several ranks saved, and save it again."""
    saved = folder / "state"
    assert len(list(saved.glob("weights/*.safetensors"))) > 1, "every rank writes its pieces"
    saved.rename(folder / "pieces")
    learner = Learner(JobSpec.model_validate_json((folder / "spec.json").read_bytes()), folder / "base")
    learner.load(folder / "pieces")
    learner.save(saved)


def same(wanted: Path, got: Path) -> None:
    """Losses, gradients (their averages), weights, exports and probes are equal to 1e-6."""
    left, right = (json.loads((folder / "found.json").read_text()) for folder in (wanted, got))
    for one, other in zip(left["metrics"], right["metrics"], strict=True):
        assert other == pytest.approx(one, abs=1e-6, rel=1e-5)
    assert right["divergence"] == pytest.approx(left["divergence"], abs=1e-5)
    assert right["probe"]["response_ids"] == left["probe"]["response_ids"]
    on_one_rank(got)
    for name in sorted(str(path.relative_to(wanted)) for path in wanted.rglob("*.safetensors")):
        one, other = load_file(wanted / name), load_file(got / name)
        assert one.keys() == other.keys()
        for tensor in one:
            assert_close(other[tensor], one[tensor], atol=1e-6, rtol=0)
