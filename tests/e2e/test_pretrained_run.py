"""A short job on SmolLM2-135M, a real pretrained model, with vLLM; skipped where its package is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.documents import ROOT, code_blocks
from tests.models.smollm2 import NEEDED, convert, missing

pytestmark = [
    pytest.mark.timeout(1_800),
    pytest.mark.vllm,
    pytest.mark.skipif(bool(missing()), reason=f"want the packages {', '.join(NEEDED)} ({missing()} missing)"),
]
JOB = {
    "environment": {
        "environment": "corridor",
        "max_turns": 8,
        "prompt_form": "plain",
        "use_chat_template": False,
        "max_prompt_tokens": 32,
    },
    "algorithm": {"advantage_estimator": "gigpo", "beta": 0.0, "norm": "mean"},
    "rollout": {
        "groups_per_batch": 2,
        "num_generations": 4,
        "max_completion_length": 4,
        "max_staleness": 0,
        "guided_decoding": "admissible_actions",
    },
    "training": {"total_batches": 2, "learning_rate": 1e-4, "minibatches": 1},
    "evaluation": {"eval_episodes": 8, "eval_baselines": False},
    "inference": {"engine": "vllm"},
}


def test_a_pretrained_model_is_guided_trained_and_served_alike_by_both_sides(tmp_path: Path) -> None:
    convert(tmp_path / "smollm2")
    page = (ROOT / "docs" / "quickstart.md").read_text("utf-8")
    corridor = next(block.code for block in code_blocks("", page) if block.language == "python")
    (tmp_path / "corridor.py").write_text(corridor)
    model = {"model": "smollm2", "tuner_type": "lora", "lora_rank": 8}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({"name": "smollm2", "model": model, **JOB}))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "proto"), os.environ.get("PYTHONPATH", "")]),
        "ENV_SERVICE_EXTRA_ENVIRONMENTS": json.dumps({"corridor": "corridor:Corridor"}),
        "STACK_API_PORT": "0",
    }
    command = [sys.executable, "-m", "gigpo.client.main", "train", "job.yaml"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=1_700)
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "runs" / "smollm2"
    summary = json.loads((results / "summary.json").read_text())
    records = [json.loads(line) for line in (results / "metrics.jsonl").read_text().splitlines()]
    assert (summary["state"], summary["batches"], summary["engine"], summary["tuner_type"]) == (
        "SUCCEEDED",
        2,
        "vllm",
        "lora",
    )
    assert [record["invalid_share"] for record in records] == [0.0, 0.0]
    assert all(record["trained_tokens"] > 0 for record in records)
    assert max(record["mismatch_max"] for record in records) < 1e-3
    assert summary["ledger"]["opened"] == summary["ledger"]["consumed"]
