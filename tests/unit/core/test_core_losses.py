import math

import pytest
import torch
from core_samples import made_tokens, part_of, whole

from gigpo_core import BatchTotals, ConfigError, LossConfig, ShapeError, TokenBatch, policy_objective
from gigpo_core.corrections import MISMATCH_METRICS, mismatch_metrics, off_policy_sequence_mask, rollout_weights
from gigpo_core.kl import kl_estimate
from gigpo_core.losses import fipo_weight
from gigpo_core.masks import entropy_threshold, high_entropy_mask, overlong_filter

ONE_ROW = torch.zeros(2, dtype=torch.int64)
TWO_ONES = torch.ones(2, dtype=torch.float64)


def floats(*values):
    return torch.tensor(values, dtype=torch.float64)


def one_token(ratio, advantage, **settings):
    """The loss of one token sampled with log pi_old = -1, and its gradient by log pi."""
    log_prob = floats(math.log(ratio) - 1.0).requires_grad_()
    tokens = TokenBatch(log_prob, floats(-1.0), torch.tensor([0]), floats(advantage))
    loss = policy_objective(tokens, LossConfig(beta=0.0, **settings), BatchTotals(1, 1)).loss
    return loss.item(), torch.autograd.grad(loss, log_prob)[0].item()


@pytest.mark.parametrize(("ratio", "weight"), [(0.1, 0.1), (1.0, 1.0), (4.0, 4.0), (9.0, 5.0)])
@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_cispo_caps_the_weight_and_keeps_the_gradient(ratio, weight, advantage):
    loss, gradient = one_token(ratio, advantage, loss_type="cispo", epsilon_high=5.0)
    assert loss == pytest.approx(-weight * advantage * (math.log(ratio) - 1.0))
    assert gradient == pytest.approx(-weight * advantage)


@pytest.mark.parametrize(("advantage", "tau"), [(2.0, 1.5), (0.5, 1.5), (-0.5, 3.0), (-2.0, 3.0)])
@pytest.mark.parametrize("ratio", [0.25, 1.0, 3.0])
def test_sapo_is_a_soft_gate_with_slope_one_on_policy(advantage, tau, ratio):
    loss, gradient = one_token(ratio, advantage, loss_type="sapo", tau_pos=1.5, tau_neg=3.0)
    gate = 1 / (1 + math.exp(-tau * (ratio - 1)))
    assert loss == pytest.approx(-4 / tau * gate * advantage)
    assert gradient == pytest.approx(-4 * gate * (1 - gate) * ratio * advantage)
    if ratio == 1.0:
        assert gradient == pytest.approx(-advantage)


def test_fipo_weight_is_the_discounted_future_of_the_log_ratio():
    moved = floats(math.log(2.0), math.log(0.5))
    wide = {"decay_rate": 1.0, "clip_range": None, "high_only": False, "safety_threshold": None, "delta": None}
    weight = fipo_weight(moved, TWO_ONES, ONE_ROW, TWO_ONES, **wide)
    torch.testing.assert_close(weight, floats(2**0.5, 0.5))
    apart = fipo_weight(moved, TWO_ONES, torch.tensor([0, 1]), TWO_ONES, **wide)
    torch.testing.assert_close(apart, floats(2.0, 0.5))
    unseen = fipo_weight(moved, TWO_ONES, ONE_ROW, floats(1.0, 0.0), **wide)
    torch.testing.assert_close(unseen, floats(2.0, 1.0))
    filtered = fipo_weight(moved, TWO_ONES, ONE_ROW, TWO_ONES, **(wide | {"delta": 1.5}))
    torch.testing.assert_close(filtered, floats(0.5**0.5, 0.5))
    assert fipo_weight(moved[:0], moved[:0], ONE_ROW[:0], moved[:0], **wide).shape == (0,)


def test_fipo_weight_is_clipped_and_kept_safe():
    moved = floats(math.log(6.0), math.log(0.5))
    settings = {"decay_rate": 0.01, "clip_range": 0.2, "high_only": True, "safety_threshold": 4.0, "delta": None}
    negative = -TWO_ONES
    torch.testing.assert_close(fipo_weight(moved, TWO_ONES, ONE_ROW, TWO_ONES, **settings), floats(1.2, 1.0))
    torch.testing.assert_close(fipo_weight(moved, negative, ONE_ROW, TWO_ONES, **settings), floats(1.0, 1.0))
    both = settings | {"high_only": False}
    torch.testing.assert_close(fipo_weight(moved, TWO_ONES, ONE_ROW, TWO_ONES, **both), floats(1.2, 0.8))


def test_fipo_on_policy_is_dapo():
    tokens = made_tokens()
    fresh = TokenBatch(tokens.log_prob, tokens.log_prob.detach(), tokens.token_row, tokens.advantage)
    results = [
        torch.autograd.grad(policy_objective(fresh, LossConfig(loss_type=name), whole(fresh)).loss, tokens.log_prob)[0]
        for name in ("fipo", "dapo")
    ]
    assert torch.equal(*results)


def real_by_loops(tokens, tau):
    score = {row: [] for row in range(tokens.rows)}
    for t, row in enumerate(tokens.token_row.tolist()):
        score[row].append((tokens.log_prob[t] - tokens.old_log_prob[t]).item())
    total, groups = 0.0, set(tokens.row_group.tolist())
    for group in groups:
        rows = [row for row in range(tokens.rows) if tokens.row_group[row] == group]
        good = [sum(score[r]) / len(score[r]) for r in rows if tokens.advantage[r] > 0]
        bad = [sum(score[r]) / len(score[r]) for r in rows if tokens.advantage[r] <= 0]
        if good and bad:
            total += math.log(1 + sum(math.exp(-s / tau) for s in good))
            total += math.log(1 + sum(math.exp(s / tau) for s in bad))
    return total / len(groups)


def made_groups(seed=0):
    tokens = made_tokens(seed=seed, row_group=torch.tensor([7, 2, 7, 2, 5]))
    return TokenBatch(**(vars(tokens) | {"advantage": floats(1.0, 0.0, -1.0, 2.0, 1.0), "reference_log_prob": None}))


def test_real_equals_a_straightforward_loop_and_groups_of_one_kind_give_nothing():
    tokens = made_groups()
    totals = whole(tokens)
    assert totals == BatchTotals(5, 15, 3)
    loss = policy_objective(tokens, LossConfig(loss_type="real", real_tau=0.4), totals).loss
    assert loss.item() == pytest.approx(real_by_loops(tokens, 0.4), rel=1e-12)
    alone = torch.autograd.grad(loss, tokens.log_prob)[0][tokens.token_row == 4]
    assert torch.equal(alone, torch.zeros(4, dtype=torch.float64))


def test_real_gradient_weight_is_that_of_the_paper():
    # One positive and one negative of one token each: |W| = 1/tau * 1/(1 + exp(s/tau)), and with -s.
    log_prob = floats(0.3, 0.6).requires_grad_()
    row_group = torch.tensor([0, 0])
    tokens = TokenBatch(log_prob, floats(0.0, 0.0), torch.tensor([0, 1]), floats(1.0, -1.0), row_group=row_group)
    loss = policy_objective(tokens, LossConfig(loss_type="real", real_tau=0.5), BatchTotals(2, 2, 1)).loss
    weights = torch.autograd.grad(loss, log_prob)[0].tolist()
    assert weights == pytest.approx([-2 / (1 + math.exp(0.6)), 2 / (1 + math.exp(-1.2))])


def test_real_does_not_overflow():
    tokens = made_groups()
    far = TokenBatch(**(vars(tokens) | {"log_prob": (tokens.log_prob.detach() * 1e5).requires_grad_()}))
    loss = policy_objective(far, LossConfig(loss_type="real"), BatchTotals(5, 15, 3)).loss
    assert math.isfinite(loss.item())
    assert bool(torch.autograd.grad(loss, far.log_prob)[0].isfinite().all())


@pytest.mark.parametrize("loss_type", ["cispo", "sapo", "fipo", "real"])
def test_micro_batches_of_every_loss_add_up_to_one_batch(loss_type):
    tokens = made_groups()
    config = LossConfig(loss_type=loss_type, epsilon_high=3.0 if loss_type == "cispo" else None)
    totals = whole(tokens)
    one = policy_objective(tokens, config, totals)
    parts = [part_of(tokens, rows) for rows in ([0, 2], [1, 3], [4])]
    added = sum(policy_objective(part, config, totals).loss for part in parts)
    assert added.item() == pytest.approx(one.loss.item(), rel=1e-12)
    gradients = [torch.autograd.grad(loss, tokens.log_prob)[0] for loss in (added, one.loss)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("loss_type", ["sapo", "real"])
def test_smooth_losses_pass_gradcheck(loss_type):
    tokens = made_groups(seed=4)
    totals = BatchTotals(5, 15, 3)

    def loss(log_prob):
        changed = TokenBatch(**(vars(tokens) | {"log_prob": log_prob}))
        return policy_objective(changed, LossConfig(loss_type=loss_type), totals).loss

    assert torch.autograd.gradcheck(loss, (tokens.log_prob,))


def test_sequence_level_is_the_geometric_mean_and_sequence_token_has_its_value():
    # Ratios 2 and 1/8 over one row: geometric mean 1/2; the gradient of each token is half of it.
    log_prob = floats(math.log(2.0), math.log(0.125)).requires_grad_()

    def result(level):
        tokens = TokenBatch(log_prob, floats(0.0, 0.0), ONE_ROW, floats(1.0))
        config = LossConfig(epsilon=9.0, beta=0.0, importance_sampling_level=level)
        loss = policy_objective(tokens, config, BatchTotals(1, 2)).loss
        return loss.item(), torch.autograd.grad(loss, log_prob)[0].tolist()

    assert result("token") == (pytest.approx(-1.0625), pytest.approx([-1.0, -0.0625]))
    assert result("sequence") == (pytest.approx(-0.5), pytest.approx([-0.25, -0.25]))
    assert result("sequence_token") == (pytest.approx(-0.5), pytest.approx([-0.25, -0.25]))


def test_kl_estimates_by_hand():
    log_prob, reference = floats(math.log(0.5)), floats(math.log(0.25))
    assert kl_estimate(log_prob, reference, "k1").item() == pytest.approx(math.log(2))
    assert kl_estimate(log_prob, reference, "k2").item() == pytest.approx(math.log(2) ** 2 / 2)
    assert kl_estimate(log_prob, reference).item() == pytest.approx(0.5 - 1 + math.log(2))


def test_k1_and_k3_are_unbiased_and_k3_has_the_gradient_of_the_kl():
    logits = floats(0.3, -0.2, 0.9).requires_grad_()
    reference = torch.log_softmax(floats(0.0, 0.5, -0.5), 0)
    log_prob = torch.log_softmax(logits, 0)
    exact = (log_prob.exp() * (log_prob - reference)).sum()
    for estimator in ("k1", "k3"):
        mean = (log_prob.exp() * kl_estimate(log_prob, reference, estimator)).sum()
        assert mean.item() == pytest.approx(exact.item(), rel=1e-12)
    fixed = (log_prob.exp().detach() * kl_estimate(log_prob, reference, "k2")).sum()
    torch.testing.assert_close(
        torch.autograd.grad(fixed, logits, retain_graph=True)[0], torch.autograd.grad(exact, logits)[0]
    )


@pytest.mark.parametrize(
    ("mode", "weights"),
    [
        ("token_truncate", (2.0, 0.5)),
        ("token_mask", (0.0, 0.5)),
        ("sequence_truncate", (2**0.5, 2**0.5)),
        ("sequence_mask", (2**0.5, 2**0.5)),
    ],
)
def test_rollout_weights_by_hand(mode, weights):
    old, rollout = floats(math.log(4.0), math.log(0.5)), floats(0.0, 0.0)
    got = rollout_weights(old, rollout, ONE_ROW, TWO_ONES, rows=1, mode=mode, threshold=2.0)
    torch.testing.assert_close(got, floats(*weights))


@pytest.mark.parametrize(("mode", "weight"), [("sequence_truncate", 2.0), ("sequence_mask", 0.0)])
def test_rollout_weights_bound_whole_rows(mode, weight):
    old = floats(math.log(4.0), math.log(4.0))
    got = rollout_weights(old, floats(0.0, 0.0), ONE_ROW, TWO_ONES, rows=1, mode=mode, threshold=2.0)
    torch.testing.assert_close(got, floats(weight, weight))


@pytest.mark.parametrize("mode", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"])
def test_rollout_weights_are_exactly_one_without_mismatch(mode):
    same = floats(-1.7, -0.3)
    for threshold in (1.0, 2.0):
        got = rollout_weights(same, same, ONE_ROW, TWO_ONES, rows=1, mode=mode, threshold=threshold)
        assert torch.equal(got, TWO_ONES)


def test_off_policy_mask_silences_only_negative_rows_that_moved_away():
    token_row = torch.tensor([0, 0, 1, 1, 2])
    log_prob, behaviour = floats(-3.0, -1.0, -3.0, -1.0, -1.0), floats(-1.0, -1.0, -1.0, -1.0, -0.9)
    mask = off_policy_sequence_mask(
        log_prob, behaviour, token_row, torch.ones(5, dtype=torch.float64), floats(-1.0, 1.0, -1.0), delta=0.5
    )
    assert mask.tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]
    edge = off_policy_sequence_mask(log_prob[:2], behaviour[:2], ONE_ROW, TWO_ONES, floats(-1.0), delta=1.0)
    assert edge.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("with_rollout", [True, False])
def test_off_policy_mask_in_the_objective_leaves_the_denominator(with_rollout):
    tokens = TokenBatch(
        floats(-3.0, -1.0).requires_grad_(),
        floats(-1.0, -1.0),
        torch.tensor([0, 1]),
        floats(-1.0, -1.0),
        rollout_log_prob=floats(-1.0, -1.0) if with_rollout else None,
    )
    result = policy_objective(tokens, LossConfig(beta=0.0, off_policy_sequence_mask_delta=0.5), BatchTotals(2, 2))
    assert result.loss.item() == pytest.approx(0.5)
    assert result.metrics["policy_weight"] == 0.5


def test_mismatch_metrics_by_hand():
    # Engine probabilities 1/2 and 1/4 where the trainer has 1/4 and 1/2: weights 1/2 and 2.
    old, rollout = floats(math.log(0.25), math.log(0.5)), floats(math.log(0.5), math.log(0.25))
    got = mismatch_metrics(old, rollout, torch.tensor([0, 1]), TWO_ONES, rows=2, threshold=1.5)
    assert tuple(got) == MISMATCH_METRICS
    assert got["kl"] == pytest.approx(0.0)
    assert got["k3_kl"] == pytest.approx(0.25)
    assert got["chi2_token"] == got["chi2_sequence"] == pytest.approx(2.125 - 1)
    assert got["ess"] == pytest.approx(2.5**2 / (2 * 4.25))
    assert got["weight_mean"] == pytest.approx(1.25)
    assert got["clipped_fraction"] == 0.5
    assert got["difference_max"] == pytest.approx(math.log(2))
    assert got["old_log_ppl"] == got["rollout_log_ppl"] == pytest.approx(1.5 * math.log(2))
    assert got["log_ppl_difference"] == pytest.approx(0.0)


def test_mismatch_kl_is_positive_where_the_trainer_gives_sampled_tokens_less():
    got = mismatch_metrics(floats(-2.0, -2.0), floats(-1.5, -1.0), ONE_ROW, floats(1.0, 0.0), rows=1)
    assert got["kl"] == got["log_ppl_difference"] == pytest.approx(0.5)
    nothing = mismatch_metrics(floats(-2.0), floats(-1.0), torch.tensor([0]), floats(0.0), rows=1)
    assert nothing == {name: float(name in ("ess", "weight_mean")) for name in MISMATCH_METRICS}


def test_entropy_mask_keeps_the_upper_share_and_divides_by_all():
    entropy = floats(0.1, 0.9, 0.5, 0.7, 0.3)
    assert entropy_threshold(entropy, None, 1.0) == pytest.approx(0.1)
    assert entropy_threshold(entropy, None, 0.5) == pytest.approx(0.5)
    assert entropy_threshold(entropy, None, 0.3) == pytest.approx(torch.quantile(entropy, 0.7).item())
    counted = torch.tensor([True, False, True, True, True])
    assert entropy_threshold(entropy, counted, 0.4) == pytest.approx(torch.quantile(entropy[counted], 0.6).item())
    assert entropy_threshold(entropy[:0], None, 0.5) == -math.inf
    mask = high_entropy_mask(entropy, 0.5)
    assert mask.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    tokens = TokenBatch(
        torch.zeros(5, dtype=torch.float64),
        torch.zeros(5, dtype=torch.float64),
        torch.arange(5),
        torch.ones(5),
        token_weight=mask,
    )
    assert policy_objective(tokens, LossConfig(loss_type="dapo"), whole(tokens)).loss.item() == pytest.approx(-0.6)
    with pytest.raises(ConfigError, match="top_entropy_quantile"):
        entropy_threshold(entropy, None, 0.0)


@pytest.mark.parametrize("reduction", ["grpo", "bnpo", "dr_grpo", "dapo"])
def test_overlong_rows_are_out_of_the_loss_and_of_its_denominator(reduction):
    tokens = made_tokens()
    counted = overlong_filter(tokens.token_row, torch.tensor([True, True, False, True, False]))
    filtered = TokenBatch(**(vars(tokens) | {"counted": counted}))
    kept = part_of(tokens, [0, 1, 3])
    config = LossConfig(loss_type=reduction)
    losses = [policy_objective(one, config, whole(one)).loss.item() for one in (filtered, kept)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"loss_type": "cispo"}, "epsilon_high: cispo caps the ratio"),
        ({"loss_type": "sapo", "delta": 3.0}, "delta: sapo has no clipped term"),
        ({"loss_type": "sapo", "importance_sampling_level": "sequence"}, "importance_sampling_level: sapo"),
        ({"loss_type": "real", "rollout_importance_sampling_mode": "token_mask"}, "real compares whole rows"),
        ({"real_tau": 0.0}, "real_tau: want a finite number > 0"),
        ({"off_policy_sequence_mask_delta": math.nan}, "off_policy_sequence_mask_delta"),
    ],
)
def test_loss_settings_that_mean_nothing_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        LossConfig(**settings)


def test_real_wants_groups_and_no_token_weights():
    tokens = made_groups()
    bare = TokenBatch(**(vars(tokens) | {"row_group": None}))
    weighted = TokenBatch(**(vars(tokens) | {"token_weight": torch.ones(15)}))
    config = LossConfig(loss_type="real")
    for wrong, totals in (
        (bare, BatchTotals(5, 15, 3)),
        (tokens, BatchTotals(5, 15)),
        (weighted, BatchTotals(5, 15, 3)),
    ):
        with pytest.raises(ConfigError, match="real: "):
            policy_objective(wrong, config, totals)
    with pytest.raises(ShapeError, match="row_group"):
        policy_objective(TokenBatch(**(vars(tokens) | {"row_group": ONE_ROW})), config, BatchTotals(5, 15, 3))
