"""Rows that begin alike: each beginning is forwarded once, with the values and gradients of the rows apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoConfig, MistralConfig, MistralForCausalLM, Qwen2ForCausalLM

from gigpo_core import Turn
from services.trainer.learner.learner import Learner
from services.trainer.learner.logprobs import Scorer
from services.trainer.learner.parts import Parts
from services.trainer.learner.policy import load_policy
from services.trainer.learner.prefixes import balance_of, prefix_tree
from services.trainer.learner.rows import Row
from services.trainer.learner.token_rows import TokenRows
from services.trainer.learner.update import accumulate_gradient, columns_of, loss_config
from tests.unit.trainer.learner_cases import TOKENS, guided, histories, job_spec, naive_logprobs, scratch_folder

LORA = {"tuner_type": "lora", "lora_rank": 4, "beta": 0.05}


def conversations(rows: Sequence[Row]) -> list[Row]:
    """A second response in each sequence: its tokens before the last three, read off the same forward."""
    found = []
    for one in rows:
        ids, stop = one.turn.ids, len(one.prompt_ids) - 1
        found += [one, replace(one, turn=Turn(ids, stop - 1, stop), rollout_logprobs=(-2.5,), versions=(-1,))]
    return found


def folder_of(folder: Path, *, tied: bool = True) -> Path:
    base = scratch_folder(folder)
    if not tied:
        config = AutoConfig.from_pretrained(base)
        config.tie_word_embeddings = False
        torch.manual_seed(1)
        Qwen2ForCausalLM(config).save_pretrained(base)
    return base


CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "tied": ({}, True),
    "untied": ({"temperature": 0.7}, False),
    "lora": (LORA, True),
    "activations computed again": ({"gradient_checkpointing": True, "entropy_coef": 0.01}, True),
}


@pytest.mark.parametrize("given", [histories(), guided(histories(seed=1)), conversations(histories(seed=2))])
@pytest.mark.parametrize("case", CASES)
def test_a_tree_gives_the_gradient_of_its_rows_apart(tmp_path: Path, case: str, given: list[Row]) -> None:
    leaves, tied = CASES[case]
    spec = job_spec(minibatches=1, max_prompt_tokens=56, **leaves)
    learner = Learner(spec, folder_of(tmp_path / "base", tied=tied))
    if case == "lora":
        perturb(learner)
    together, loss = learner._scorer, loss_config(spec)
    assert any(micro.tree for micro in together.plan(TokenRows([one.turn for one in given])))
    found = []
    for scorer in (together, replace(together, trees=0)):
        columns = columns_of(given, scorer)
        columns = replace(columns, reference=columns.old - 0.05) if loss.beta else columns
        measured = accumulate_gradient(scorer, replace(columns, old=columns.old - 0.1), loss)
        found.append((columns.old, measured, gradients(learner)))
        learner.model.zero_grad()
    (old, measured, tree), (old_apart, measured_apart, apart) = found
    assert_close(old, old_apart, atol=1e-6, rtol=1e-6)
    assert measured == pytest.approx(measured_apart, abs=1e-6)
    assert any(bool(one.abs().max() > 1e-4) for one in apart.values())
    for name, one in apart.items():
        assert_close(tree[name], one, atol=1e-6, rtol=1e-5)


def perturb(learner: Learner) -> None:
    """Adapters whose products are not 0."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in learner.model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=generator) / 10)


def gradients(learner: Learner) -> dict[str, Tensor]:
    return {name: one.grad.clone() for name, one in learner.model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("budget", [1, 60, 10_000])
def test_log_probabilities_of_a_tree_are_those_of_each_row(tmp_path: Path, budget: int) -> None:
    rows = histories(seed=3)
    scorer = Scorer(load_policy(scratch_folder(tmp_path / "base")), 0.8, token_budget=budget, trees=10_000)
    got, _ = scorer.constants(TokenRows([one.turn for one in rows]))
    with torch.no_grad():
        assert_close(got, naive_logprobs(scorer.model, rows, 0.8), atol=1e-6, rtol=1e-6)


def test_each_beginning_is_forwarded_once(tmp_path: Path) -> None:
    rows = TokenRows([one.turn for one in histories()])
    beginnings = {turn.ids[:length] for turn in rows.turns for length in range(1, len(turn.ids) + 1)}
    scorer = Scorer(load_policy(scratch_folder(tmp_path / "base")), 1.0, token_budget=10_000, trees=10_000)
    (micro,) = scorer.plan(rows)
    assert micro.forward_tokens == len(beginnings)
    assert 2 * len(beginnings) < sum(len(turn.ids) for turn in rows.turns)
    assert len(scorer.plan(TokenRows(rows.turns[:1]))) == 1


def test_a_small_model_forwards_long_rows_apart_whose_beginnings_are_short(tmp_path: Path) -> None:
    """Attention over a tree of all would cost more than what it saves."""
    model = load_policy(scratch_folder(tmp_path / "base"))
    scorer = Scorer(model, 1.0, token_budget=10_000, trees=balance_of(model))
    assert scorer.trees == 2 * 32 + 3 * 48 // 2
    alike = [Turn((*range(20), *range(100 * row, 100 * row + 60)), 30, 80) for row in range(1, 9)]
    assert not any(micro.tree for micro in scorer.plan(TokenRows(alike)))
    assert all(micro.tree for micro in replace(scorer, trees=10**6).plan(TokenRows(alike)))


def test_a_tree_knows_what_each_token_follows() -> None:
    tree = prefix_tree([torch.tensor(ids) for ids in ([1, 2], [1, 2, 3], [1, 4, 5])])
    assert tree.ids.tolist() == [[1, 2, 3, 4, 5]]
    assert tree.positions.tolist() == [[0, 1, 2, 1, 2]]
    assert [path.tolist() for path in tree.paths] == [[0, 1], [0, 1, 2], [0, 3, 4]]
    seen = [{column for column in range(5) if tree.mask[0, 0, line, column]} for line in range(5)]
    assert seen == [{0}, {0, 1}, {0, 1, 2}, {0, 3}, {0, 3, 4}]


def test_models_that_a_mask_would_change_are_forwarded_row_by_row(tmp_path: Path) -> None:
    model = load_policy(scratch_folder(tmp_path / "base"))
    assert Parts(model).takes_trees()
    model.set_attn_implementation("eager")
    assert not Parts(model).takes_trees()
    windows = MistralConfig(
        vocab_size=TOKENS, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, sliding_window=4,
    )  # fmt: skip
    assert not Parts(MistralForCausalLM(windows).eval()).takes_trees()
