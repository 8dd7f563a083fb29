"""Engine and trainer on equal weights: rounding passes, more warns, much more ends the job."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from learner_cases import job_spec, naive_logprobs, random_rows, same_bits, scratch_folder, weights_of

from services.contracts.metrics import METRICS
from services.trainer.learner.agreement import disagreement
from services.trainer.learner.errors import MismatchError
from services.trainer.learner.learner import Learner
from services.trainer.learner.rows import Row


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scratch_folder(tmp_path_factory.mktemp("base"))


def shifted(learner: Learner, shift: float, version: int = 0) -> list[Row]:
    """Rows whose engine says every token's log-probability is `shift` above the truth."""
    rows, own = random_rows(6), naive_logprobs(learner.model, random_rows(6)).tolist()
    found = []
    for one in rows:
        taken, own = own[: len(one.response_ids)], own[len(one.response_ids) :]
        logprobs = tuple(value + shift for value in taken)
        found.append(replace(one, rollout_logprobs=logprobs, versions=(version,) * len(taken)))
    return found


@pytest.mark.parametrize(
    ("kl", "dtype", "warned"),
    [(1e-9, "float32", False), (2e-4, "float32", True), (0.00977, "bfloat16", False), (0.02, "bfloat16", True)],
)
def test_what_is_more_than_rounding_is_said(kl: float, dtype: str, warned: bool) -> None:
    sentence = disagreement(kl, dtype)  # type: ignore[arg-type]
    assert (sentence is not None) == warned
    assert sentence is None or f"{kl:.3g} nats" in sentence


@pytest.mark.parametrize(
    ("kl", "dtype"),
    [(0.00977, "float32"), (0.6, "float32"), (0.2, "bfloat16"), (math.nan, "float32"), (math.inf, "bfloat16")],
)
def test_what_no_rounding_does_is_an_error(kl: float, dtype: str) -> None:
    with pytest.raises(MismatchError, match="does not serve this version's weights"):
        disagreement(kl, dtype)  # type: ignore[arg-type]


@pytest.mark.parametrize("minibatches", [1, 2])
def test_a_batch_of_an_engine_with_other_weights_trains_nothing(base: Path, minibatches: int) -> None:
    learner = Learner(job_spec(minibatches=minibatches), base)
    before = weights_of(learner.model)
    with pytest.raises(MismatchError, match="nats a token"):
        learner.train_batch(shifted(learner, 2.0), 0)
    assert same_bits(weights_of(learner.model), before)
    assert all(weight.grad is None for weight in learner.model.parameters())


def test_the_current_mismatch_is_that_of_rows_which_this_version_sampled_alone(base: Path) -> None:
    learner = Learner(job_spec(), base)
    stale = shifted(learner, 2.0, version=1)
    mixed = replace(stale[0], versions=(2,) * (len(stale[0].versions) - 1) + (1,))
    own = shifted(learner, -0.05, version=2)
    metrics = learner.train_batch([*stale, mixed, *own], 2)
    assert metrics["current_mismatch_kl"] == pytest.approx(math.exp(0.05) - 1.05, rel=1e-2)
    assert metrics["mismatch_kl"] > 0.5
    assert "current_mismatch_kl" not in learner.train_batch(stale, 3)


def test_what_the_learner_reports_is_what_the_metrics_list(base: Path) -> None:
    learner = Learner(job_spec(beta=0.1), base)
    reported = learner.train_batch(shifted(learner, 0.0), 0)
    assert reported.keys() == {metric.name for metric in METRICS if metric.learner}
