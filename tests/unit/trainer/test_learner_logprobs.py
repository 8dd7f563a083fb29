from dataclasses import replace
from pathlib import Path

import pytest
import torch
from learner_cases import naive_logits, naive_logprobs, random_rows, scratch_folder
from torch.testing import assert_close

from services.trainer.learner.logprobs import Scorer
from services.trainer.learner.policy import load_policy
from services.trainer.learner.rows import Row
from services.trainer.learner.token_rows import TokenRows, spans


@pytest.fixture
def scorer(tmp_path: Path) -> Scorer:
    return Scorer(load_policy(scratch_folder(tmp_path / "base")), temperature=1.0, token_budget=100)


def tokens_of(rows: list[Row]) -> TokenRows:
    return TokenRows([row.turn for row in rows])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("budget", [1, 100, 100_000])
def test_log_probabilities_are_those_of_one_plain_forward_per_row(
    scorer: Scorer, temperature: float, budget: int
) -> None:
    rows = random_rows(20, repeats=8)
    got = replace(scorer, temperature=temperature, token_budget=budget).constants(tokens_of(rows))[0]
    with torch.no_grad():
        assert_close(got, naive_logprobs(scorer.model, rows, temperature), atol=1e-5, rtol=0)


def test_equal_rows_are_forwarded_once_and_get_equal_values(scorer: Scorer) -> None:
    rows = random_rows(6, repeats=6)
    tokens = tokens_of(rows)
    assert sum(len(micro.sequence_row) for micro in tokens.plan(100)) == 6
    logprob, _ = scorer.constants(tokens)
    assert torch.equal(logprob[tokens.places(torch.arange(6))], logprob[tokens.places(torch.arange(6, 12))])


def test_gradients_of_shared_rows_add_up(scorer: Scorer) -> None:
    rows = random_rows(5, repeats=5)
    shared = torch.zeros(())
    tokens = tokens_of(rows)
    for micro in tokens.plan(60):
        shared = shared + scorer.score(tokens, micro)[0].sum()
    weight = scorer.model.get_input_embeddings().weight
    (got,) = torch.autograd.grad(shared, weight)
    (wanted,) = torch.autograd.grad(naive_logprobs(scorer.model, rows).sum(), weight)
    assert_close(got, wanted, atol=1e-5, rtol=1e-4)


def test_entropy_is_that_of_the_tempered_distribution(scorer: Scorer) -> None:
    rows = random_rows(3)
    tokens = tokens_of(rows)
    (micro,) = tokens.plan(100_000)
    with torch.no_grad():
        _, entropy = replace(scorer, temperature=2.0).score(tokens, micro, "value")
        wanted = [
            torch.distributions.Categorical(logits=naive_logits(scorer.model, r.prompt_ids, r.response_ids) / 2.0)
            for r in rows
        ]
    assert entropy is not None
    assert_close(entropy, torch.cat([one.entropy() for one in wanted]), atol=1e-5, rtol=0)


def test_entropy_carries_a_gradient_only_if_wanted(scorer: Scorer) -> None:
    tokens = tokens_of(random_rows(3))
    (micro,) = tokens.plan(100_000)
    flags = {}
    for kind in ("value", "gradient"):
        _, entropy = scorer.score(tokens, micro, kind)
        assert entropy is not None
        flags[kind] = entropy.requires_grad
    assert flags == {"value": False, "gradient": True}
    assert scorer.score(tokens, micro, "skip")[1] is None


def test_a_head_in_parts_gives_the_same_values_and_gradients(scorer: Scorer) -> None:
    tokens = tokens_of(random_rows(8))
    (micro,) = tokens.plan(100_000)
    weight = scorer.model.get_input_embeddings().weight
    found = []
    for each in (scorer, replace(scorer, head_elements=40)):
        logprob, entropy = each.score(tokens, micro, "gradient")
        assert entropy is not None
        found.append((logprob, entropy, torch.autograd.grad(logprob.sum() + entropy.sum(), weight)[0]))
    for left, right in zip(*found, strict=True):
        assert_close(left, right, atol=1e-5, rtol=1e-5)


def test_selected_rows_keep_their_tokens(scorer: Scorer) -> None:
    tokens = tokens_of(random_rows(6))
    chosen = torch.tensor([4, 0, 5])
    wanted = scorer.constants(tokens)[0][tokens.places(chosen)]
    assert_close(scorer.constants(tokens.select(chosen))[0], wanted, atol=1e-6, rtol=0)


def test_spans_count_up_from_each_start() -> None:
    assert spans(torch.tensor([7, 2, 0]), torch.tensor([2, 0, 3])).tolist() == [7, 8, 0, 1, 2]
