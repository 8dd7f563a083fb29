"""The loss that compares the rows of a group: whole groups in a minibatch and in a micro-batch, as plain loops say."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from learner_cases import (
    EOS,
    job_spec,
    naive_logits,
    naive_logprobs,
    random_rows,
    row,
    same_bits,
    scratch_folder,
    weights_of,
)
from torch import Tensor
from torch.testing import assert_close

from services.contracts.job import JobSpec
from services.trainer.learner.learner import Learner
from services.trainer.learner.logprobs import Scorer
from services.trainer.learner.policy import load_policy
from services.trainer.learner.rows import Row
from services.trainer.learner.update import accumulate_gradient, columns_of, loss_config, minibatch_rows, token_mask

TAU = 0.4


def real_job(**leaves: object) -> JobSpec:
    return job_spec(loss_type="real", real_tau=TAU, **leaves)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return scratch_folder(tmp_path / "base")


def grouped_rows(groups: int = 4, each: int = 4) -> list[Row]:
    """Groups whose rows do not stand together, the last group without a positive row; some sequences occur twice."""
    rows = random_rows(groups * each, repeats=3)
    rows = [replace(one, group_id=f"g{place % groups}") for place, one in enumerate(rows)]
    return [replace(one, advantage=-abs(one.advantage)) if one.group_id == "g3" else one for one in rows]


def shift(tokens: int) -> Tensor:
    """How far the policy has moved from the old one, per token."""
    return 0.15 * torch.sin(torch.arange(tokens))


def real_by_loops(log_ratio: Tensor, rows: list[Row]) -> Tensor:
    """The mean over groups of log(1 + sum_+ exp(-s/tau)) + log(1 + sum_- exp(s/tau)); s is a row's mean."""
    means, first = [], 0
    for one in rows:
        means.append(log_ratio[first : first + len(one.response_ids)].mean())
        first += len(one.response_ids)
    total = log_ratio.new_zeros(())
    names = sorted({one.group_id for one in rows})
    for name in names:
        mine = [(mean, one.advantage) for mean, one in zip(means, rows, strict=True) if one.group_id == name]
        won = [mean for mean, advantage in mine if advantage > 0]
        lost = [mean for mean, advantage in mine if advantage <= 0]
        if won and lost:
            total = total + torch.log(1 + sum(torch.exp(-mean / TAU) for mean in won))
            total = total + torch.log(1 + sum(torch.exp(mean / TAU) for mean in lost))
    return total / len(names)


@pytest.mark.parametrize("budget", [1, 64, 100_000])
def test_its_gradient_is_that_of_plain_loops_whatever_the_token_budget(base: Path, budget: int) -> None:
    rows = grouped_rows()
    plain = load_policy(base)
    logprobs = naive_logprobs(plain, rows)
    loss = real_by_loops(logprobs - (logprobs.detach() + shift(len(logprobs))), rows)
    loss.backward()
    model = load_policy(base)
    scorer = Scorer(model, temperature=1.0, token_budget=budget)
    columns = columns_of(rows, scorer)
    spec = real_job()
    moved = replace(columns, old=columns.old + shift(len(columns.old)))
    metrics = accumulate_gradient(scorer, moved, loss_config(spec), token_mask(spec))
    assert metrics["policy_loss"] == metrics["loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    for got, wanted in zip(model.parameters(), plain.parameters(), strict=True):
        assert_close(got.grad, wanted.grad, atol=1e-6, rtol=1e-4)


def test_whole_groups_are_dealt_to_minibatches_at_random_and_anew_each_time() -> None:
    group = torch.tensor([7, 3, 7, 5, 3, 9, 9, 9, 5, 1])
    generator = torch.Generator().manual_seed(0)
    deals = [minibatch_rows(len(group), 2, generator, group) for _ in range(8)]
    for parts in deals:
        assert sorted(torch.cat(parts).tolist()) == list(range(10))
        names = [set(group[part].tolist()) for part in parts]
        assert not names[0] & names[1]
        assert sorted(map(len, names)) == [2, 3]
    assert len({frozenset(group[parts[0]].tolist()) for parts in deals}) > 1
    assert len(minibatch_rows(len(group), 9, generator, group)) == 5  # five groups make five minibatches


def test_a_group_keeps_its_rows_without_an_advantage_and_goes_whole_where_no_row_has_one(base: Path) -> None:
    rows = grouped_rows()
    rows = [replace(one, advantage=0.0) if one.group_id == "g1" or place in (0, 4) else one
            for place, one in enumerate(rows)]  # fmt: skip
    taught = [one for one in rows if one.group_id != "g1"]
    left, right = Learner(real_job(minibatches=1), base), Learner(real_job(minibatches=1), base)
    metrics = left.train_batch(rows, 0)
    assert metrics["trained_rows"] == len(taught)
    assert metrics["policy_loss"] == pytest.approx(right.train_batch(taught, 0)["policy_loss"])
    assert metrics["policy_loss"] == pytest.approx(
        float(real_by_loops(torch.zeros(sum(len(one.response_ids) for one in taught)), taught)), rel=1e-4
    )
    for name, weight in weights_of(left.model).items():
        assert_close(weights_of(right.model)[name], weight, atol=1e-5, rtol=0)


def test_groups_without_any_advantage_leave_the_weights_as_they_are(base: Path) -> None:
    learner = Learner(real_job(beta=0.5), base)
    before = weights_of(learner.model)
    metrics = learner.train_batch([replace(one, advantage=0.0) for one in grouped_rows()], 0)
    assert same_bits(weights_of(learner.model), before)
    assert metrics["optimizer_steps"] == metrics["trained_rows"] == 0


def test_optimizer_steps_are_parts_of_the_groups_times_iterations(base: Path) -> None:
    metrics = Learner(real_job(minibatches=2, num_iterations=2, beta=0.1), base).train_batch(grouped_rows(), 0)
    assert metrics["optimizer_steps"] == 4
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["kl"] > 0


def test_no_optimizer_step_sees_a_part_of_a_group(base: Path) -> None:
    metrics = Learner(real_job(minibatches=5), base).train_batch(grouped_rows(groups=2), 0)
    assert metrics["optimizer_steps"] == 2  # two groups make two minibatches


def test_the_correction_that_other_losses_have_by_default_is_none_for_it(base: Path) -> None:
    spec = real_job()
    assert spec.algorithm.rollout_importance_sampling_mode == "token_truncate"
    assert loss_config(spec).rollout_importance_sampling_mode is None
    assert loss_config(job_spec()).rollout_importance_sampling_mode == "token_truncate"


def test_the_rewarded_of_two_actions_becomes_the_usual_one(base: Path) -> None:
    learner = Learner(real_job(learning_rate=1e-2, minibatches=1, lr_scheduler_type="constant"), base)
    prompt, arms = [3, 4, 5], (7, 8)
    sampler = torch.Generator().manual_seed(0)
    for batch in range(60):
        with torch.no_grad():
            chance = torch.softmax(naive_logits(learner.model, prompt, [EOS])[0], -1)
        actions = torch.multinomial(chance, 32, replacement=True, generator=sampler).tolist()
        rewards = [1.0 if action == arms[0] else 0.0 for action in actions]
        mean = sum(rewards) / len(rewards)
        learner.train_batch(
            [
                row(prompt, [action], reward - mean, float(chance[action].log()))
                for action, reward in zip(actions, rewards, strict=True)
            ],
            batch,
        )
    assert chance[arms[0]] > 0.9
