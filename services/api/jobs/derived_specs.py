"""Specs of forks and evaluations, made from another job's spec."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from services.api.rest.problems import Problem, bad_spec
from services.contracts.job import JobSpec, SpecError, parse_spec
from services.contracts.references import checkpoint_reference
from services.contracts.rest.evaluations import EvaluationRequest
from services.contracts.rest.jobs import ForkRequest
from services.contracts.stored_spec import upgraded_spec


def fork_spec(spec: Mapping[str, object], job_id: str, checkpoint: str, wanted: ForkRequest) -> JobSpec:
    """The job's spec with its checkpoint as model and the overrides in it.

    Raises:
        Problem: 422, an override does not fit; it is named as `overrides.<field>`. 409, the job's own spec would be
            refused today, with these overrides too.
    """
    document = _with_model(spec, job_id, checkpoint)
    document["name"] = wanted.name
    overrides = _nested(wanted.overrides)
    fixed = ("model", "model_revision", "scratch", "warmstart")
    taken = [name for name in fixed if name in _section(overrides, "model")]
    if taken:
        sentence = "the fork's model is the checkpoint; submit a new job for another one"
        raise bad_spec([(f"overrides.model.{name}", sentence) for name in taken])
    try:
        return parse_spec(_merged(document, overrides))
    except SpecError as error:
        if not _is_known(document):
            raise unknown_spec("fork", job_id, error) from None
        raise bad_spec(
            [(f"overrides.{field}" if field else "", sentence) for field, sentence in error.problems]
        ) from None


def evaluation_spec(spec: Mapping[str, object], job_id: str, checkpoint: str, wanted: EvaluationRequest) -> JobSpec:
    """A job that trains nothing and measures the checkpoint.

    Raises:
        Problem: 422, what is wanted does not fit; 409, the job's own spec would be refused today.
    """
    document = _with_model(spec, job_id, checkpoint)
    if wanted.member is not None:
        document["environment"] = _member_section(document, wanted.member)
    asked = {
        "evaluation.eval_episodes": wanted.eval_episodes,
        "evaluation.eval_seed": wanted.eval_seed,
        "environment.eval_split": wanted.split or None,
    }
    changes = _nested(
        {name: value for name, value in asked.items() if value is not None}
        | {"training.total_batches": 0, "evaluation.eval_baselines": wanted.baselines, "evaluation.eval_every": 0}
    )
    try:
        return parse_spec(_merged(document, {**changes, "name": wanted.name}))
    except SpecError as error:
        raise bad_spec(error.problems) if _is_known(document) else unknown_spec("evaluate", job_id, error) from None


def _member_section(document: Mapping[str, object], member: str) -> dict[str, object]:
    """The section `environment` of one member. Raises Problem 422: there is none of this name."""
    section = dict(_section(document, "environment"))
    members = section.pop("mixture", None) or []
    found = {str(one["member"]): one for one in members if isinstance(one, dict)} if isinstance(members, list) else {}
    if member not in found:
        known = ", ".join(found) or "none, the job is no mixture"
        raise bad_spec([("member", f"want one of its members ({known}), got {member!r}")])
    changes = {name: value for name, value in found[member].items() if name not in ("member", "weight")}
    return {**section, **{name: value for name, value in changes.items() if value is not None}}


def stored_spec(spec: Mapping[str, object], job_id: str) -> JobSpec:
    """The spec of a job that is to be retried. Raises Problem 409 for one that would be refused today."""
    try:
        return parse_spec(upgraded_spec(spec))
    except SpecError as error:
        raise unknown_spec("retry", job_id, error) from None


def unknown_spec(verb: str, job_id: str, error: SpecError) -> Problem:
    """An older version of the platform took this job's spec, and this one would not."""
    return Problem(
        409,
        f"cannot {verb} job {job_id}: its spec is of another version of the platform: {error}; "
        f"submit a new job with model.model: {checkpoint_reference(job_id, 'CHECKPOINT')} instead",
    )


def _with_model(spec: Mapping[str, object], job_id: str, checkpoint: str) -> dict[str, object]:
    document = copy.deepcopy(upgraded_spec(spec))
    document["model"] = {
        "model": checkpoint_reference(job_id, checkpoint),
        "torch_dtype": _section(document, "model")["torch_dtype"],
    }
    return document


def _section(document: Mapping[str, object], name: str) -> Mapping[str, object]:
    """A section of a spec; empty where it has none."""
    section = document.get(name)
    return section if isinstance(section, Mapping) else {}


def _nested(overrides: Mapping[str, object]) -> dict[str, object]:
    """Dotted keys as sections: {"training.seed": 1} -> {"training": {"seed": 1}}."""
    document: dict[str, object] = {}
    for key, value in overrides.items():
        *sections, leaf = key.split(".")
        inner: dict[str, object] = {leaf: value}
        for section in reversed(sections):
            inner = {section: inner}
        document = _merged(document, inner)
    return document


def _merged(document: Mapping[str, object], overrides: Mapping[str, object]) -> dict[str, object]:
    merged = dict(document)
    for key, value in overrides.items():
        mine = merged.get(key)
        merged[key] = _merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return merged


def _is_known(document: Mapping[str, object]) -> bool:
    try:
        parse_spec(document)
    except SpecError:
        return False
    return True
