"""The source of a training that a job continues: `origin.json`, written by the API and read by the trainer."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

ORIGIN_FILE = "origin.json"
"""File in the job's folder, beside the checkpoints that were brought there before the job was stored."""


class TakenOver(BaseModel):
    """A training that another job began."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    checkpoint: str
    taken_unix_s: float
    """Time of the takeover; the new job's clock does not count what passed before."""
