"""What the API answers: documents of their own, so that tables can change without them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, JsonValue

from services.api.states import JobState, Wish
from services.api.tables import JobRow
from services.contracts.environment import EnvironmentInfo


class JobView(BaseModel):
    """A job as lists show it."""

    id: str
    name: str | None
    state: JobState
    wish: Wish
    """What the user wants: run, pause or cancel."""
    phase: str | None
    environment: str
    advantage_estimator: str
    seed: int
    total_batches: int
    created_unix_s: float
    started_unix_s: float | None
    finished_unix_s: float | None
    error: str | None
    metrics: dict[str, JsonValue] | None
    """Of the last batch."""


class JobDetail(JobView):
    """A job with everything that was asked for."""

    spec: dict[str, JsonValue]
    """Resolved: every default written out."""


class JobPage(BaseModel):
    """Some jobs, newest first."""

    jobs: list[JobView]
    next_cursor: str | None
    """Give it as `cursor` for the next page; null: this is the last."""


class DryRun(BaseModel):
    """What a submission would run."""

    spec: dict[str, JsonValue]
    environment: EnvironmentInfo


class EnvironmentView(BaseModel):
    """An environment that jobs can name."""

    info: EnvironmentInfo
    unavailable_reason: str = ""
    """Not empty: known, but cannot be opened here, and why."""


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


class RolloutBrief(BaseModel):
    """A trained group."""

    group_id: str
    batch: int
    cursor: int
    task: str
    episodes: int
    won: int
    return_mean: float
    steps: list[int]
    """Length of each episode, in order of k."""


class RolloutPage(BaseModel):
    """Some groups in order of batch and cursor."""

    rollouts: list[RolloutBrief]
    batches: list[int]
    """Every archived batch."""
    next_offset: int | None
    """Give it as `offset` for the next page; null: this is the last."""


class StepMember(BaseModel):
    """A step of the same step group: another visit to the same anchor state."""

    k: int
    step_index: int


class StepView(BaseModel):
    """One model turn and why it got its advantage: A = A^E + omega A^S."""

    step_index: int
    prompt: str
    response: str
    """Decoded from the tokens that were sampled and trained, special ones included."""
    action: str
    action_valid: bool
    finish_reason: str
    reward: float
    anchor: str
    versions: list[int]
    """Policy versions that sampled its tokens."""
    logprob_sum: float
    step_return: float
    """Discounted return-to-go."""
    advantage: float
    episode_advantage: float
    step_advantage: float
    step_group: int
    step_group_members: list[StepMember]


class EpisodeView(BaseModel):
    """One episode of a group."""

    episode_id: str
    k: int
    attempt: int
    task: str
    won: bool
    score: float
    terminated: bool
    truncated: bool
    steps: list[StepView]


class RolloutDetail(RolloutBrief):
    """A trained group with every step of its episodes."""

    diagnostics: dict[str, float]
    played: list[EpisodeView]


class Health(BaseModel):
    """Every dependency by name: `ok`, or what is wrong."""

    status: str
    checks: dict[str, str] = Field(default_factory=dict)


def job_view(row: JobRow) -> JobView:
    """The brief view of a job."""
    return JobView(**_fields(row))


def job_detail(row: JobRow) -> JobDetail:
    """The full view of a job."""
    return JobDetail(**_fields(row), spec=row.spec)


def _fields(row: JobRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "state": row.state,
        "wish": row.wish,
        "phase": row.phase,
        "environment": row.spec["environment"]["environment"],
        "advantage_estimator": row.spec["algorithm"]["advantage_estimator"],
        "seed": row.spec["training"]["seed"],
        "total_batches": row.spec["training"]["total_batches"],
        "created_unix_s": row.created_unix_s,
        "started_unix_s": row.started_unix_s,
        "finished_unix_s": row.finished_unix_s,
        "error": row.error,
        "metrics": row.metrics,
    }
