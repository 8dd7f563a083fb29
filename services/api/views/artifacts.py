"""Checkpoints as documents."""

from __future__ import annotations

from pydantic import BaseModel


class CheckpointFile(BaseModel):
    name: str
    size_bytes: int


class CheckpointView(BaseModel):
    """A complete checkpoint in Hugging Face format."""

    name: str
    final: bool
    """The job's result."""
    created_unix_s: float
    files: list[CheckpointFile]
