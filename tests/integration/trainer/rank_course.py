"""Five batches of a learner on a few ranks; a process of its own for each, started by torchrun or alone.

    python -m tests.integration.trainer.rank_course FOLDER CASE ...

A case is FOLDER/<case>/spec.json and FOLDER/<case>/base; metrics.json and state/ are written beside them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from services.contracts.job import JobSpec
from services.trainer.learner.learner import Learner
from services.trainer.learner.ranks import Ranks, joined
from services.trainer.learner.rows import Row
from tests.unit.trainer.learner_cases import random_rows

BATCHES = 5


def rows_of(batch: int) -> list[Row]:
    """Rows of unequal lengths, some of them equal; of the third batch too few for four ranks."""
    return random_rows(3 if batch == 2 else 12, seed=batch, repeats=0 if batch == 2 else 4)


def course(folder: Path, ranks: Ranks) -> None:
    """Train the case in this folder, from the state that it begins with where there is one."""
    learner = Learner(JobSpec.model_validate_json((folder / "spec.json").read_bytes()), folder / "base", ranks)
    if (folder / "begin").exists():
        learner.load(folder / "begin")
    metrics = [learner.train_batch(rows_of(batch), batch) for batch in range(BATCHES)]
    probe = learner.probe()
    divergence = learner.divergence(rows_of(0))
    learner.save(folder / "state")
    learner.save_policy(folder / "policy")
    learner.export(folder / "export")
    if ranks.leads:
        assert probe is not None
        found = {"metrics": metrics, "probe": probe.model_dump(mode="json"), "divergence": divergence}
        (folder / "found.json").write_text(json.dumps(found))


def main() -> None:
    """Run each case that is named."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
    folder, *cases = sys.argv[1:]
    for case in cases:
        course(Path(folder, case), joined(int(os.environ.get("SHARD_RANKS", "1000"))))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
