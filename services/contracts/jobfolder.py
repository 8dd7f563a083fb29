"""The layout of a job's folder on shared storage. The trainer writes the files, replicas and the API read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.contracts.archive import FOLDER, ArchiveName
from services.contracts.origin import ORIGIN_FILE

FINAL = "final"
"""Name of the trained policy among the checkpoints."""


def all_jobs(data_dir: Path) -> Path:
    """The folder of all jobs' folders."""
    return data_dir / "jobs"


@dataclass(frozen=True)
class JobFolder:
    """`data_dir/jobs/<job id>`."""

    root: Path

    @staticmethod
    def of(data_dir: Path, job: str) -> JobFolder:
        """The job's folder, which need not exist."""
        return JobFolder(all_jobs(data_dir) / job)

    @property
    def base(self) -> Path:
        """The policy an engine starts from: config, tokenizer, first weights."""
        return self.root / "base"

    @property
    def policies(self) -> Path:
        """The published versions' weights."""
        return self.root / "policy"

    def policy(self, version: int) -> Path:
        """One published version, `v000012`."""
        return self.policies / f"v{version:06d}"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint, `b000012` for that of 12 batches."""
        return self.root / "checkpoints"

    @property
    def archives(self) -> Path:
        """The groups that were trained on and evaluated, see services/contracts/archive.py."""
        return self.root / FOLDER

    def rollouts(self, batch: int) -> Path:
        """The archive of one trained batch."""
        return self.archives / str(ArchiveName(batch))

    def evaluation_rollouts(self, label: str, version: int) -> Path:
        """The archive of one evaluation."""
        return self.archives / str(ArchiveName(version, label))

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
        """The record of what the other trackers have taken."""
        return self.root / "tracking"

    @property
    def summary(self) -> Path:
        """`JobSummary`; where it exists the job has ended."""
        return self.root / "summary.json"

    @property
    def final(self) -> Path:
        """The trained policy in Hugging Face format."""
        return self.root / FINAL

    @property
    def written(self) -> tuple[Path, ...]:
        """Everything that the platform writes there, whether it is there or not."""
        return (
            self.base,
            self.policies,
            self.checkpoints,
            self.archives,
            self.metrics,
            self.evaluations,
            self.origin,
            self.tensorboard,
            self.tracking,
            self.summary,
            self.final,
        )
