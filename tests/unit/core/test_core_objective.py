import math

import pytest
import torch
from core_samples import episodes_of, made_tokens, part_of, whole
from torch.utils._python_dispatch import TorchDispatchMode

from gigpo_core import (
    AdvantageConfig,
    BatchTotals,
    ConfigError,
    DtypeError,
    LossConfig,
    ShapeError,
    TokenBatch,
    compute_advantages,
    policy_objective,
    rollout_weights,
)

REDUCTIONS = ["grpo", "bnpo", "dr_grpo", "dapo"]


@pytest.mark.parametrize("level", ["token", "sequence", "sequence_token"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_micro_batches_add_up_to_the_gradient_and_metrics_of_one_batch(reduction, level):
    counted = torch.tensor([True] * 3 + [False] + [True, False, True, True, True] + [True] * 6)
    tokens = made_tokens(counted=counted)
    config = LossConfig(
        loss_type=reduction,
        beta=0.1,
        entropy_coef=0.01,
        importance_sampling_level=level,
        rollout_importance_sampling_mode="sequence_mask",
    )
    one = policy_objective(tokens, config, whole(tokens))
    gradient = torch.autograd.grad(one.loss, tokens.log_prob)[0]
    parts = [part_of(tokens, rows) for rows in ([0, 3], [1], [2, 4])]
    totals = sum((whole(part) for part in parts), BatchTotals(0, 0))
    assert totals == whole(tokens) == BatchTotals(4, 13)
    shares = [policy_objective(part, config, totals) for part in parts]
    added = torch.autograd.grad(sum(share.loss for share in shares), tokens.log_prob)[0]
    torch.testing.assert_close(added, gradient, rtol=1e-12, atol=1e-14)
    for name, value in one.metrics.items():
        assert sum(share.metrics[name] for share in shares) == pytest.approx(value, rel=1e-12)


def test_two_tokens_by_hand():
    # rho = 1.5 with A = 1 is clipped to 1.2; rho = 0.5 with A = -1 is clipped to 0.8: loss (-1.2 + 0.8) / 2.
    tokens = TokenBatch(
        log_prob=torch.tensor([1.5, 0.5]).log().requires_grad_(),
        old_log_prob=torch.zeros(2),
        token_row=torch.tensor([0, 1]),
        advantage=torch.tensor([1.0, -1.0]),
    )
    result = policy_objective(tokens, LossConfig(beta=0.0), BatchTotals(2, 2))
    assert result.loss.item() == pytest.approx(-0.2)
    assert torch.equal(torch.autograd.grad(result.loss, tokens.log_prob)[0], torch.zeros(2))
    assert result.metrics["clip_high"] == result.metrics["clip_low"] == 0.5
    assert result.metrics["ratio"] == pytest.approx(1.0)


def one_row(*ratios, advantage):
    log_prob = torch.tensor(ratios, dtype=torch.float64).log()
    return TokenBatch(log_prob, torch.zeros_like(log_prob), torch.zeros(len(ratios), dtype=torch.int64), advantage)


def test_policy_kl_is_from_the_old_policy_to_the_new_one():
    # KL(old || new) at tokens of the old policy: k3 is rho - 1 - log rho, so 1/2 - 1 + log 2 and 4 - 1 - log 4.
    metrics = policy_objective(one_row(0.5, 4.0, advantage=torch.ones(1)), LossConfig(), BatchTotals(1, 2)).metrics
    assert metrics["policy_kl"] == pytest.approx((2.5 - math.log(2)) / 2)


def test_cispo_reports_the_share_of_capped_weights_whatever_the_advantage():
    config = LossConfig(loss_type="cispo", epsilon_high=5.0)
    for advantage in (1.0, -1.0):
        tokens = one_row(6.0, 4.0, 0.1, 1.0, advantage=torch.tensor([advantage]))
        metrics = policy_objective(tokens, config, BatchTotals(1, 4)).metrics
        assert metrics["clip_high"] == 0.25
        assert "clip_low" not in metrics


def test_delta_caps_the_loss_of_a_negative_advantage():
    def loss(delta):
        tokens = TokenBatch(
            torch.tensor([5.0]).log(), torch.zeros(1), torch.zeros(1, dtype=torch.int64), torch.tensor([-2.0])
        )
        return float(policy_objective(tokens, LossConfig(beta=0.0, delta=delta), BatchTotals(1, 1)).loss)

    assert loss(None) == pytest.approx(10.0)
    assert loss(3.0) == pytest.approx(6.0)


def test_on_policy_gradient_is_that_of_reinforce():
    tokens = made_tokens()
    fresh = TokenBatch(tokens.log_prob, tokens.log_prob.detach(), tokens.token_row, tokens.advantage)
    loss = policy_objective(fresh, LossConfig(loss_type="dapo", beta=0.0), whole(fresh)).loss
    gradient = torch.autograd.grad(loss, tokens.log_prob)[0]
    torch.testing.assert_close(gradient, -tokens.advantage[tokens.token_row] / len(tokens.token_row))


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_gradients_of_the_objective_pass_gradcheck(level, estimator):
    tokens = made_tokens(seed=3)
    config = LossConfig(importance_sampling_level=level, kl_estimator=estimator, beta=0.3, epsilon=0.9, delta=5.0)

    def loss(log_prob):
        changed = TokenBatch(
            log_prob,
            tokens.old_log_prob,
            tokens.token_row,
            tokens.advantage,
            reference_log_prob=tokens.reference_log_prob,
        )
        return policy_objective(changed, config, whole(tokens)).loss

    assert torch.autograd.gradcheck(loss, (tokens.log_prob,))


def test_nothing_counted_gives_a_loss_of_zero():
    tokens = made_tokens(counted=torch.zeros(15, dtype=torch.bool))
    for reduction in REDUCTIONS:
        result = policy_objective(tokens, LossConfig(loss_type=reduction), whole(tokens))
        assert result.loss.item() == 0.0
        assert not any(result.metrics.values())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"loss_type": "ppo"}, "loss_type: want one of grpo"),
        ({"epsilon": -0.1}, "epsilon: want a finite number >= 0, got -0.1"),
        ({"delta": 1.1}, "delta: want more than 1 \\+ epsilon_high = 1.2, got 1.1"),
        ({"max_completion_length": 0}, "max_completion_length"),
        ({"rollout_importance_sampling_mode": "token"}, "rollout_importance_sampling_mode"),
    ],
)
def test_a_loss_config_out_of_range_is_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        LossConfig(**settings)


def test_missing_columns_are_refused_with_a_sentence():
    bare = TokenBatch(torch.zeros(2), torch.zeros(2), torch.tensor([0, 1]), torch.zeros(2))
    with pytest.raises(ConfigError, match=r"TokenBatch\.rollout_log_prob"):
        policy_objective(bare, LossConfig(rollout_importance_sampling_mode="token_mask"), BatchTotals(2, 2))
    with pytest.raises(ConfigError, match=r"TokenBatch\.entropy"):
        policy_objective(bare, LossConfig(entropy_coef=0.1), BatchTotals(2, 2))


@pytest.mark.parametrize(
    ("columns", "error"),
    [
        ({"log_prob": torch.zeros(2, 1)}, ShapeError),
        ({"old_log_prob": torch.zeros(3)}, ShapeError),
        ({"token_row": torch.tensor([1, 0])}, ShapeError),
        ({"token_row": torch.tensor([0, 2])}, ShapeError),
        ({"token_row": torch.tensor([-1, 0])}, ShapeError),
        ({"token_row": torch.tensor([0.0, 1.0])}, DtypeError),
        ({"counted": torch.tensor([1.0, 1.0])}, DtypeError),
    ],
)
def test_malformed_tokens_are_refused(columns, error):
    good = {
        "log_prob": torch.zeros(2),
        "old_log_prob": torch.zeros(2),
        "token_row": torch.tensor([0, 1]),
        "advantage": torch.zeros(2),
    }
    with pytest.raises(error):
        policy_objective(TokenBatch(**(good | columns)), LossConfig(), BatchTotals(2, 2))


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo", "cispo", "sapo", "fipo"])
def test_the_policy_loss_is_the_loss_without_kl_and_entropy(loss_type):
    tokens = made_tokens()
    settings = {"loss_type": loss_type, "epsilon_high": 5.0 if loss_type == "cispo" else None}
    whole_loss = policy_objective(tokens, LossConfig(**settings, beta=0.3, entropy_coef=0.1), whole(tokens))
    alone = policy_objective(tokens, LossConfig(**settings, beta=0.0), whole(tokens))
    assert torch.equal(whole_loss.policy_loss, alone.loss.detach())
    assert not torch.equal(whole_loss.loss.detach(), alone.loss.detach())
    assert not whole_loss.policy_loss.requires_grad


@pytest.mark.parametrize("advantage", [1.0, 0.0, -1.0])
@pytest.mark.parametrize("loss_type", ["grpo", "cispo", "sapo", "fipo"])
def test_a_token_far_more_likely_than_before_gives_finite_numbers(loss_type, advantage):
    log_prob = torch.tensor([-0.5, -1.0]).requires_grad_()
    tokens = TokenBatch(log_prob, torch.tensor([-200.0, -1.0]), torch.tensor([0, 0]), torch.tensor([advantage]))
    config = LossConfig(loss_type=loss_type, epsilon_high=5.0 if loss_type == "cispo" else None, beta=0.0)
    result = policy_objective(tokens, config, BatchTotals(1, 2))
    assert math.isfinite(result.loss.item())
    assert bool(torch.autograd.grad(result.loss, log_prob)[0].isfinite().all())
    assert all(map(math.isfinite, result.metrics.values()))


@pytest.mark.parametrize("mode", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"])
def test_a_correction_of_a_token_that_the_engine_thought_impossible_is_finite(mode):
    old, rollout = torch.tensor([-0.5, -1.0]), torch.tensor([-400.0, -1.0])
    weight = rollout_weights(old, rollout, torch.tensor([0, 0]), torch.ones(2), rows=1, mode=mode, threshold=2.0)
    far = 2.0 if mode.endswith("truncate") else 0.0
    assert weight.tolist() == [far, 1.0 if mode.startswith("token") else far]


class Waits(TorchDispatchMode):
    """Counts the calls for which the host would have to wait for a device."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "equal", "nonzero", "bincount", "_unique2", "masked_select", "is_nonzero"):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def test_a_loss_makes_the_host_wait_for_nothing_but_the_check_that_a_device_goes_without():
    config = LossConfig(rollout_importance_sampling_mode="sequence_mask", off_policy_sequence_mask_delta=0.1, delta=3.0)
    tokens = made_tokens()
    with Waits() as waits:
        tokens.check()
    checking = len(waits.names)
    with Waits() as waits:
        policy_objective(tokens, config, BatchTotals(5, 15)).loss.backward()
    assert len(waits.names) == checking


@pytest.mark.parametrize(("estimator", "most"), [("grpo", 8), ("gigpo", 8)])
def test_advantages_make_the_host_wait_a_few_times_whatever_their_number(estimator, most):
    for count in (1, 30):
        batch = episodes_of(*[[("a", 1.0), ("b", 0.5), ("a", 0.0)]] * count)
        with Waits() as waits:
            compute_advantages(batch, AdvantageConfig(estimator, norm="mean_std"))
        assert len(waits.names) <= most, waits.names
