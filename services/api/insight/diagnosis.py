"""The diagnosis of a job: runs every check on the same evidence. No storage, no transport."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.api.insight.evidence import Evidence
from services.api.insight.learning_checks import LEARNING_CHECKS
from services.api.insight.pipeline_checks import PIPELINE_CHECKS
from services.api.insight.signal_checks import SIGNAL_CHECKS
from services.contracts.rest.insight import Finding

Check = Callable[[Evidence], Finding | None]

CHECKS: tuple[Check, ...] = (*SIGNAL_CHECKS, *LEARNING_CHECKS, *PIPELINE_CHECKS)
"""A check's name is the code of its finding."""


FOLLOWS_FROM: Mapping[str, frozenset[str]] = {
    "reward_never_varies": frozenset(
        {"equal_groups", "success_stays_zero", "nothing_learned", "learning_rate_zero", "no_better_than_chance"}
    ),
    "not_a_number": frozenset({"collapsed", "nothing_learned", "no_better_than_chance", "learning_rate_zero"}),
    "no_better_than_chance": frozenset({"task_not_read"}),
    "nothing_learned": frozenset({"task_not_read"}),
}
"""A cause, and findings that say nothing beside it: one cause is one finding."""


def findings(evidence: Evidence) -> list[Finding]:
    """Findings that stand in the way of learning, problems first, one for each cause; empty for a job that is well."""
    every = {one.code: one for check in CHECKS if (one := check(evidence)) is not None}
    effects = {code for cause in every for code in FOLLOWS_FROM.get(cause, ())}
    found = [one for code, one in every.items() if code not in effects]
    return sorted(found, key=lambda one: one.severity != "problem")


def checked() -> list[str]:
    """The codes of all that is looked for."""
    return [check.__name__ for check in CHECKS]
