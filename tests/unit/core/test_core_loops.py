"""Every per-token loss against straightforward loops over plain numbers, written as the papers read."""

import math
from types import SimpleNamespace

import pytest
import torch
from core_samples import made_tokens, whole

from gigpo_core import LossConfig, TokenBatch, policy_objective

LOSSES = ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "fipo"]
CORRECTION_CAP = 1.1


def config_of(loss_type, **settings):
    """Bounds so tight that every rule of the loss acts on some token of `made_tokens`."""
    if loss_type in ("grpo", "bnpo", "dr_grpo", "dapo", "fipo"):
        settings["delta"] = 1.3
    return LossConfig(
        loss_type=loss_type,
        epsilon=0.1,
        epsilon_high=1.2 if loss_type == "cispo" else 0.2,
        beta=0.2,
        entropy_coef=0.05,
        max_completion_length=7,
        fipo_decay_rate=2.0,
        fipo_clip_range=0.4,
        fipo_clip_high_only=False,
        fipo_safety_threshold=1.1,
        rollout_importance_sampling_mode="token_truncate",
        rollout_importance_sampling_threshold=CORRECTION_CAP,
        **settings,
    )


def plain(tokens, frozen):
    """The columns as lists; `frozen` is the log pi that constant weights are computed from."""
    columns = {name: value.tolist() for name, value in vars(tokens).items() if value is not None}
    return SimpleNamespace(**({"counted": [True] * len(columns["log_prob"])} | columns), frozen=frozen.tolist())


def by_loops(tokens, config, frozen):
    data = plain(tokens, frozen)
    rows = [[] for _ in data.advantage]
    for t, row in enumerate(data.token_row):
        if data.counted[t]:
            value = policy_term(data, config, t) * min(
                math.exp(data.old_log_prob[t] - data.rollout_log_prob[t]), CORRECTION_CAP
            )
            value += config.beta * divergence(data, config, t)
            rows[row].append(value - config.entropy_coef * data.entropy[t])
    live = [values for values in rows if values]
    if config.loss_type in ("grpo", "sapo"):
        return sum(sum(values) / len(values) for values in live) / len(live)
    if config.loss_type == "dr_grpo":
        return sum(map(sum, live)) / (len(live) * config.max_completion_length)
    return sum(map(sum, live)) / sum(map(len, live))


def policy_term(data, config, t):
    advantage = data.advantage[data.token_row[t]]
    rho = math.exp(data.log_prob[t] - data.old_log_prob[t])
    if config.loss_type == "cispo":
        return -min(math.exp(data.frozen[t] - data.old_log_prob[t]), config.epsilon_high) * advantage * data.log_prob[t]
    if config.loss_type == "sapo":
        tau = config.tau_pos if advantage > 0 else config.tau_neg
        return -4 / tau / (1 + math.exp(-tau * (rho - 1))) * advantage
    low, high = 1 - config.epsilon, 1 + config.epsilon_high
    clipped = -min(min(rho, config.delta) * advantage, min(max(rho, low), high) * advantage)
    return clipped * influence(data, config, t) if config.loss_type == "fipo" else clipped


def influence(data, config, t):
    """FIPO's weight of token t: the tokens of its row from t on, each half as much every `fipo_decay_rate`."""
    future = 0.0
    for k in range(t, len(data.token_row)):
        moved = data.frozen[k] - data.old_log_prob[k]
        if data.token_row[k] == data.token_row[t] and data.counted[k] and math.exp(moved) <= config.delta:
            future += 0.5 ** ((k - t) / config.fipo_decay_rate) * moved
    weight = min(max(math.exp(future), 1 - config.fipo_clip_range), 1 + config.fipo_clip_range)
    rho = math.exp(data.frozen[t] - data.old_log_prob[t])
    if data.advantage[data.token_row[t]] < 0 and rho > config.fipo_safety_threshold:
        weight = min(max(weight, 0.8), 1.0)
    return weight


def divergence(data, config, t):
    apart = data.log_prob[t] - data.reference_log_prob[t]
    return {"k1": apart, "k2": apart**2 / 2, "k3": math.exp(-apart) - 1 + apart}[config.kl_estimator]


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("loss_type", LOSSES)
def test_the_objective_equals_a_straightforward_loop(loss_type, masked, estimator):
    tokens = made_tokens(counted=torch.arange(15) % 4 != 1 if masked else None)
    config = config_of(loss_type, kl_estimator=estimator)
    got = policy_objective(tokens, config, whole(tokens)).loss
    assert got.item() == pytest.approx(by_loops(tokens, config, tokens.log_prob), rel=1e-12)


@pytest.mark.parametrize("loss_type", ["cispo", "fipo"])
def test_gradients_of_losses_with_constant_weights_pass_gradcheck(loss_type):
    tokens, config = made_tokens(seed=3), config_of(loss_type)
    frozen = tokens.log_prob.detach().clone()  # gradcheck moves the numbers of its input in place

    def loss(log_prob):
        # The value is the loop's with its weights held fixed, the gradient is the objective's.
        changed = TokenBatch(**(vars(tokens) | {"log_prob": log_prob}))
        got = policy_objective(changed, config, whole(tokens)).loss
        return got - got.detach() + by_loops(changed, config, frozen)

    assert torch.autograd.gradcheck(loss, (tokens.log_prob,))
