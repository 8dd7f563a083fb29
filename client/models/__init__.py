"""What the API answers, as the client's user sees it. Unknown fields are left out: a newer API has more of them."""

from client.models.access import ApiKey, AuditEntry, NewKey, Project, Whoami
from client.models.artifacts import Checkpoint, CheckpointFile, Episode, Rollout, RolloutDetail, Step, StepMember
from client.models.jobs import ENDED, DryRun, Event, Job

__all__ = [
    "ENDED",
    "ApiKey",
    "AuditEntry",
    "Checkpoint",
    "CheckpointFile",
    "DryRun",
    "Episode",
    "Event",
    "Job",
    "NewKey",
    "Project",
    "Rollout",
    "RolloutDetail",
    "Step",
    "StepMember",
    "Whoami",
]
