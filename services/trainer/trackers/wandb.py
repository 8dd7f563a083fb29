"""Weights & Biases: one run per job, with the job's id. Its own environment variables set key, entity and mode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import wandb

from services.contracts.states import JobState
from services.trainer.trackers.row import Row


class Wandb:
    """The job's run; its files lie in `folder`."""

    def __init__(self, job: str, name: str, project: str, parameters: Mapping[str, object], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=project,
            id=job,
            name=name,
            config=dict(parameters),
            dir=str(folder),
            resume="allow",
            reinit="create_new",  # the trainer holds several jobs
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )

    def log(self, row: Row) -> None:
        self._run.log(row.figures, step=row.step)

    def close(self, state: str | None) -> None:
        self._run.finish(exit_code=1 if state == JobState.FAILED else 0)
