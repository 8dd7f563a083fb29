"""Rows and tokens per second of the learner on synthetic rows shaped like the default job's, on one core.

    python -m benchmarks.learner [--batches 5] [--rows 1400] [--unique 0.35] [--words 93] [--json out.json]

`--words 16000` gives the head a vocabulary that it has to work for.

The same rows are trained twice in one run: as they recur (35 % different sequences), and with a distinguishing token in
each prompt, so that nothing can be shared. Their ratio is what duplicate sharing saves.

`--against group` trains the same batches in this process and on a group of one rank, as a trainer has it, in turns: CPU
seconds of both, messages included. `--against trl --python .venv-trl/bin/python` compares the update with TRL's; see
`benchmarks/against_trl.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from benchmarks.against_trl import compare
from gigpo_core import lone_turn
from services.contracts.job import Algorithm, JobSpec, Model, Rollout, ScratchModel, Training
from services.kit.usage import cpu_s
from services.trainer.learner.learner import Learner
from services.trainer.learner.policy import build_scratch
from services.trainer.learner.port import TrainsPolicy
from services.trainer.learner.rows import Row
from services.trainer.ranks.group import RankGroup
from services.trainer.ranks.learner import LearnerOnRanks

WORDS = 93
"""Words of the vocabulary, which has 96 tokens with the three special ones, as the grid's has."""


def synthetic_rows(number: int, unique_share: float, seed: int) -> list[Row]:
    """Rows of 34..46 prompt tokens and 3 response tokens; `unique_share` of them differ, the rest repeat those."""
    draw = random.Random(seed)
    different = [
        Row(
            turn=lone_turn(
                [draw.randrange(3, 96) for _ in range(draw.randint(34, 46))],
                [draw.randrange(3, 96), draw.randrange(3, 96), 1],
            ),
            rollout_logprobs=(-4.5, -4.5, -4.5),
            versions=(-1, -1, -1),  # made up: no version sampled them, so none has to agree
            advantage=0.0,
            group_id="g",
        )
        for _ in range(round(number * unique_share))
    ]
    repeats = draw.choices(different, k=number - len(different))
    return [replace(row, advantage=draw.gauss(0.0, 1.0)) for row in draw.sample(different + repeats, number)]


def all_different(rows: list[Row]) -> list[Row]:
    """The same rows with two prompt tokens replaced by the row's number: equal work per row, nothing to share."""
    return [
        replace(row, turn=lone_turn((3 + number // 90, 3 + number % 90, *row.prompt_ids[2:]), row.response_ids))
        for number, row in enumerate(rows)
    ]


def measure(learner: Learner, rows: list[Row], batches: int) -> dict[str, float]:
    """CPU seconds and rows per CPU second of `train_batch`, the best of `batches` after one to warm up."""
    learner.train_batch(rows, 0)
    seconds = []
    for batch in range(1, batches + 1):
        start = time.process_time()
        metrics = learner.train_batch(rows, batch)
        seconds.append(time.process_time() - start)
    return {
        "cpu_s_per_batch": min(seconds),
        "cpu_s_per_batch_median": sorted(seconds)[len(seconds) // 2],
        "rows_per_cpu_s": len(rows) / min(seconds),
        "tokens_per_cpu_s": sum(len(row.prompt_ids) + len(row.response_ids) for row in rows) / min(seconds),
        "unique_rows_share": metrics["unique_rows_share"],
    }


def beside_a_group(spec: JobSpec, base: Path, rows: list[Row], batches: int) -> dict[str, float]:
    """CPU seconds of `batches` batches in this process and on a group of one rank, after one each to warm up."""
    os.environ |= {"TRAINER_REDIS_URL": "redis://127.0.0.1:1/0"}  # a rank reads the trainer's settings, no more
    group = RankGroup(1, start_s=300)
    try:
        learners: dict[str, TrainsPolicy] = {"here": Learner(spec, base), "group": LearnerOnRanks(group, 0, spec, base)}
        seconds: dict[str, list[float]] = {name: [] for name in learners}
        for batch in range(batches + 1):
            for name, learner in learners.items():
                start = cpu_s()
                learner.train_batch(rows, batch)
                seconds[name].append(cpu_s() - start)
    finally:
        group.close()
    best = {f"{name}_cpu_s": min(found[1:]) for name, found in seconds.items()}
    medians = {f"{name}_cpu_s_median": median(found[1:]) for name, found in seconds.items()}
    ratios = {"ratio": best["group_cpu_s"] / best["here_cpu_s"]}
    ratios["ratio_of_medians"] = medians["group_cpu_s_median"] / medians["here_cpu_s_median"]
    return {**best, **medians, **ratios, "load_average": os.getloadavg()[0]}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--batches", type=int, default=5)
    options.add_argument("--rows", type=int, default=1400)
    options.add_argument("--unique", type=float, default=0.35)
    options.add_argument("--beta", type=float, default=0.0)
    options.add_argument("--words", type=int, default=WORDS)
    options.add_argument("--json", type=Path)
    options.add_argument("--against", choices=["trl", "group"])
    options.add_argument("--python", type=Path, default=Path(".venv-trl/bin/python"), help="of TRL's own environment")
    options.add_argument("--repetitions", type=int, default=5)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    if chosen.against == "trl":
        found = compare(chosen.python, chosen.repetitions, min(chosen.rows, 64))
        for name, case in found["cases"].items():
            rates = {side: round(case[side]["tokens_per_cpu_s"]) for side in ("ours", "trl")}
            print(f"{name}: tokens per CPU second {rates}, ratio {case['ratio']:.2f}")
        if chosen.json:
            chosen.json.write_text(json.dumps(found, indent=2) + "\n")
        return
    spec = JobSpec(
        model=Model(scratch=ScratchModel()),
        algorithm=Algorithm(advantage_estimator="gigpo", beta=chosen.beta, entropy_coef=0.003),
        rollout=Rollout(max_completion_length=4),
        training=Training(learning_rate=1e-3, minibatches=8, total_batches=chosen.batches + 1),
    )
    rows = synthetic_rows(chosen.rows, chosen.unique, seed=0)
    with TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        build_scratch(ScratchModel(), [f"w{i}" for i in range(chosen.words)], 0, base)
        if chosen.against == "group":
            found = beside_a_group(spec, base, rows, chosen.batches)
            print({key: round(value, 3) for key, value in found.items()})
            if chosen.json:
                chosen.json.write_text(json.dumps(found, indent=2) + "\n")
            return
        result = {
            "shared": measure(Learner(spec, base), rows, chosen.batches),
            "all_different": measure(Learner(spec, base), all_different(rows), chosen.batches),
        }
    ratio = result["all_different"]["cpu_s_per_batch"] / result["shared"]["cpu_s_per_batch"]
    for name, figures in result.items():
        print(name, {key: round(value, 3) for key, value in figures.items()})
    print(f"sharing duplicates saves a factor of {ratio:.2f}")
    if chosen.json:
        chosen.json.write_text(json.dumps({**result, "sharing_factor": ratio}, indent=2) + "\n")


if __name__ == "__main__":
    main()
