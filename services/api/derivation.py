"""Specs made from another job's spec: of a fork and of an evaluation."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from services.api.problems import bad_spec
from services.api.views.evaluations import EvaluationRequest
from services.api.views.jobs import ForkRequest
from services.contracts.job import JobSpec, SpecError, parse_spec
from services.contracts.references import checkpoint_reference


def fork_spec(spec: Mapping[str, Any], job_id: str, checkpoint: str, wanted: ForkRequest) -> JobSpec:
    """The job's spec with its checkpoint as model and the overrides in it.

    Raises:
        Problem: 422, an override does not fit; it is named as `overrides.<field>`.
    """
    document = _with_model(spec, job_id, checkpoint)
    document["name"] = wanted.name
    overrides = _nested(wanted.overrides)
    taken = [name for name in ("model", "scratch", "warmstart") if name in overrides.get("model", {})]
    if taken:
        sentence = "the fork's model is the checkpoint; submit a new job for another one"
        raise bad_spec([(f"overrides.model.{name}", sentence) for name in taken])
    return _parsed(_merged(document, overrides), "overrides.")


def evaluation_spec(spec: Mapping[str, Any], job_id: str, checkpoint: str, wanted: EvaluationRequest) -> JobSpec:
    """A job that trains nothing and measures the checkpoint. Raises Problem 422."""
    document = _with_model(spec, job_id, checkpoint)
    document["name"] = wanted.name
    document["training"]["total_batches"] = 0
    evaluation = {"eval_episodes": wanted.eval_episodes, "eval_seed": wanted.eval_seed}
    document["evaluation"] |= {name: value for name, value in evaluation.items() if value is not None}
    document["evaluation"] |= {"eval_baselines": wanted.baselines, "eval_every": 0}
    document["environment"]["eval_split"] = wanted.split or document["environment"]["eval_split"]
    return _parsed(document, "")


def _with_model(spec: Mapping[str, Any], job_id: str, checkpoint: str) -> dict[str, Any]:
    document = copy.deepcopy(dict(spec))
    document["model"] = {
        "model": checkpoint_reference(job_id, checkpoint),
        "torch_dtype": document["model"]["torch_dtype"],
    }
    return document


def _nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as sections: {"training.seed": 1} -> {"training": {"seed": 1}}."""
    document: dict[str, Any] = {}
    for key, value in overrides.items():
        *sections, leaf = key.split(".")
        inner: Any = {leaf: value}
        for section in reversed(sections):
            inner = {section: inner}
        document = _merged(document, inner)
    return document


def _merged(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(document)
    for key, value in overrides.items():
        mine = merged.get(key)
        merged[key] = _merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return merged


def _parsed(document: dict[str, Any], prefix: str) -> JobSpec:
    try:
        return parse_spec(document)
    except SpecError as error:
        raise bad_spec(
            [(f"{prefix}{field}" if field else "", sentence) for field, sentence in error.problems]
        ) from None
