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

from tests.unit.trainer.learner_cases import job_spec, scratch_folder

LORA = {"tuner_type": "lora", "lora_rank": 4, "lora_alpha": 8.0}
CASES: dict[str, tuple[bool, dict[str, Any]]] = {
    "full tied": (True, {"beta": 0.05}),
    "full untied": (False, {"beta": 0.05, "gradient_checkpointing": True}),
    "lora tied": (True, {"beta": 0.05, **LORA}),
    "lora untied": (False, {"beta": 0.05, **LORA}),
}
"""Whether head and embeddings are one tensor, and leaves of the spec."""

NOISE = ("k_proj.bias", "k_proj.bias/exp_avg")
"""A key's bias adds the same to all scores of a query: its gradient is rounding alone, which AdamW makes steps of."""


def written(folder: Path, *cases: str) -> Path:
    """A folder of cases to run."""
    for case in cases:
        tied, leaves = CASES[case]
        base = scratch_folder(folder / case / "base")
        if not tied:
            untie(base)
        spec = job_spec(**leaves, microbatch_tokens=64, minibatches=2, learning_rate=1e-3)
        (folder / case / "spec.json").write_text(spec.model_dump_json())
    return folder


def untie(base: Path) -> None:
    config = AutoConfig.from_pretrained(base)
    config.tie_word_embeddings = False
    torch.manual_seed(1)
    Qwen2ForCausalLM(config).save_pretrained(base)


def run(folder: Path, ranks: int, *cases: str, **environment: str) -> None:
    """Run the cases on so many ranks."""
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--local-addr", "127.0.0.1"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    program = ["-m", "tests.integration.trainer.rank_course", str(folder), *cases]
    command = [sys.executable, *(torchrun if ranks > 1 else ()), *program]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = written(tmp_path_factory.mktemp("alone"), *CASES)
    run(folder, 1, *CASES)
    return folder


@pytest.mark.parametrize(
    ("ranks", "environment"), [(2, {}), (4, {"SHARD_RANKS": "2"})], ids=["2", "4 as 2 copies of 2"]
)
def test_ranks_train_what_one_rank_trains(alone: Path, tmp_path: Path, ranks: int, environment: dict[str, str]) -> None:
    run(written(tmp_path, *CASES), ranks, *CASES, **environment)
    for case in CASES:
        same(alone / case, tmp_path / case)


def same(wanted: Path, got: Path) -> None:
    """Losses, gradients (their averages), weights, exports and probes are equal to 1e-6."""
    left, right = (json.loads((folder / "found.json").read_text()) for folder in (wanted, got))
    for one, other in zip(left["metrics"], right["metrics"], strict=True):
        assert other == pytest.approx(one, abs=1e-6, rel=1e-5)
    assert right["divergence"] == pytest.approx(left["divergence"], abs=1e-5)
    assert right["probe"]["response_ids"] == left["probe"]["response_ids"]
    for name in sorted(str(path.relative_to(wanted)) for path in wanted.rglob("*.safetensors")):
        one, other = load_file(wanted / name), load_file(got / name)
        assert one.keys() == other.keys()
        for tensor in one.keys() - {name for name in one if name.endswith(NOISE)}:
            assert_close(other[tensor], one[tensor], atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", ["full tied", "lora untied"])
def test_a_state_saved_on_two_ranks_is_loaded_on_one_and_four(alone: Path, tmp_path: Path, case: str) -> None:
    begun = written(tmp_path / "begun", case)
    run(begun, 2, case)
    ends = []
    for ranks in (1, 4):
        folder = written(tmp_path / str(ranks), case)
        shutil.copytree(begun / case / "state", folder / case / "begin")
        run(folder, ranks, case)
        ends.append(folder / case)
    same(*ends)
