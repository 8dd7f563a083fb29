"""Names of evaluations for people."""

from __future__ import annotations

from collections.abc import Iterator

from services.contracts.summary import EvaluationResult, PanelResult

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


def named_results(one: EvaluationResult) -> Iterator[tuple[str, PanelResult]]:
    """The result in words, and below it that of each member of a mixture."""
    yield EVALUATION_LABELS.get(one.label, one.label), one
    for member, result in one.members.items():
        yield f"· {member}", result
