"""The estimate of a learner's memory: what autograd and the optimizer keep, and how ranks share it."""

from __future__ import annotations

from typing import Any

import pytest

from services.contracts.job import JobSpec
from services.contracts.learner_memory import (
    PROCESS_BYTES,
    Decoder,
    Load,
    RankCount,
    RankSettings,
    largest_load,
    learner_memory,
)

SMOLLM = Decoder(134_515_008, 576, 1_536, 30, 49_152, 192)
"""SmolLM2-135M."""


def spec(**model: Any) -> JobSpec:
    beta = {"algorithm": {"beta": model.pop("beta", 0.0)}, "training": model.pop("training", {})}
    return JobSpec.model_validate({"model": {"model": "m", **model}, **beta})


@pytest.mark.parametrize(
    ("model", "per_weight"),
    [
        ({}, 16),
        ({"beta": 0.1}, 20),
        ({"beta": 0.1, "torch_dtype": "bfloat16"}, 20),
        ({"tuner_type": "lora", "lora_rank": 1}, 4.01),
        ({"tuner_type": "lora", "lora_rank": 1, "torch_dtype": "bfloat16", "beta": 0.1}, 2.01),
    ],
)
def test_states_are_float32_for_all_that_is_trained_and_shared_by_the_ranks(
    model: dict[str, Any], per_weight: float
) -> None:
    alone = learner_memory(spec(**model), SMOLLM).states
    assert alone == pytest.approx(per_weight * SMOLLM.parameters, rel=0.05)
    assert learner_memory(spec(**model), SMOLLM, RankCount(8, 8)).states == alone // 8
    assert learner_memory(spec(**model), SMOLLM, RankCount(8, 2)).states == alone // 2


def test_nothing_of_what_is_offloaded_stays_on_the_device() -> None:
    job = spec(beta=0.1)
    alone, reference, everything = (
        learner_memory(job, SMOLLM, RankCount(2, 2, offload)).states for offload in ("none", "reference", "all")
    )
    assert alone - reference == 4 * SMOLLM.parameters // 2
    assert everything == 0
    lora = spec(beta=0.1, tuner_type="lora")
    assert learner_memory(lora, SMOLLM, RankCount(2, 2, "reference")) == learner_memory(lora, SMOLLM, RankCount(2, 2))


KEPT = {"gradient_checkpointing": False}


@pytest.mark.parametrize(
    ("model", "per_token_and_layer"),
    [  # as counted by torch's saved_tensors_hooks on two layers of this shape, of 2 x 128 tokens
        ({"training": KEPT}, 44_588),
        ({"training": KEPT, "tuner_type": "lora", "lora_rank": 8}, 40_204),
        ({"training": KEPT, "torch_dtype": "bfloat16"}, 30_380),
        ({"training": {}}, 2_304),
    ],
)
def test_activations_are_what_autograd_keeps(model: dict[str, Any], per_token_and_layer: int) -> None:
    job, deeper = spec(**model), Decoder(1_000_000_000, 576, 1_536, 60, 49_152, 192)
    here, there = (learner_memory(job, one, load=Load(256, 0)).activations for one in (SMOLLM, deeper))
    assert (there - here) / 256 / 30 == pytest.approx(per_token_and_layer, rel=0.01)


def test_an_allocator_keeps_some_of_what_was_freed() -> None:
    little, much = (learner_memory(spec(), SMOLLM, load=Load(tokens, 0)) for tokens in (10, 100_000))
    assert little.freed == 6 * little.activations
    assert much.freed == 400_000_000
    assert much.peak == much.states + much.activations + much.gathered + much.freed


@pytest.mark.parametrize(
    ("model", "measured"),
    [
        ({}, 3_159_000_000),
        ({"tuner_type": "lora", "beta": 0.05}, 1_495_000_000),
        ({"tuner_type": "lora", "beta": 0.05, "torch_dtype": "bfloat16"}, 914_000_000),
    ],
)
def test_the_estimate_is_within_15_percent_of_what_a_process_took(model: dict[str, Any], measured: int) -> None:
    """Resident memory of one rank on a CPU, two rows of 128 tokens (benchmarks/results/memory-cpu.json)."""
    needs = learner_memory(spec(**model), SMOLLM, load=Load(256, 64)).peak + PROCESS_BYTES
    assert needs == pytest.approx(measured, rel=0.15)


def test_logits_are_held_in_parts() -> None:
    few, many = (learner_memory(spec(), SMOLLM, load=Load(1000, one)).activations for one in (0, 100))
    assert many - few == 3 * 4 * 100 * 49_152
    most, more = (learner_memory(spec(), SMOLLM, load=Load(10**6, one)).activations for one in (10**5, 10**6))
    assert most == more


def test_the_largest_micro_batch_is_of_the_longest_responses() -> None:
    job = JobSpec.model_validate(
        {
            "model": {"model": "m"},
            "environment": {"max_prompt_tokens": 300},
            "rollout": {"max_completion_length": 100},
            "training": {"microbatch_tokens": 4_000},
        }
    )
    assert largest_load(job) == Load(4_000, 1_000)


def test_shard_ranks_are_a_divisor_of_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINER_RANKS", "8")
    assert RankSettings().count == RankCount(8, 8)
    monkeypatch.setenv("TRAINER_SHARD_RANKS", "4")
    assert RankSettings().count == RankCount(8, 4)
    monkeypatch.setenv("TRAINER_SHARD_RANKS", "3")
    with pytest.raises(ValueError, match="want a divisor of ranks = 8, got 3"):
        RankSettings()
