"""Jobs as documents: requests, and the views that answer them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, computed_field

from services.contracts.environment import EnvironmentInfo
from services.contracts.rest.base import DEPRECATED, Document, Named, Page, Request
from services.contracts.states import TERMINAL, Command, JobState

JobKind = Literal["training", "evaluation"]
JOB_NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
TAG = r"^[a-z0-9][a-z0-9._:/=+-]{0,31}$"
MOST_TAGS, NOTES_CHARACTERS = 16, 4_000


def _once_each(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("want text without NUL characters, got one with")
    return text


class Origin(Document):
    """The origin of a job that begins with files of another job of the project."""

    kind: Named[Literal["retry", "fork", "evaluation", "model"]]
    """`retry` goes on with the training; the others take the policy only (`model`: named in a submitted spec)."""
    job_id: str
    checkpoint: str | None
    """Null: the retried job had none, so it starts anew."""
    version: int | None = None
    """The checkpoint's policy version in that job; null where it is not known."""


class JobView(Document):
    """A job as lists show it."""

    id: str
    project_id: str
    submitted_by: str | None = None
    """Name of the key that submitted it; null: it was submitted before this was kept."""
    key_id: str | None = None
    """That key's id; null: the key of the settings, a machine without keys, or not kept."""
    kind: Named[JobKind]
    name: str | None
    state: Named[JobState]
    wish: Named[Command]
    """The user's wish: run, pause or cancel."""
    phase: str | None
    environment: str
    advantage_estimator: str
    seed: int
    total_batches: int
    parent_job: str | None
    """The job that this one retries, was forked from, or evaluates."""
    origin: Origin | None
    created_unix_s: float
    started_unix_s: float | None
    finished_unix_s: float | None
    error: str | None
    metrics: dict[str, JsonValue] | None
    """Figures of the last batch."""
    tags: list[str] = Field(default_factory=list)
    """Words of the user's, to find jobs by."""
    notes: str | None = None
    """The user's note about it."""
    archived: bool = False
    """Whether lists leave it out unless they are asked for archived jobs."""

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL


class JobDetail(JobView):
    """A job with everything that was asked for."""

    spec: dict[str, JsonValue]
    """Resolved: every default written out."""
    waits_for: str | None = None
    """The reason why a queued job waits, e.g. for an inference replica; null where none was reported."""
    jobs_before: int | None = None
    """Jobs that a trainer takes before a queued one. Projects take turns, so jobs of others that come later
    may be among them; null: not known yet."""
    warnings: list[str] = Field(default_factory=list)
    """Parts of the job that may not fit the machine, in the answer to a submission; else empty."""


class JobPage(Page[JobView]):
    """Some jobs, newest first."""

    @computed_field(json_schema_extra=DEPRECATED)  # type: ignore[prop-decorator]
    @property
    def jobs(self) -> list[JobView]:
        """The same as `items`."""
        return self.items


class Range(Document):
    """The figures between which an estimate lies, and its basis."""

    low: float
    high: float
    basis: str


class Estimates(Document):
    """The needs of a job, computed from its spec; upper bounds where lengths are not known before."""

    parameters: int
    trainer_memory_bytes: int
    """Bytes of each rank: weights, gradients, AdamW's moments, the reference policy where beta > 0, one microbatch's
    activations, and the process."""
    trainer_ranks: int = 1
    """Ranks of this installation's learner: each on a GPU of its own, or all in this machine's memory."""
    engine_memory_bytes: int
    """Weights and the key-value cache of one engine."""
    prompt_tokens_per_batch: int
    """Each turn of a conversation counts what was said before it again."""
    response_tokens_per_batch: int
    env_steps_per_batch: int
    env_steps: int
    """All training batches; evaluations and the warm start not counted."""
    checkpoint_bytes: int
    """All checkpoints that are kept at a time, and the final policy."""
    queue_memory_bytes: int
    """Groups that wait to be trained, in Redis."""
    disk_bytes: int
    """Checkpoints, published policies, and the rollouts of every batch."""
    time_s: float | None = None
    """Seconds from the start to the end; null: no earlier job here was like it."""
    ranges: dict[str, Range] = Field(default_factory=dict)
    """Field -> how far it may be off; a field that is not here is exact."""


class DryRun(Document):
    """The trial of a submission."""

    spec: dict[str, JsonValue]
    """Resolved: every default written out."""
    environment: EnvironmentInfo
    estimates: Estimates
    warnings: list[str]
    """Sentences about settings that are allowed and seldom wanted."""


class ForkRequest(Request):
    """A new job that begins with a checkpoint of this one."""

    checkpoint: str | None = Field(None, max_length=128, examples=["b000010"])
    """Name of the checkpoint; null: the newest."""
    overrides: dict[str, JsonValue] = Field(
        default_factory=dict, examples=[{"training.learning_rate": 3e-5, "algorithm": {"beta": 0.0}}]
    )
    """Differences from the spec, by dotted keys or nested sections."""
    name: str | None = Field(None, pattern=JOB_NAME)
    """Name of the new job."""


class JobChanges(Request):
    """A user's changes to a job. Fields that are left out stay as they are.

    The schema names no defaults: a client that sends the default of a field would change it.
    """

    name: str | None = Field(default_factory=lambda: None, pattern=JOB_NAME)
    """Null: the job has no name. Results and tracked runs that bear the old name keep it."""
    tags: Annotated[list[Annotated[str, StringConstraints(pattern=TAG)]], AfterValidator(_once_each)] = Field(
        default_factory=list, max_length=MOST_TAGS, examples=[["baseline", "seed:0"]]
    )
    """All tags of the job from now on."""
    notes: Annotated[str, AfterValidator(_without_nul)] | None = Field(
        default_factory=lambda: None, max_length=NOTES_CHARACTERS
    )
    """Null: none."""
    archived: bool = Field(default_factory=bool, strict=True)
    """True: lists leave the job out. 409 for a job that has not ended."""


class JobRemains(Document):
    """The data that the deletion of a job removes, and the data that stays."""

    job_id: str
    events: int
    """Stored events that go with the job: states, metrics, evaluations, warnings."""
    folder: str
    """The job's folder below the platform's data folder."""
    files: list[str]
    """Removed entries of the folder: policies, checkpoints, rollouts, metrics."""
    size_bytes: int
    """Size of these files; those that another job links to still take their space."""
    kept: list[str]
    """Entries of the folder that the platform did not write. They stay where they are, and so does the folder."""
