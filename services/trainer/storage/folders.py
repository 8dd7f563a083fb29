"""Where a job's files lie on shared storage, and how they are written: beside, synced, renamed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from services.contracts.archive import FOLDER, ArchiveName
from services.contracts.origin import ORIGIN_FILE


@dataclass(frozen=True)
class JobFolder:
    """`data_dir/jobs/<job id>`."""

    root: Path

    @staticmethod
    def of(data_dir: Path, job: str) -> JobFolder:
        """The job's folder, made when missing; absolute, since replicas read it from elsewhere."""
        root = (data_dir / "jobs" / job).resolve()
        root.mkdir(parents=True, exist_ok=True)
        return JobFolder(root)

    @property
    def base(self) -> Path:
        """The policy an engine starts from: config, tokenizer, first weights."""
        return self.root / "base"

    @property
    def policies(self) -> Path:
        return self.root / "policy"

    def policy(self, version: int) -> Path:
        return self.policies / f"v{version:06d}"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    def rollouts(self, batch: int) -> Path:
        """The archive of one trained batch."""
        return self.root / FOLDER / str(ArchiveName(batch))

    def evaluation_rollouts(self, label: str, version: int) -> Path:
        """The archive of one evaluation."""
        return self.root / FOLDER / str(ArchiveName(version, label))

    @property
    def metrics(self) -> Path:
        """One JSON object a line, one line a trained batch."""
        return self.root / "metrics.jsonl"

    @property
    def evaluations(self) -> Path:
        """JSON list of `EvaluationResult`: each is here before its groups are consumed."""
        return self.root / "evaluations.json"

    @property
    def origin(self) -> Path:
        """`TakenOver`: there if the job goes on with a training that another one began."""
        return self.root / ORIGIN_FILE

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event file."""
        return self.root / "tensorboard"

    @property
    def tracking(self) -> Path:
        """What the other trackers have taken."""
        return self.root / "tracking"

    @property
    def summary(self) -> Path:
        """`JobSummary`; where it exists the job has ended."""
        return self.root / "summary.json"

    @property
    def final(self) -> Path:
        """The trained policy in Hugging Face format."""
        return self.root / "final"


def write_durably(path: Path, payload: bytes) -> None:
    """Write a file so that it is there wholly or not at all, whatever dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
