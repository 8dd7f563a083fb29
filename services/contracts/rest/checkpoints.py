"""Checkpoints as documents."""

from __future__ import annotations

from services.contracts.rest.base import Document, Page


class CheckpointFile(Document):
    name: str
    size_bytes: int
    sha256: str | None = None
    """Hex digest, to check what arrived; null: the trainer noted none."""


class CheckpointView(Document):
    """A complete checkpoint in Hugging Face format."""

    name: str
    final: bool
    """The job's result."""
    created_unix_s: float
    files: list[CheckpointFile]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


class CheckpointPage(Page[CheckpointView]):
    """Some checkpoints of a job, oldest first, the final one last."""
