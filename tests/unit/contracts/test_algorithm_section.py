"""The mathematics can do all that the algorithm section accepts: no job finds out at its first batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from gigpo_core.config import AdvantageConfig, Estimator
from gigpo_core.loss_config import LossType
from gigpo_core.table import markdown
from services.advantage.service import advantage_config
from services.contracts.algorithm import STEP_ESTIMATORS, Algorithm, advantage_values, keys_of_estimator
from services.contracts.job import parse_spec
from services.trainer.learner.update import loss_config, token_mask


def choices(name: str) -> tuple[str, ...]:
    return get_args(Algorithm.model_fields[name].annotation)


SECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "advantage_estimator": st.sampled_from(choices("advantage_estimator")),
        "loss_type": st.sampled_from(choices("loss_type")),
        "gigpo_step_advantage_weight": st.sampled_from([0.0, 1.0, 3.0]),
        "scale_rewards": st.sampled_from(["group", "batch", "none", "gdpo", None]),
        "anchor_similarity": st.sampled_from([None, 0.8]),
        "anchor_state": st.sampled_from(["text", "exact"]),
        "norm": st.sampled_from(choices("norm")),
        "beta": st.sampled_from([0.0, 0.04]),
        "dynamic_sample": st.booleans(),
        "max_resample_times": st.sampled_from([3, 5]),
        "epsilon": st.sampled_from([0.2, 0.1]),
        "hgpo_history": st.integers(0, 3),
        "graphgpo_success_reward": st.sampled_from([1.0, 10.0]),
        "gae_lambda": st.sampled_from([0.95, 0.5]),
        "step_shrinkage": st.sampled_from([None, 0.0, 2.0]),
        "step_variance_gate": st.sampled_from([None, 4.0]),
        "epsilon_high": st.sampled_from([None, 0.28, 5.0]),
        "delta": st.sampled_from([None, 1.1, 3.0]),
        "importance_sampling_level": st.sampled_from(choices("importance_sampling_level")),
        "tau_neg": st.sampled_from([1.05, 2.0]),
        "fipo_clip_range": st.sampled_from([None, 0.2]),
        "kl_estimator": st.sampled_from(["k1", "k2", "k3"]),
        "off_policy_sequence_mask_delta": st.sampled_from([None, 0.1]),
        "top_entropy_quantile": st.sampled_from([1.0, 0.2]),
        "real_tau": st.sampled_from([0.5, 1.0]),
        "kl_in_reward": st.sampled_from([None, True, False]),
    },
)


@given(SECTIONS)
def test_whatever_is_accepted_can_be_computed(section: dict[str, Any]) -> None:
    try:
        algorithm = Algorithm.model_validate(section)
    except ValidationError:
        return
    advantage_config(algorithm)
    scaled = {"environment": {"use_gym_env": False}, "rewards": {"reward_funcs": ["accuracy"]}}
    others = scaled if algorithm.scale_rewards == "gdpo" else {}
    spec = parse_spec({"model": {"model": "/m"}, "algorithm": section, **others})
    AdvantageConfig(**advantage_values(spec.algorithm, spec.rewards))
    loss = loss_config(spec)
    assert loss.loss_type == algorithm.loss_type
    assert loss.beta == (0.0 if algorithm.subtracts_kl else algorithm.beta)  # the KL is in one place
    token_mask(spec)


def test_every_estimator_and_loss_is_served() -> None:
    assert choices("advantage_estimator") == get_args(Estimator)
    assert choices("loss_type") == get_args(LossType)


@pytest.mark.parametrize("choice", ["advantage_estimator", "loss_type"])
def test_an_unknown_name_is_refused_and_the_known_ones_are_named(choice: str) -> None:
    with pytest.raises(ValidationError, match=r"'rloo'|'dapo'"):
        Algorithm.model_validate({choice: "unknown"})


EVERY_ESTIMATORS_KEYS = {
    "gamma": 0.9,
    "norm": "mean_std",
    "gigpo_step_advantage_weight": 2.0,
    "anchor_similarity": 0.8,
    "hgpo_history": 1,
    "hgpo_alpha": 2.0,
    "hgpo_base_group": True,
    "graphgpo_success_reward": 10.0,
    "episode_statistics": "per_step",
    "gae_lambda": 0.5,
    "step_shrinkage": 2.0,
    "step_variance_gate": 4.0,
}


@pytest.mark.parametrize("estimator", choices("advantage_estimator"))
def test_an_estimator_keeps_its_own_keys_and_everybodys_and_they_are_accepted(estimator: str) -> None:
    kept = keys_of_estimator(estimator, EVERY_ESTIMATORS_KEYS)
    Algorithm.model_validate({**kept, "advantage_estimator": estimator})
    assert ("episode_statistics" in kept) == (estimator != "gagpo")
    assert ("gae_lambda" in kept, "step_shrinkage" in kept) == (estimator == "gagpo", estimator == "gigpo")
    assert ("gamma" in kept, "anchor_similarity" in kept) == (estimator in STEP_ESTIMATORS,) * 2
    assert ("norm" in kept) == (estimator not in ("rloo", "reinforce_plus_plus"))
    assert ("hgpo_alpha" in kept, "hgpo_history" in kept) == (estimator == "hgpo", estimator == "hgpo")
    for name in set(EVERY_ESTIMATORS_KEYS) - set(kept):
        refused = f"{name}: want advantage_estimator: .* with it, got advantage_estimator: {estimator}"
        with pytest.raises(ValidationError, match=refused):
            Algorithm.model_validate({name: EVERY_ESTIMATORS_KEYS[name], "advantage_estimator": estimator})


def test_only_what_has_a_scale_keeps_the_one_that_takes_the_place_of_norm() -> None:
    kept = [name for name in choices("advantage_estimator") if keys_of_estimator(name, {"scale_rewards": "none"})]
    assert kept == ["grpo", "reinforce_plus_plus"]


def test_a_default_value_is_accepted_with_everything() -> None:
    written_out = Algorithm().model_dump()
    for estimator in choices("advantage_estimator"):
        for loss in set(choices("loss_type")) - {"cispo"}:  # cispo has no default cap
            Algorithm.model_validate({**written_out, "advantage_estimator": estimator, "loss_type": loss, "beta": 0.0})


@given(SECTIONS)
def test_what_was_accepted_is_accepted_again_with_every_default_written_out(section: dict[str, Any]) -> None:
    try:
        algorithm = Algorithm.model_validate(section)
    except ValidationError:
        assume(False)
    assert Algorithm.model_validate(algorithm.model_dump(mode="json")) == algorithm


def test_the_documentation_lists_the_options_as_they_are() -> None:
    assert markdown() in Path("docs/algorithms.md").read_text()
