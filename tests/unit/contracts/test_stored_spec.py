"""A stored spec is read by services of other releases; a submission is read strictly."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from services.api.jobs.derived_specs import fork_spec
from services.api.jobs.derived_specs import stored_spec as spec_to_retry
from services.contracts.job import JobSpec, SpecError, parse_spec
from services.contracts.rest.jobs import ForkRequest
from services.contracts.stored_spec import read_spec, upgraded_spec

SPEC = parse_spec(
    {
        "model": {"scratch": {}, "warmstart": {"warmstart_environment_kwargs": {"later": {"kept": 1}}}},
        "environment": {"environment_kwargs": {"size": 4}},
        "rollout": {"max_completion_length": 8},
    }
)
STORED = SPEC.model_dump(mode="json")


def changed(*path: str, value: Any = 1) -> dict[str, Any]:
    document = copy.deepcopy(STORED)
    *sections, leaf = path
    inner = document
    for section in sections:
        inner = inner[section]
    inner[leaf] = value
    return document


@pytest.mark.parametrize(
    "path",
    [("added",), ("algorithm", "added"), ("model", "scratch", "added"), ("model", "warmstart", "added")],
    ids=".".join,
)
@pytest.mark.parametrize("value", [1, None, {"of": "tomorrow"}])
def test_a_key_that_only_a_newer_release_knows_is_left_out_of_a_stored_copy_and_refused_in_a_submission(
    path: tuple[str, ...], value: Any
) -> None:
    document = changed(*path, value=value)
    assert read_spec(json.dumps(document)) == SPEC
    with pytest.raises(SpecError, match=r"unknown key"):
        parse_spec(document)


def test_keys_that_belong_to_the_user_stay() -> None:
    read = read_spec(json.dumps(STORED))
    assert read.environment.environment_kwargs == {"size": 4}
    assert read.model.warmstart is not None
    assert read.model.warmstart.warmstart_environment_kwargs == {"later": {"kept": 1}}


@pytest.mark.parametrize(
    ("stored", "sentence"),
    [
        (b"\xff{", "expected value"),
        (b"{", "EOF"),
        (b"[1]", "want a mapping of sections such as model and environment, got a list"),
        (b'{"model": 7}', "model"),
        (json.dumps(changed("algorithm", "loss_type", value="tomorrows")), "loss_type"),
        (json.dumps(changed("rollout", "temperature", value=0)), "temperature"),
    ],
)
def test_a_stored_copy_that_cannot_run_here_is_refused(stored: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_spec(stored)


def older(**algorithm: Any) -> dict[str, Any]:
    """A copy that was stored before `kl_in_reward` was an option."""
    made = parse_spec({**STORED, "algorithm": algorithm}).model_dump(mode="json")
    del made["algorithm"]["kl_in_reward"]
    return made


@pytest.mark.parametrize("estimator", ["rloo", "reinforce_plus_plus"])
def test_a_job_from_before_the_kl_could_be_in_the_reward_keeps_it_in_the_loss(estimator: str) -> None:
    document = older(advantage_estimator=estimator)
    assert not read_spec(json.dumps(document)).algorithm.subtracts_kl
    assert not spec_to_retry(document, "j1").algorithm.subtracts_kl
    fork = fork_spec(document, "j1", "final", ForkRequest(checkpoint="final", name="n", overrides={}))
    assert not fork.algorithm.subtracts_kl
    assert "kl_in_reward" not in document["algorithm"]


@pytest.mark.parametrize("algorithm", [{}, {"advantage_estimator": "rloo", "beta": 0.0}])
def test_other_jobs_from_before_are_read_as_they_are(algorithm: dict[str, Any]) -> None:
    assert read_spec(json.dumps(older(**algorithm))) == parse_spec({**STORED, "algorithm": algorithm})


def test_a_copy_of_today_is_read_as_it_is() -> None:
    made: JobSpec = parse_spec({**STORED, "algorithm": {"advantage_estimator": "rloo"}})
    assert read_spec(made.model_dump_json()) == made
    assert upgraded_spec(made.model_dump(mode="json")) == made.model_dump(mode="json")
