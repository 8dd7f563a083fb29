"""What the API answers, as the client's user sees it."""

from gigpo.client.models.access import ApiKey, AuditEntry, NewKey, Project, ProjectUsage, Quotas, Whoami
from gigpo.client.models.artifacts import (
    Anchor,
    AnchorAction,
    Checkpoint,
    CheckpointFile,
    Episode,
    Rollout,
    RolloutDetail,
    Step,
    StepMember,
    Visit,
)
from gigpo.client.models.evaluations import Evaluation
from gigpo.client.models.jobs import ENDED, DryRun, Event, Job

__all__ = [
    "ENDED",
    "Anchor",
    "AnchorAction",
    "ApiKey",
    "AuditEntry",
    "Checkpoint",
    "CheckpointFile",
    "DryRun",
    "Episode",
    "Evaluation",
    "Event",
    "Job",
    "NewKey",
    "Project",
    "ProjectUsage",
    "Quotas",
    "Rollout",
    "RolloutDetail",
    "Step",
    "StepMember",
    "Visit",
    "Whoami",
]
