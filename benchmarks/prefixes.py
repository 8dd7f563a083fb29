"""Tokens that a learner forwards for the steps of household episodes, with short and with full histories.

    python -m benchmarks.prefixes [--groups 2] [--histories 2 20] [--json out.json]

Random actors play groups of 8 episodes of 20 steps in rooms of 3 receptacles. `apart` counts every row's tokens,
`different` each different row once, `padded` what micro-batches of such rows forward, `tree` each different beginning
once as a wide model takes them, and `chosen` what the default job's policy forwards, for which
a large tree's attention costs more than it saves. CPU seconds are of one batch of that policy, the better of two.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import torch

from benchmarks.learning.run import Run
from gigpo_core import MicroBatch
from services.contracts.job import JobSpec
from services.trainer.batch.batches import training_group
from services.trainer.learner.learner import Learner
from services.trainer.learner.logprobs import Scorer
from services.trainer.learner.prefixes import MASK_TOKENS
from services.trainer.learner.rows import Row, rows_of
from services.trainer.learner.token_rows import TokenRows

TURNS, LONGEST = 20, 8_192


def spec_of(history: int) -> JobSpec:
    return JobSpec.model_validate(
        {
            "model": {"scratch": {"max_position_embeddings": LONGEST + 32}},
            "environment": {
                "environment": "alfworld",
                "environment_kwargs": {"receptacles": [3]},
                "max_turns": TURNS,
                "max_prompt_tokens": LONGEST,
                "history_length": history,
            },
            "algorithm": {"advantage_estimator": "gigpo", "beta": 0.0},
            "rollout": {"num_generations": 8, "max_completion_length": 12, "max_staleness": 0},
            "training": {"minibatches": 1},
        }
    )


def played(run: Run, groups: int) -> list[Row]:
    """The rows of some groups; their advantages are made up, so that every row is trained."""
    opened = [msgspec.structs.replace(training_group(run._session, at), actor="random") for at in range(groups)]
    rows = [row for one in run._play(opened) for row in rows_of(one.episodes, one.scored)]
    return [replace(row, advantage=1.0 - 2.0 * (number % 2)) for number, row in enumerate(rows)]


def forwarded(plan: Sequence[MicroBatch]) -> int:
    return sum(micro.forward_tokens for micro in plan)


def seconds(learner: Learner, rows: list[Row], scorer: Scorer) -> float:
    """CPU seconds of a batch."""
    learner._scorer = scorer
    found = []
    for batch in range(2):
        start = time.process_time()
        learner.train_batch(rows, batch)
        found.append(time.process_time() - start)
    return min(found)


def measured(history: int, groups: int) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        run = Run(spec_of(history), Path(folder))
        rows = played(run, groups)
        tokens, budget = TokenRows([row.turn for row in rows]), run.spec.training.microbatch_tokens
        longest = max(len(turn.ids) for turn in tokens.turns)
        ours = run.learner._scorer
        found = {
            "rows": len(rows),
            "longest": longest,
            "apart": sum(len(turn.ids) for turn in tokens.turns),
            "different": forwarded(tokens.plan(1)),
            "padded": forwarded(tokens.plan(budget)),
            "tree": forwarded(tokens.plan(min(budget, max(MASK_TOKENS, longest)), None, "tree")),
            "chosen": forwarded(ours.plan(tokens)),
            "padded_cpu_s": seconds(run.learner, rows, replace(ours, trees=0)),
            "chosen_cpu_s": seconds(run.learner, rows, ours),
        }
    return {"history": history, **found, "saved": found["padded"] / found["tree"]}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--groups", type=int, default=2)
    options.add_argument("--histories", type=int, nargs="+", default=[2, TURNS])
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    found = [measured(history, chosen.groups) for history in chosen.histories]
    for one in found:
        print(f"history {one['history']}: {one['saved']:.2f} times fewer tokens forwarded; {one}")
    if chosen.json:
        document = {"load_average": os.getloadavg(), "cases": found}
        chosen.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
