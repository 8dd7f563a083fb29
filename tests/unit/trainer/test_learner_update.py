import math
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from torch.testing import assert_close

from services.contracts.job import JobSpec
from services.trainer.learner.errors import LearnerError, RowsError
from services.trainer.learner.learner import STEP_METRICS, Learner
from services.trainer.learner.logprobs import Scorer
from services.trainer.learner.policy import load_policy
from services.trainer.learner.rows import Row
from services.trainer.learner.token_rows import TokenRows
from services.trainer.learner.update import accumulate_gradient, columns_of, loss_config, minibatch_rows, token_mask


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return scratch_folder(tmp_path / "base")


def gradient(base: Path, spec: JobSpec, rows: list[Row], token_budget: int) -> tuple[dict[str, float], torch.Tensor]:
    model = load_policy(base)
    scorer = Scorer(model, temperature=1.0, token_budget=token_budget)
    columns = columns_of(rows, scorer, "value")
    shifted = replace(columns, old=columns.old + 0.15 * torch.sin(torch.arange(len(columns.old))))
    if spec.algorithm.beta > 0:
        shifted = replace(shifted, reference=columns.old - 0.3)
    metrics = accumulate_gradient(scorer, shifted, loss_config(spec), token_mask(spec))
    return metrics, torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


LOSSES = [{"loss_type": name} for name in ("grpo", "bnpo", "dr_grpo", "dapo", "sapo", "fipo")]


@pytest.mark.parametrize("loss", [*LOSSES, {"loss_type": "cispo", "epsilon_high": 5.0}], ids=str)
@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"beta": 0.1, "entropy_coef": 0.05, "kl_estimator": "k2"},
        {"overlong_filter": True, "top_entropy_quantile": 0.4, "off_policy_sequence_mask_delta": 0.01},
    ],
)
def test_gradients_of_many_micro_batches_are_that_of_one(
    base: Path, loss: dict[str, float], extra: dict[str, float]
) -> None:
    spec = job_spec(**loss, **extra)
    rows = random_rows(16, repeats=5)
    rows = [replace(one, finished=place % 4 != 1) for place, one in enumerate(rows)]
    whole, wanted = gradient(base, spec, rows, 100_000)
    for budget in (1, 64):
        parts, got = gradient(base, spec, rows, budget)
        assert_close(got, wanted, atol=1e-6, rtol=1e-4)
        assert parts == pytest.approx(whole, abs=1e-5)


def test_cut_responses_are_no_data_when_the_job_says_so(base: Path) -> None:
    rows = random_rows(12)
    marked = [replace(one, finished=place % 3 != 0) for place, one in enumerate(rows)]
    _, filtered = gradient(base, job_spec(overlong_filter=True), marked, 100_000)
    _, ignored = gradient(base, job_spec(), marked, 100_000)
    _, everything = gradient(base, job_spec(), rows, 100_000)
    assert torch.equal(ignored, everything)
    assert not torch.allclose(filtered, everything, rtol=1e-3)


def test_only_the_tokens_of_highest_entropy_carry_a_policy_gradient(base: Path) -> None:
    model = load_policy(base)
    scorer = Scorer(model, temperature=1.0, token_budget=100_000)
    columns = columns_of(random_rows(12), scorer, "value")
    mask = token_mask(job_spec(top_entropy_quantile=0.25))
    weight = mask.weight(columns, None)
    assert columns.entropy is not None
    assert weight is not None
    assert 0.2 < float(weight.mean()) < 0.35
    assert float(columns.entropy[weight == 1].min()) > float(columns.entropy[weight == 0].max())
    naive = [
        float(torch.distributions.Categorical(logits=line).entropy())
        for one in random_rows(12)
        for line in naive_logits(model, one.prompt_ids, one.response_ids).detach()
    ]
    assert_close(columns.entropy, torch.tensor(naive), atol=1e-5, rtol=1e-5)
    accumulate_gradient(scorer, columns, loss_config(job_spec()), mask)
    masked = torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])
    model.zero_grad()
    accumulate_gradient(scorer, columns, loss_config(job_spec()))
    assert not torch.allclose(masked, torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None]))


def test_the_first_gradient_is_the_policy_gradient_of_plain_forwards(base: Path) -> None:
    rows = random_rows(10, repeats=3)
    learner = Learner(job_spec(minibatches=1, max_grad_norm=1e9, rollout_importance_sampling_mode=None), base)
    model = load_policy(base)
    advantage = torch.tensor([one.advantage for one in rows for _ in one.response_ids])
    (-(advantage * naive_logprobs(model, rows)).mean()).backward()
    wanted = torch.linalg.vector_norm(torch.stack([w.grad.norm() for w in model.parameters()]))
    metrics = learner.train_batch(rows, 0)
    assert metrics["grad_norm"] == pytest.approx(float(wanted), rel=1e-4)
    assert metrics["policy_loss"] == pytest.approx(-float(advantage.mean()), abs=1e-5)  # every ratio is 1
    assert metrics["clip_fraction"] == 0.0
    assert metrics["policy_kl"] == pytest.approx(0.0, abs=1e-6)


ONE_STEP = {"minibatches": 1, "microbatch_tokens": 64}


@pytest.mark.parametrize(
    ("extra", "passes"),
    [
        ({}, 1),
        ({"beta": 0.05}, 2),  # the reference's is another model's
        ({"minibatches": 2}, 2),
        ({"num_iterations": 2}, 3),
        ({"top_entropy_quantile": 0.5}, 2),  # which tokens train is known after a pass over all
        ({"tuner_type": "lora", "lora_dropout": 0.1}, 2),  # the gradient's pass is another distribution
        ({"importance_sampling_level": "sequence"}, 1),
    ],
)
def test_old_log_probabilities_have_a_pass_of_their_own_only_where_they_differ_from_the_current_ones(
    base: Path, extra: dict[str, Any], passes: int
) -> None:
    learner = Learner(job_spec(**{**ONE_STEP, **extra}), base)
    seen: list[int] = []
    for model in (learner.model, *([learner._reference.model] if learner._reference else [])):
        model.get_input_embeddings().register_forward_hook(lambda _, given, __: seen.append(given[0].numel()))
    once = sum(micro.forward_tokens for micro in TokenRows([one.turn for one in random_rows(8)]).plan(64))
    learner.train_batch(random_rows(8), 0)
    assert sum(seen) == pytest.approx(passes * once, rel=0.3)  # minibatches are padded otherwise


def test_a_batch_of_one_step_reports_what_a_pass_before_it_finds(base: Path) -> None:
    rows = [*random_rows(8, repeats=2), *(replace(one, advantage=0.0) for one in random_rows(3, seed=1))]
    learner = Learner(job_spec(**ONE_STEP), base)
    before = learner.mismatch(rows)
    metrics = learner.train_batch(rows, 0)
    assert {name: metrics[name] for name in before} == pytest.approx(before, rel=1e-5)
    assert metrics["policy_kl"] == 0.0


def test_rollout_weights_scale_the_policy_gradient(base: Path) -> None:
    rows = random_rows(6)
    with torch.no_grad():
        own = naive_logprobs(load_policy(base), rows).tolist()
    halved = []
    for one in rows:  # the engine says every token was twice as likely: each weighs 1/2
        taken, own = own[: len(one.response_ids)], own[len(one.response_ids) :]
        halved.append(replace(one, rollout_logprobs=tuple(value + math.log(2) for value in taken)))
    norms = {}
    for mode in ("token_truncate", None):
        spec = job_spec(minibatches=1, rollout_importance_sampling_mode=mode)
        metrics = Learner(spec, base).train_batch(halved, 0)
        norms[mode] = metrics["grad_norm"]
        assert metrics["importance_weight_mean"] == pytest.approx(0.5, rel=1e-4)
        assert metrics["mismatch_kl"] == pytest.approx(math.log(2) - 0.5, rel=1e-3)  # exp(d) - 1 - d at d = -log 2
        assert metrics["mismatch_max"] == pytest.approx(math.log(2), rel=1e-4)
    assert norms["token_truncate"] == pytest.approx(0.5 * norms[None], rel=1e-4)


def test_an_engine_that_agrees_has_no_mismatch_and_nothing_is_trained(base: Path) -> None:
    learner = Learner(job_spec(temperature=0.8), base)
    rows = random_rows(6)
    with torch.no_grad():
        own = naive_logprobs(learner.model, rows, 0.8).tolist()
    agreed = []
    for one in rows:
        taken, own = own[: len(one.response_ids)], own[len(one.response_ids) :]
        agreed.append(replace(one, rollout_logprobs=tuple(taken)))
    before = weights_of(learner.model)
    metrics = learner.mismatch(agreed)
    assert metrics["mismatch_max"] < 1e-5
    assert metrics["importance_weight_mean"] == pytest.approx(1.0, abs=1e-5)
    assert same_bits(weights_of(learner.model), before)


@pytest.mark.parametrize("extra", [{}, {"beta": 0.5, "entropy_coef": 0.1}])
def test_rows_without_an_advantage_leave_the_weights_as_they_are(base: Path, extra: dict[str, float]) -> None:
    learner = Learner(job_spec(**extra), base)
    before = weights_of(learner.model)
    metrics = learner.train_batch([replace(one, advantage=0.0) for one in random_rows(8)], 0)
    assert same_bits(weights_of(learner.model), before)
    assert (metrics["optimizer_steps"], metrics["trained_rows"], metrics["trained_tokens"]) == (0, 0, 0)
    assert not {*STEP_METRICS} & metrics.keys()  # nothing was measured
    assert metrics["mismatch_max"] > 0


def test_rows_without_an_advantage_do_not_change_what_the_others_teach(base: Path) -> None:
    rows, idle = random_rows(8), [replace(one, advantage=0.0) for one in random_rows(8, seed=1)]
    left, right = (Learner(job_spec(entropy_coef=0.01), base) for _ in range(2))
    left.train_batch(rows, 0)
    metrics = right.train_batch([*rows, *idle], 0)
    for name, weight in weights_of(left.model).items():
        assert_close(weights_of(right.model)[name], weight, atol=1e-5, rtol=0)
    assert metrics["trained_rows"] == 8


def test_every_sampled_token_of_a_kept_row_is_trained_and_no_other(base: Path) -> None:
    rows = random_rows(8)
    metrics = Learner(job_spec(), base).train_batch(rows, 0)
    tokens = sum(len(one.response_ids) for one in rows)
    assert metrics["trained_tokens"] == tokens


def test_optimizer_steps_are_minibatches_times_iterations(base: Path) -> None:
    learner = Learner(job_spec(minibatches=3, num_iterations=2), base)
    assert learner.train_batch(random_rows(9), 0)["optimizer_steps"] == 6
    assert learner.train_batch(random_rows(2), 1)["optimizer_steps"] == 10  # two rows make two minibatches
    assert learner.optimizer_steps == 10


def test_minibatches_hold_every_row_once_and_differ_by_one_row_at_most() -> None:
    parts = minibatch_rows(10, 4, torch.Generator().manual_seed(0))
    assert sorted(torch.cat(parts).tolist()) == list(range(10))
    assert sorted(map(len, parts)) == [2, 2, 3, 3]
    again = minibatch_rows(10, 4, torch.Generator().manual_seed(0))
    assert all(torch.equal(left, right) for left, right in zip(parts, again, strict=True))
    assert minibatch_rows(0, 4, torch.Generator()) == []


def test_rows_are_dealt_to_minibatches_at_random_and_anew_each_time() -> None:
    generator = torch.Generator().manual_seed(0)
    orders = [torch.cat(minibatch_rows(100, 4, generator)).tolist() for _ in range(3)]
    assert list(range(100)) not in orders
    assert len({tuple(order) for order in orders}) == 3


def test_the_learning_rate_follows_the_batch(base: Path) -> None:
    learner = Learner(job_spec(learning_rate=0.01, total_batches=3, lr_end_ratio=0.5), base)
    rates = [learner.train_batch(random_rows(4), batch)["learning_rate"] for batch in range(3)]
    assert rates == pytest.approx([0.01, 0.01 * 5 / 6, 0.01 * 2 / 3])


def test_the_reference_is_where_training_began_and_pulls_back(base: Path) -> None:
    rows = random_rows(12)
    moved = {}
    for beta in (0.01, 10.0):
        learner = Learner(job_spec(beta=beta, learning_rate=3e-3, minibatches=1), base)
        kl = [learner.train_batch(rows, batch)["kl"] for batch in range(8)]
        assert kl[0] == pytest.approx(0.0, abs=1e-6)
        moved[beta] = kl[-1]
    assert moved[10.0] < 0.5 * moved[0.01]


def test_the_divergence_of_a_row_is_the_sum_over_its_tokens_of_plain_forwards(base: Path) -> None:
    learner = Learner(job_spec(beta=0.1, kl_in_reward=True, learning_rate=1e-2, microbatch_tokens=64), base)
    rows = random_rows(9, repeats=4)
    assert learner.divergence(rows) == [0.0] * 13  # the policy is the reference still
    for batch in range(3):
        learner.train_batch(random_rows(8, seed=batch), batch)
    before = weights_of(learner.model)
    with torch.no_grad():
        moved = naive_logprobs(learner.model, rows) - naive_logprobs(load_policy(base), rows)
    wanted = [float(part.sum()) for part in moved.split([len(one.response_ids) for one in rows])]
    assert learner.divergence(rows) == pytest.approx(wanted, abs=1e-4)
    assert max(map(abs, wanted)) > 0.01
    assert same_bits(weights_of(learner.model), before)


def test_a_kl_that_is_in_the_reward_is_not_in_the_loss(base: Path) -> None:
    rows = random_rows(8)
    weights = []
    for leaves in ({"beta": 0.5, "kl_in_reward": True}, {"beta": 0.0}, {"beta": 0.5}):
        learner = Learner(job_spec(**leaves), base)
        for batch in range(2):
            learner.train_batch(rows, batch)
        weights.append(weights_of(learner.model))
    assert same_bits(weights[0], weights[1])
    assert not same_bits(weights[0], weights[2])


def test_a_job_without_a_reference_has_no_divergence(base: Path) -> None:
    with pytest.raises(LearnerError, match="beta: want more than 0 for a reference policy, got 0"):
        Learner(job_spec(), base).divergence(random_rows(2))


def test_weight_decay_spares_biases_and_norms(base: Path) -> None:
    learner = Learner(job_spec(weight_decay=1.0, learning_rate=1e-2, lr_scheduler_type="constant"), base)
    before = weights_of(learner.model)
    learner.train_batch([row([3, 4], [5, EOS], 1e-12)], 0)
    after = weights_of(learner.model)
    gate, norm = "model.layers.0.mlp.gate_proj.weight", "model.norm.weight"
    assert after[gate].norm() < 0.995 * before[gate].norm()
    assert after[norm].norm() == pytest.approx(float(before[norm].norm()), rel=0.01)


def test_a_loss_that_is_no_number_stops_before_the_weights_are_touched(base: Path) -> None:
    learner = Learner(job_spec(), base)
    before = weights_of(learner.model)
    with pytest.raises(LearnerError, match="want a finite number"):
        learner.train_batch([row([3, 4], [5, EOS], math.inf)], 0)
    assert same_bits(weights_of(learner.model), before)
    assert learner.optimizer_steps == 0


def test_an_empty_batch_is_refused(base: Path) -> None:
    with pytest.raises(RowsError, match="got none"):
        Learner(job_spec(), base).train_batch([], 0)


def test_the_rewarded_of_two_actions_becomes_the_usual_one(base: Path) -> None:
    learner = Learner(job_spec(learning_rate=1e-2, minibatches=1, lr_scheduler_type="constant"), base)
    prompt, arms = [3, 4, 5], (7, 8)
    sampler = torch.Generator().manual_seed(0)

    def chances() -> torch.Tensor:
        with torch.no_grad():
            return torch.softmax(naive_logits(learner.model, prompt, [EOS])[0], -1)

    assert chances()[list(arms)].sum() < 0.3
    for batch in range(30):
        chance = chances()
        actions = torch.multinomial(chance, 32, replacement=True, generator=sampler).tolist()
        rewards = [1.0 if action == arms[0] else 0.0 for action in actions]
        mean = sum(rewards) / len(rewards)
        rows = [
            row(prompt, [action], reward - mean, float(chance[action].log()))
            for action, reward in zip(actions, rewards, strict=True)
        ]
        learner.train_batch(rows, batch)
    assert chances()[arms[0]] > 0.9


def test_recomputed_activations_give_the_same_gradient(base: Path) -> None:
    rows = random_rows(8)
    plain, checkpointed = (Learner(job_spec(gradient_checkpointing=flag), base) for flag in (False, True))
    assert checkpointed.train_batch(rows, 0) == pytest.approx(plain.train_batch(rows, 0), rel=1e-5)
    assert same_bits(weights_of(plain.model), weights_of(checkpointed.model))


def test_bfloat16_jobs_keep_float32_weights_in_training(base: Path) -> None:
    learner = Learner(job_spec(torch_dtype="bfloat16"), base)
    rows = random_rows(8)
    metrics = learner.train_batch(rows, 0)
    assert {weight.dtype for weight in learner.model.parameters()} == {torch.float32}
    assert metrics["loss"] == pytest.approx(Learner(job_spec(), base).train_batch(rows, 0)["loss"], abs=0.02)
