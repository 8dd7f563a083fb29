"""The diagnosis of a job: runs every check on the same evidence. No storage, no transport."""

from __future__ import annotations

from collections.abc import Callable

from services.api.insight.evidence import Evidence
from services.api.insight.learning_checks import LEARNING_CHECKS
from services.api.insight.pipeline_checks import PIPELINE_CHECKS
from services.api.insight.signal_checks import SIGNAL_CHECKS
from services.contracts.rest.insight import Finding

Check = Callable[[Evidence], Finding | None]

CHECKS: tuple[Check, ...] = (*SIGNAL_CHECKS, *LEARNING_CHECKS, *PIPELINE_CHECKS)
"""A check's name is the code of its finding."""


def findings(evidence: Evidence) -> list[Finding]:
    """What stands in the way of learning, problems first; empty for a job that is well."""
    found = [one for check in CHECKS if (one := check(evidence)) is not None]
    return sorted(found, key=lambda one: one.severity != "problem")


def checked() -> list[str]:
    """The codes of all that is looked for."""
    return [check.__name__ for check in CHECKS]
