"""The API's answers for users of the client: the API's own documents under short names."""

from __future__ import annotations

from pydantic import Field, JsonValue

from services.contracts.rest.access import AuditEntry, ProjectUsage, Quotas
from services.contracts.rest.access import CreatedKey as NewKey
from services.contracts.rest.access import KeyView as ApiKey
from services.contracts.rest.access import ProjectView as Project
from services.contracts.rest.access import WhoAmI as Whoami
from services.contracts.rest.base import Document
from services.contracts.rest.checkpoints import CheckpointFile
from services.contracts.rest.checkpoints import CheckpointView as Checkpoint
from services.contracts.rest.dead_letters import DeadLetterDetail, DeadLetterField, RetriedLetter
from services.contracts.rest.dead_letters import DeadLetterView as DeadLetter
from services.contracts.rest.evaluations import EvaluationView as Evaluation
from services.contracts.rest.insight import ChangePage as Changes
from services.contracts.rest.insight import (
    Diagnosis,
    Figure,
    Finding,
    MovedAction,
    MovedState,
    PlayedBatches,
    StateAction,
    StepPlace,
)
from services.contracts.rest.insight import StateView as State
from services.contracts.rest.insight import WatchView as Watch
from services.contracts.rest.jobs import JobRemains, JobView
from services.contracts.rest.rollouts import AnchorAction, RolloutDetail, StepMember, Visit
from services.contracts.rest.rollouts import AnchorState as Anchor
from services.contracts.rest.rollouts import EpisodeView as Episode
from services.contracts.rest.rollouts import RolloutBrief as Rollout
from services.contracts.rest.rollouts import StepView as Step
from services.contracts.rest.sessions import ActionResult, OpenedSession
from services.contracts.rest.sessions import SessionView as Session

__all__ = [
    "ActionResult",
    "Anchor",
    "AnchorAction",
    "ApiKey",
    "AuditEntry",
    "Changes",
    "Checkpoint",
    "CheckpointFile",
    "DeadLetter",
    "DeadLetterDetail",
    "DeadLetterField",
    "Diagnosis",
    "DryRun",
    "Episode",
    "Evaluation",
    "Event",
    "Figure",
    "Finding",
    "Job",
    "JobRemains",
    "JsonObject",
    "MovedAction",
    "MovedState",
    "NewKey",
    "OpenedSession",
    "PlayedBatches",
    "Project",
    "ProjectUsage",
    "Quotas",
    "RetriedLetter",
    "Rollout",
    "RolloutDetail",
    "Session",
    "State",
    "StateAction",
    "Step",
    "StepMember",
    "StepPlace",
    "Visit",
    "Watch",
    "Whoami",
]

JsonObject = dict[str, JsonValue]


class Job(JobView):
    """A job as the API shows it."""

    spec: JsonObject | None = None
    """Resolved; None in lists."""
    warnings: list[str] = Field(default_factory=list)
    """Warnings of a submission, such as needs that may not fit the machine."""
    waits_for: str | None = None
    """The reason why a queued job waits; None in lists."""
    jobs_before: int | None = None
    """The number of jobs that a trainer takes before a queued one; None in lists."""


class Event(Document):
    """One event of a job."""

    id: str
    """Give it as `after` to go on behind it."""
    kind: str
    """state, phase, metrics, evaluation, checkpoint, warning, alarm or summary."""
    at_unix_s: float
    data: JsonObject


class DryRun(Document):
    """A trial of a submission; figures stay a mapping, so that those of a newer API are shown too."""

    spec: JsonObject
    """Resolved: every default written out."""
    environment: JsonObject | None = None
    """The environment's description; None where no platform was asked."""
    estimates: JsonObject = Field(default_factory=dict)
    """Memory and tokens the job will need, by name."""
    warnings: list[JsonValue] = Field(default_factory=list)
    """Warnings: settings that are allowed and probably not meant."""
