"""Specs that are made from a stored one, also from one that another version of the platform took."""

from __future__ import annotations

from typing import Any

import pytest

from services.api.jobs.derived_specs import evaluation_spec, fork_spec, stored_spec
from services.api.rest.problems import Problem
from services.contracts.job import parse_spec
from services.contracts.rest.evaluations import EvaluationRequest
from services.contracts.rest.jobs import ForkRequest

EVALUATION = EvaluationRequest(job_id="j1")


def stored(**algorithm: Any) -> dict[str, Any]:
    document = parse_spec({"model": {"scratch": {}}, "rollout": {"max_completion_length": 6}}).model_dump(mode="json")
    document["algorithm"] |= algorithm
    return document


def refusal(make: Any) -> Problem:
    with pytest.raises(Problem) as refused:
        make()
    return refused.value


@pytest.mark.parametrize("old", [{"tau_neg": 1.2}, {"key_of_old": 3}], ids=["without effect now", "unknown now"])
def test_a_job_of_an_older_version_is_refused_by_its_own_name(old: dict[str, Any]) -> None:
    document, (key,) = stored(**old), old
    for verb, make in (
        ("retry", lambda: stored_spec(document, "j1")),
        ("fork", lambda: fork_spec(document, "j1", "final", ForkRequest())),
        ("evaluate", lambda: evaluation_spec(document, "j1", "final", EVALUATION)),
    ):
        problem = refusal(make)
        assert problem.status == 409
        assert problem.detail.startswith(f"cannot {verb} job j1: its spec is of another version of the platform: ")
        assert key in problem.detail
        assert "job:j1/CHECKPOINT" in problem.detail, "it says how to go on"


def test_a_fork_may_change_what_would_be_refused_today() -> None:
    wanted = ForkRequest(overrides={"algorithm.tau_neg": 1.05})
    assert fork_spec(stored(tau_neg=1.2), "j1", "final", wanted).algorithm.tau_neg == 1.05


def test_a_wrong_override_is_named_as_one() -> None:
    wanted = ForkRequest(overrides={"training.learning_rate": -1})
    problem = refusal(lambda: fork_spec(stored(), "j1", "final", wanted))
    assert (problem.status, problem.errors[0][0]) == (422, "overrides.training.learning_rate")
    problem = refusal(
        lambda: evaluation_spec(stored(), "j1", "final", EVALUATION.model_copy(update={"eval_episodes": -1}))
    )
    assert (problem.status, problem.errors[0][0]) == (422, "evaluation.eval_episodes")


def test_one_member_of_a_mixture_is_evaluated_alone() -> None:
    members = [{"member": "far", "max_turns": 9, "environment_kwargs": {"size": [4]}}, {"member": "near"}]
    document = stored()
    document["environment"] = {**document["environment"], "mixture": members}
    found = evaluation_spec(document, "j1", "final", EVALUATION.model_copy(update={"member": "far"}))
    section = found.environment
    assert (section.mixture, section.max_turns, section.environment_kwargs) == ([], 9, {"size": [4]})
    assert len(evaluation_spec(document, "j1", "final", EVALUATION).environment.mixture) == 2
    with pytest.raises(Problem, match=r"want one of its members \(far, near\), got 'x'"):
        evaluation_spec(document, "j1", "final", EVALUATION.model_copy(update={"member": "x"}))
    with pytest.raises(Problem, match="the job is no mixture"):
        evaluation_spec(stored(), "j1", "final", EVALUATION.model_copy(update={"member": "far"}))
