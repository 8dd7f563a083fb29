"""Names of evaluations for people."""

from __future__ import annotations

EVALUATION_LABELS = {
    "before": "before training",
    "during": "during training",
    "after": "after training",
    "pinned": "the pinned policy",
    "task_hidden": "the same policy, task hidden",
    "task_shuffled": "another task's sentence shown",
    "random_actor": "random admissible actions",
}
"""`EvaluationResult.label` -> words."""
