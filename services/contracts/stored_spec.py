"""The stored copy of a job's spec, in SQL and in Redis: one release writes it and another may read it.

A stored copy holds every option of its release. So a copy without an option is older than the option, and a copy with
an unknown key comes from a newer release.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic_core import from_json

from services.contracts.algorithm import KL_IN_REWARD
from services.contracts.job import JobSpec, parse_spec
from services.contracts.section import Section, section_of


def read_spec(stored: str | bytes) -> JobSpec:
    """The spec in a stored copy of any release.

    A newer release's key is left out, as that of a message is: a field that comes without a new version has a default
    that changes nothing (see `versions`). Submissions are read by `parse_spec`, which refuses unknown keys.

    Raises:
        ValueError: it is no JSON, or no spec that can run here.
    """
    document = from_json(stored)
    return parse_spec(upgraded_spec(_known(document, JobSpec)) if isinstance(document, dict) else document)


def upgraded_spec(document: Mapping[str, object]) -> dict[str, object]:
    """A stored copy in today's form: what its job did before an option existed is written out."""
    algorithm = document.get("algorithm")
    if isinstance(algorithm, dict) and "kl_in_reward" not in algorithm and algorithm.get("beta"):
        algorithm = {**algorithm, **_kl_in_loss(algorithm.get("advantage_estimator"))}
    return {**document, "algorithm": algorithm} if algorithm is not None else dict(document)


def _kl_in_loss(estimator: object) -> dict[str, object]:
    """The place of the KL of a job with this estimator before `kl_in_reward`, if it would be in the reward today."""
    return {"kl_in_reward": False} if str(estimator) in KL_IN_REWARD else {}


def _known(document: Mapping[str, object], section: type[Section]) -> dict[str, object]:
    """The keys of a section, and of the sections in it, that are known here."""
    known = {}
    for name, field in section.model_fields.items():
        if name in document:
            value, inner = document[name], section_of(field.annotation)
            known[name] = _known(value, inner) if inner and isinstance(value, dict) else value
    return known
