"""A policy that may say only certain tokens: the distribution, its entropy and its gradient are over these alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from learner_cases import EOS, guided, job_spec, naive_logits, random_rows, row, scratch_folder
from torch import Tensor
from torch.testing import assert_close

from services.contracts.guidance import pack_allowed, unpack_allowed
from services.trainer.learner.errors import RowsError
from services.trainer.learner.learner import Learner
from services.trainer.learner.logprobs import Scorer
from services.trainer.learner.policy import load_policy
from services.trainer.learner.rows import Row
from services.trainer.learner.token_rows import TokenRows


@pytest.fixture
def scorer(tmp_path: Path) -> Scorer:
    return Scorer(load_policy(scratch_folder(tmp_path / "base")), temperature=0.7, token_budget=100)


def tokens_of(rows: list[Row]) -> TokenRows:
    return TokenRows([one.turn for one in rows])


def naive_distributions(scorer: Scorer, rows: list[Row]) -> list[tuple[torch.distributions.Categorical, Tensor]]:
    """Each response token's distribution over what was allowed there, and the token's place in that."""
    found = []
    for one in rows:
        logits = naive_logits(scorer.model, one.prompt_ids, one.response_ids) / scorer.temperature
        allowed = unpack_allowed(one.turn.allowed, len(one.response_ids))
        for row_logits, token, ids in zip(logits, one.response_ids, allowed, strict=True):
            place = torch.tensor(ids.index(token))
            found.append((torch.distributions.Categorical(logits=row_logits[ids]), place))
    return found


@pytest.mark.parametrize("changes", [{}, {"token_budget": 1}, {"head_elements": 40}])
def test_log_probabilities_and_entropy_are_renormalised_over_what_was_allowed(
    scorer: Scorer, changes: dict[str, int]
) -> None:
    rows = guided(random_rows(12, repeats=5))
    got, entropy = replace(scorer, **changes).constants(tokens_of(rows), "value")
    with torch.no_grad():
        wanted = naive_distributions(scorer, rows)
    assert entropy is not None
    assert_close(got, torch.stack([one.log_prob(place) for one, place in wanted]), atol=1e-5, rtol=0)
    assert_close(entropy, torch.stack([one.entropy() for one, _ in wanted]), atol=1e-5, rtol=0)


def test_gradients_are_those_of_the_restricted_distribution(scorer: Scorer) -> None:
    rows = guided(random_rows(8))
    (micro,) = tokens_of(rows).plan(100_000)
    weight = scorer.model.get_input_embeddings().weight
    logprob, entropy = scorer.score(tokens_of(rows), micro, "gradient")
    assert entropy is not None
    (got,) = torch.autograd.grad(logprob.sum() + entropy.sum(), weight)
    wanted = sum(one.log_prob(place) + one.entropy() for one, place in naive_distributions(scorer, rows))
    assert_close(got, torch.autograd.grad(wanted, weight)[0], atol=1e-5, rtol=1e-4)


def test_a_token_without_an_alternative_is_certain_and_teaches_nothing(scorer: Scorer) -> None:
    forced = row((3, 4), (5, EOS), 1.0)
    forced = replace(forced, turn=forced.turn._replace(allowed=pack_allowed([(5,), (EOS,)])))
    rows = tokens_of([forced])
    (micro,) = rows.plan(100)
    logprob, entropy = scorer.score(rows, micro, "gradient")
    assert entropy is not None
    assert [*logprob.tolist(), *entropy.tolist()] == [0.0] * 4
    (slope,) = torch.autograd.grad(logprob.sum() + entropy.sum(), scorer.model.get_input_embeddings().weight)
    assert not slope.any()


def test_some_rows_with_and_some_without_choices_are_refused(scorer: Scorer) -> None:
    one, other = random_rows(2)
    with pytest.raises(RowsError, match="want choices for every response or for none"):
        scorer.constants(tokens_of([*guided([one]), other]))


@pytest.mark.parametrize("tuner_type", ["full", "lora"])
def test_ratio_and_divergence_are_over_the_restricted_distribution(tmp_path: Path, tuner_type: str) -> None:
    """Rows whose log-probabilities are the restricted ones: the ratio of the first step is 1, the divergence 0."""
    spec = job_spec(beta=0.1, minibatches=1, tuner_type=tuner_type, learning_rate=1e-2)
    learner = Learner(spec, scratch_folder(tmp_path / "base"))
    rows = guided(random_rows(10))
    own, _ = learner._scorer.constants(tokens_of(rows))
    parts = own.split([len(one.response_ids) for one in rows])
    rows = [
        replace(one, rollout_logprobs=tuple(part.tolist()), versions=(0,) * len(part))
        for one, part in zip(rows, parts, strict=True)
    ]
    assert learner.mismatch(rows)["mismatch_max"] < 1e-6
    assert max(map(abs, learner.divergence(rows))) < 1e-6
    measured = learner.train_batch(rows, 0)
    assert measured["current_mismatch_kl"] < 1e-9
    assert measured["policy_kl"] == pytest.approx(0.0, abs=1e-9)
    assert max(map(abs, learner.divergence(rows))) > 1e-3
    free = [replace(one, turn=one.turn._replace(allowed=b"")) for one in rows]
    assert learner.mismatch(free)["mismatch_max"] > 0.1
