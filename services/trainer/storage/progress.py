"""The progress of a job's training: the part of a checkpoint beside the learner."""

from __future__ import annotations

import msgspec

from services.contracts import json_records
from services.ledger import Books


class Totals(msgspec.Struct, kw_only=True):
    """Sums over all trained batches."""

    env_steps: int = 0
    """Steps of trained groups."""
    sampled_tokens: int = 0
    """Response tokens as rollout recorded them at sampling time, counted on the episodes' bytes."""
    trained_tokens: int = 0
    """Response tokens that entered an optimizer step, counted by the learner."""
    zero_advantage_tokens: int = 0
    """Response tokens of rows whose advantage is exactly 0: no effect; counted on the rows given to the learner."""
    trained_steps: int = 0
    optimizer_steps: int = 0
    stale_max: int = 0
    """Oldest trained token, policy versions."""


class Progress(msgspec.Struct, kw_only=True):
    """The position of a job. Equal progress and equal ledger lead to equal training."""

    batch: int = 0
    """The next batch to train; also the newest policy version."""
    warmstarted: bool = False
    next_cursor: int = 0
    """The next training group to open."""
    lost: int = 0
    """Training groups dropped so far; each is replaced by one more cursor."""
    waiting: list[int] = []
    """Cursors opened and neither assigned nor dropped, in order."""
    metrics_lines: int = 0
    """Lines of metrics.jsonl that this position covers."""
    started_unix_s: float = 0.0
    """Time when the first segment began."""
    phases_s: dict[str, float] = {}
    cpu_s: dict[str, float] = {}
    gpu_s: dict[str, float] = {}
    waits_s: dict[str, float] = {}
    """Wall time of the trained batches by what it was spent on; see `JobSummary`."""
    totals: Totals = msgspec.field(default_factory=Totals)
    ledger: dict[str, int] = {}
    """The ledger's counters when the checkpoint was written, for people."""
    books: Books = Books()
    """The whole ledger then, for a successor whose Redis lost the end of its file."""

    def spend(self, phase: str, seconds: float) -> None:
        """Add wall time to a phase."""
        self.phases_s[phase] = self.phases_s.get(phase, 0.0) + seconds

    def compute(self, phase: str, cpu_s: float, gpu_s: float) -> None:
        """Add CPU and GPU seconds to a phase."""
        self.cpu_s[phase] = self.cpu_s.get(phase, 0.0) + cpu_s
        self.gpu_s[phase] = self.gpu_s.get(phase, 0.0) + gpu_s

    def wait(self, **seconds: float) -> None:
        """Add wall time by what a batch waited for."""
        for name, amount in seconds.items():
            self.waits_s[name] = self.waits_s.get(name, 0.0) + amount


def encode_progress(progress: Progress) -> bytes:
    """JSON with its schema version."""
    return msgspec.json.encode(json_records.PROGRESS.versioned(msgspec.to_builtins(progress)))


def decode_progress(payload: bytes) -> Progress:
    """The progress in today's form, whatever version it has.

    Raises:
        msgspec.MsgspecError: `payload` is none.
        ContractError: it is of a newer version.
    """
    return msgspec.convert(json_records.PROGRESS.fields(msgspec.json.decode(payload)), Progress)
