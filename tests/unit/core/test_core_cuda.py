"""The same results on a CUDA device as on the CPU."""

import random
from typing import get_args

import pytest
import torch
from core_samples import ESTIMATORS, made_tokens, whole

from gigpo_core import (
    AdvantageConfig,
    BatchTotals,
    LossConfig,
    StepBatch,
    TokenBatch,
    compute_advantages,
    policy_objective,
)
from gigpo_core.loss_config import LossType
from gigpo_core.similarity import cluster_texts

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def made_batch(steps=4096):
    made = torch.Generator().manual_seed(0)
    row = torch.arange(steps)
    order = torch.randperm(steps, generator=made)
    key = torch.randint(0, 40, (steps,), generator=made)
    reward = torch.randn(steps, generator=made, dtype=torch.float64)
    valid = torch.rand(steps, generator=made) < 0.9
    columns = (row // 128, row // 16, row % 16, torch.stack([key, key * 3], 1), reward, valid)
    return StepBatch(*(column[order] for column in columns))


def moved(columns, device):
    return {name: value.to(device) if torch.is_tensor(value) else value for name, value in vars(columns).items()}


@pytest.mark.parametrize("norm", ["mean", "mean_std"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_cuda_gives_the_groups_and_values_of_the_cpu(estimator, norm):
    batch = made_batch()
    config = AdvantageConfig(estimator, norm=norm, invalid_action_penalty=0.1)
    here = compute_advantages(batch, config)
    there = compute_advantages(StepBatch(**moved(batch, "cuda")), config)
    assert torch.equal(here.step_group, there.step_group.cpu())
    for name in ("advantage", "episode_advantage", "step_advantage", "step_return"):
        torch.testing.assert_close(getattr(there, name).cpu(), getattr(here, name), rtol=1e-12, atol=1e-12)


def test_cuda_finds_the_clusters_of_the_cpu():
    rng = random.Random(0)
    texts = ["".join(rng.choice("abcde ") for _ in range(20)) for _ in range(400)]
    assert cluster_texts(texts, 0.6, "cuda") == cluster_texts(texts, 0.6)


@pytest.mark.parametrize("loss_type", get_args(LossType))
def test_cuda_gives_the_loss_of_the_cpu(loss_type):
    tokens = made_tokens(row_group=torch.tensor([0, 1, 0, 1, 1]))
    config = LossConfig(
        loss_type=loss_type,
        epsilon_high=1.2 if loss_type == "cispo" else None,
        rollout_importance_sampling_mode=None if loss_type == "real" else "sequence_mask",
    )
    here = policy_objective(tokens, config, whole(tokens))
    there = policy_objective(TokenBatch(**moved(tokens, "cuda")), config, whole(tokens))
    torch.testing.assert_close(there.loss.cpu(), here.loss, rtol=1e-12, atol=1e-12)
    assert there.metrics == pytest.approx(here.metrics, rel=1e-9)


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo"])
def test_a_loss_never_makes_the_host_wait(loss_type):
    tokens = TokenBatch(**moved(made_tokens(), "cuda"))
    config = LossConfig(
        loss_type=loss_type,
        epsilon_high=1.2 if loss_type == "cispo" else None,
        rollout_importance_sampling_mode="sequence_mask",
        off_policy_sequence_mask_delta=0.1,
    )
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = policy_objective(tokens, config, BatchTotals(5, 15))
        result.loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(value == value for value in result.metrics.values())
