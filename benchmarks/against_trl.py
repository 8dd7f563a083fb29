"""The learner's update beside TRL's: real tokens per CPU second on one model and one batch, one thread each.

    python3 -m venv .venv-trl && .venv-trl/bin/pip install torch==2.13.0 trl==1.16.0
    python -m benchmarks.learner --against trl --python .venv-trl/bin/python [--json out.json]

Cases: rows of uneven and of even lengths, one optimizer step a batch and four. Both sides try several sizes of
micro-batch, and each case counts its best one. All rows differ, beta is 0, weights are float32.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gigpo_core import lone_turn
from services.contracts.job import Algorithm, JobSpec, Model, Rollout, ScratchModel, Training
from services.trainer.learner.learner import Learner
from services.trainer.learner.policy import build_scratch
from services.trainer.learner.rows import Row

WORDS = 1_997
MODEL = ScratchModel(hidden_size=128, intermediate_size=384, num_attention_heads=4, num_hidden_layers=2)
LENGTHS = {"uneven": (8, 64), "even": (64, 64)}
"""Shortest and longest of prompts and of responses."""
STEPS = (1, 4)
RATE = 1e-5
TOKENS, ROWS = (1_024, 4_096, 16_384), (8, 16, 64)
"""Sizes of micro-batches that each side tries: ours in padded tokens, TRL's in rows."""


def compare(python: Path, repetitions: int, rows: int) -> dict[str, Any]:
    """Case -> figures of both sides, and the load of the machine meanwhile."""
    load = os.getloadavg()
    cases = {
        f"{name}, {steps} step{'s' * (steps > 1)}": {"rows": drawn(rows, *lengths), "steps": steps}
        for name, lengths in LENGTHS.items()
        for steps in STEPS
    }
    with TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        build_scratch(MODEL, [f"w{number}" for number in range(WORDS)], 0, base)
        ours = {
            name: {str(size): ours_timed(base, case, size, repetitions) for size in TOKENS}
            for name, case in cases.items()
        }
        theirs = theirs_timed(python, base, cases, repetitions, Path(folder))
    return {
        "load": {"before": load, "after": os.getloadavg()},
        "repetitions": repetitions,
        "cases": {name: figures(case["rows"], ours[name], theirs[name]) for name, case in cases.items()},
    }


def drawn(number: int, shortest: int, longest: int) -> list[dict[str, Any]]:
    draw = random.Random(0)

    def ids() -> list[int]:
        return [draw.randrange(3, WORDS) for _ in range(draw.randint(shortest, longest))]

    return [{"prompt": ids(), "response": ids(), "advantage": draw.gauss(0.0, 1.0)} for _ in range(number)]


def ours_timed(base: Path, case: dict[str, Any], tokens: int, repetitions: int) -> list[float]:
    spec = JobSpec(
        model=Model(scratch=MODEL),
        algorithm=Algorithm(advantage_estimator="gigpo", beta=0.0, loss_type="bnpo"),
        rollout=Rollout(max_completion_length=64),
        training=Training(learning_rate=RATE, minibatches=case["steps"], microbatch_tokens=tokens),
    )
    rows = [
        Row(lone_turn(one["prompt"], one["response"]), *_unsampled(one["response"]), one["advantage"], "g")
        for one in case["rows"]
    ]
    learner, seconds = Learner(spec, base), []
    for _ in range(repetitions + 1):
        start = time.process_time()
        learner.train_batch(rows, 0)
        seconds.append(time.process_time() - start)
    return seconds[1:]


def _unsampled(response: Sequence[int]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Log-probabilities that no version sampled, so none has to agree."""
    return (-7.6,) * len(response), (-1,) * len(response)


def theirs_timed(
    python: Path, base: Path, cases: dict[str, Any], repetitions: int, folder: Path
) -> dict[str, dict[str, list[float]]]:
    request, answer = folder / "request.json", folder / "answer.json"
    asked = {"model": str(base), "cases": cases, "repetitions": repetitions}
    request.write_text(json.dumps({**asked, "learning_rate": RATE, "microbatch_rows": ROWS}))
    script = Path(__file__).with_name("trl_update.py")
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([python, script, request, answer], check=True, env=variables)
    found: dict[str, dict[str, list[float]]] = json.loads(answer.read_text())
    return found


def figures(rows: list[dict[str, Any]], ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> dict[str, Any]:
    """Return one case's figures: the best setting of each side by its median, all seconds, and the ratio of the
    medians."""
    tokens = sum(len(row["prompt"]) + len(row["response"]) for row in rows)
    found: dict[str, Any] = {"tokens": tokens}
    for side, settings in (("ours", ours), ("trl", theirs)):
        best = min(settings, key=lambda name: statistics.median(settings[name]))
        median = statistics.median(settings[best])
        found[side] = {"microbatch": best, "tokens_per_cpu_s": tokens / median, "cpu_s": settings[best]}
    found["ratio"] = found["ours"]["tokens_per_cpu_s"] / found["trl"]["tokens_per_cpu_s"]
    return found
