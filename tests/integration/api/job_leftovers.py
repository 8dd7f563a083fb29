"""Files that a trained job leaves on shared storage, as far as the API reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.job_files import TOKENIZER
from tests.rollout_archives import episode, scored, write

GROUP = "tabc"


def leave_results(data_dir: Path, job_id: str) -> None:
    """A base, two checkpoints and an archived batch with the group `GROUP`."""
    folder = data_dir / "jobs" / job_id
    for name in ("base", "checkpoints/b000001", "final"):
        place = folder / name
        place.mkdir(parents=True)
        (place / "config.json").write_text("{}")
        (place / "tokenizer.json").write_text(TOKENIZER)
        (place / "tokenizer_config.json").write_text('{"eos_token": "<eos>"}')
        (place / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (folder / "summary.json").write_text(json.dumps({"batches": 1}))
    write(folder, 0, [(scored(GROUP, [0, 1, 0]), [episode(0, [0.0, 1.0]), episode(1, [0.0])])])


def summary(job: str) -> dict[str, Any]:
    """The job's summary at its end."""
    counts = dict.fromkeys(
        ("env_steps", "trained_steps", "trained_tokens", "sampled_tokens", "optimizer_steps", "batches", "seed"), 1
    )
    ledger = {"opened": 0, "consumed": 0, "dropped": {}, "live": 0, "retried": 0}
    nothing = dict.fromkeys(("name", "success_before", "success_after", "mismatch_kl_mean", "checkpoint"))
    words = {"job_id": job, "state": "FAILED", "engine": "vllm", "advantage_estimator": "grpo"}
    return {**words, **counts, **nothing, "evaluations": [], "wall_s": 1.0, "ledger": ledger}
