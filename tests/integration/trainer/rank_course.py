"""Five batches of a learner on a few ranks, each a process that torchrun starts.

    torchrun --nproc-per-node K -m tests.integration.trainer.rank_course FOLDER

A case is a folder below it with spec.json and base/; found.json, state/, policy/ and export/ are written beside them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist

from services.contracts.job import JobSpec
from services.contracts.learner_memory import Offload
from services.trainer.learner.learner import Learner
from services.trainer.learner.ranks import Ranks, joined
from services.trainer.learner.rows import Row
from tests.unit.trainer.learner_cases import histories, random_rows

BATCHES = 5


def rows_of(batch: int) -> list[Row]:
    """Rows of unequal lengths, some of them equal; of the third batch too few for four ranks, of the fourth such as
    begin alike."""
    if batch == 3:
        return histories()
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
    """Run each case."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    dist.init_process_group("gloo")
    offload = cast(Offload, os.environ.get("OFFLOAD", "none"))
    ranks = joined(int(os.environ.get("SHARD_RANKS", dist.get_world_size())), offload)
    for spec in sorted(Path(sys.argv[1]).rglob("spec.json")):
        course(spec.parent, ranks)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
