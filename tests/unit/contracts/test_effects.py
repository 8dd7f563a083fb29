"""An option that nothing would come of is refused, wherever it stands; its default is not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.contracts.effectless_options import Effect
from services.contracts.job import _BESIDE_TURNS, Algorithm, JobSpec, Rewards, SpecError, Training, parse_spec

STEP_LEVEL = "g2po, gagpo, gigpo, graphgpo or hgpo"
NORMED = "g2po, gagpo, gigpo, graphgpo, grpo or hgpo"
VOTED = "g2po, gigpo, graphgpo, grpo, hgpo, reinforce_plus_plus or rloo"
CLIPPED = "bnpo, dapo, dr_grpo, fipo or grpo"
GIGPO, HGPO, SAPO, FIPO = (
    {"advantage_estimator": "gigpo"},
    {"advantage_estimator": "hgpo"},
    {"loss_type": "sapo"},
    {"loss_type": "fipo"},
)
GAGPO = {"advantage_estimator": "gagpo"}
CISPO = {"loss_type": "cispo", "epsilon_high": 5.0}
REAL = {"loss_type": "real"}
RLOO = {"advantage_estimator": "rloo"}
PER_TOKEN = "bnpo, cispo, dapo, dr_grpo, fipo, grpo or sapo"


def estimator(came: str, wanted: str) -> str:
    return f"want advantage_estimator: {wanted} with it, got advantage_estimator: {came}"


def loss(came: str, wanted: str) -> str:
    return f"want loss_type: {wanted} with it, got loss_type: {came}"


# option, value, a section that ignores it, what is said then, and a section that heeds it
ALGORITHM: list[tuple[str, Any, dict[str, Any], str, dict[str, Any]]] = [
    ("gamma", 0.9, {}, estimator("grpo", STEP_LEVEL), GIGPO),
    ("gamma", 0.9, {"advantage_estimator": "rloo"}, estimator("rloo", STEP_LEVEL), HGPO),
    ("norm", "mean_std", {"advantage_estimator": "rloo"}, estimator("rloo", NORMED), {}),
    ("norm", "mean_std", {"scale_rewards": "none"}, "want no scale_rewards", {}),
    ("gigpo_step_advantage_weight", 2.0, HGPO, estimator("hgpo", "g2po, gigpo or graphgpo"), GIGPO),
    ("scale_rewards", "none", GIGPO, estimator("gigpo", "grpo or reinforce_plus_plus"), {}),
    ("invalid_action_penalty", 0.2, {"scale_rewards": "gdpo"}, "got scale_rewards: gdpo", {"scale_rewards": "batch"}),
    ("episode_statistics", "per_step", HGPO, "got advantage_estimator: hgpo and hgpo_base_group: false", GIGPO),
    ("episode_statistics", "per_step", HGPO, "hgpo_base_group: true", {**HGPO, "hgpo_base_group": True}),
    ("episode_statistics", "per_step", GAGPO, estimator("gagpo", VOTED), {}),
    ("anchor_state", "exact", {}, estimator("grpo", STEP_LEVEL), GIGPO),
    ("anchor_similarity", 0.9, {}, estimator("grpo", STEP_LEVEL), GIGPO),
    ("anchor_similarity", 0.9, {**GIGPO, "anchor_state": "exact"}, "got anchor_state: exact", GIGPO),
    ("hgpo_history", 3, GIGPO, estimator("gigpo", "hgpo"), HGPO),
    ("hgpo_alpha", 2.0, GIGPO, estimator("gigpo", "hgpo"), HGPO),
    ("hgpo_alpha", 2.0, {**HGPO, "hgpo_history": 0}, "got hgpo_history: 0 and hgpo_base_group: false",
     {**HGPO, "hgpo_history": 0, "hgpo_base_group": True}),
    ("hgpo_base_group", True, {}, estimator("grpo", "hgpo"), HGPO),
    ("graphgpo_success_reward", 5.0, GIGPO, estimator("gigpo", "graphgpo"), {"advantage_estimator": "graphgpo"}),
    ("gae_lambda", 0.5, GIGPO, estimator("gigpo", "gagpo"), GAGPO),
    ("gae_lambda", 0.5, {**GAGPO, "gamma": 0.0}, "want gamma > 0 with it, got gamma: 0", GAGPO),
    ("step_shrinkage", 2.0, GAGPO, estimator("gagpo", "gigpo"), GIGPO),
    ("step_variance_gate", 4.0, HGPO, estimator("hgpo", "gigpo"), GIGPO),
    ("max_resample_times", 5, {}, "want dynamic_sample: true with it, got dynamic_sample: false",
     {"dynamic_sample": True}),
    ("epsilon", 0.1, CISPO, loss("cispo", CLIPPED), {}),
    ("epsilon_high", 0.3, SAPO, loss("sapo", "bnpo, cispo, dapo, dr_grpo, fipo or grpo"), {}),
    ("delta", 4.0, CISPO, loss("cispo", CLIPPED), {}),
    ("importance_sampling_level", "sequence", SAPO, loss("sapo", "bnpo, cispo, dapo, dr_grpo, fipo or grpo"), CISPO),
    ("kl_estimator", "k1", {"beta": 0.0}, "want beta > 0 with it, got beta: 0", {}),
    ("kl_estimator", "k1", {"kl_in_reward": True}, "got kl_in_reward: true and advantage_estimator: grpo", {}),
    ("kl_estimator", "k1", RLOO, "got kl_in_reward: null and advantage_estimator: rloo",
     {**RLOO, "kl_in_reward": False}),
    ("kl_in_reward", True, {"beta": 0.0}, "want beta > 0 with it, got beta: 0", GIGPO),
    ("kl_in_reward", True, {"scale_rewards": "gdpo"}, "got scale_rewards: gdpo", {"scale_rewards": "batch"}),
    ("tau_pos", 2.0, {}, loss("bnpo", "sapo"), SAPO),
    ("tau_neg", 2.0, {}, loss("bnpo", "sapo"), SAPO),
    ("fipo_decay_rate", 8.0, {}, loss("bnpo", "fipo"), FIPO),
    ("fipo_clip_range", 0.1, {}, loss("bnpo", "fipo"), FIPO),
    ("fipo_clip_high_only", False, {}, loss("bnpo", "fipo"), FIPO),
    ("fipo_clip_high_only", False, {**FIPO, "fipo_clip_range": None}, "got fipo_clip_range: null", FIPO),
    ("fipo_safety_threshold", None, {}, loss("bnpo", "fipo"), FIPO),
    ("real_tau", 1.0, {}, loss("bnpo", "real"), REAL),
    ("top_entropy_quantile", 0.2, REAL, loss("real", PER_TOKEN), {}),
    ("off_policy_sequence_mask_delta", 0.1, REAL, loss("real", PER_TOKEN), {}),
    ("rollout_importance_sampling_mode", "token_mask", REAL, loss("real", PER_TOKEN), SAPO),
    ("rollout_importance_sampling_threshold", 3.0, REAL, loss("real", PER_TOKEN), SAPO),
    ("rollout_importance_sampling_threshold", 3.0, {"rollout_importance_sampling_mode": None},
     "want a rollout_importance_sampling_mode with it, got rollout_importance_sampling_mode: null", {}),
]  # fmt: skip

COSINE = {"cosine_min_len_value_wrong": -1.0, "cosine_max_len_value_wrong": -0.1, "cosine_min_len_value_correct": 2.0,
          "cosine_max_len_value_correct": 0.1, "cosine_max_len": 4}  # fmt: skip
REPETITION = {"repetition_n_grams": 2, "repetition_max_penalty": -2.0}
SOFT = {"soft_max_length": 6, "soft_cache_length": 2}
JUDGE = {"judge_url": "http://127.0.0.1:8000/v1", "judge_model": "grader", "judge_prompt": "Is it kind?",
         "judge_timeout_s": 5.0}  # fmt: skip
SETTINGS_OF = {"cosine": COSINE, "repetition": REPETITION, "soft_overlong": SOFT, "judge": JUDGE}


def job(**sections: dict[str, Any]) -> JobSpec:
    if sections.get("algorithm", {}).get("scale_rewards") == "gdpo":  # it scales reward functions
        sections |= {"environment": {"use_gym_env": False}, "rewards": {"reward_funcs": ["accuracy"]}}
    return parse_spec({"model": {"scratch": {}}, "rollout": {"max_completion_length": 8}, **sections})


def refusal(**sections: dict[str, Any]) -> str:
    with pytest.raises(SpecError) as caught:
        job(**sections)
    ((_, sentence),) = caught.value.problems
    return sentence


@pytest.mark.parametrize(("option", "value", "ignoring", "words", "heeding"), ALGORITHM)
def test_an_option_of_the_algorithm_is_refused_where_nothing_would_come_of_it(
    option: str, value: Any, ignoring: dict[str, Any], words: str, heeding: dict[str, Any]
) -> None:
    sentence = refusal(algorithm={**ignoring, option: value})
    assert sentence.startswith(f"{option}: want ")
    assert words in sentence
    assert getattr(job(algorithm={**heeding, option: value}).algorithm, option) == value
    default = copy.copy(Algorithm.model_fields[option].default)
    assert getattr(job(algorithm={**ignoring, option: default}).algorithm, option) == default


@pytest.mark.parametrize(
    ("function", "option", "value"),
    [(function, *setting) for function, settings in SETTINGS_OF.items() for setting in settings.items()],
)
def test_a_setting_of_a_reward_function_wants_that_function(function: str, option: str, value: Any) -> None:
    single = {"use_gym_env": False}
    sentence = refusal(environment=single, rewards={"reward_funcs": ["accuracy", "format"], option: value})
    assert sentence == f"{option}: want {function} among reward_funcs with it, got reward_funcs: accuracy, format"
    needed: dict[str, Any] = {"soft_overlong": SOFT, "judge": JUDGE}.get(function, {})
    heeded = job(environment=single, rewards={"reward_funcs": ["accuracy", function], **needed, option: value})
    assert getattr(heeded.rewards, option) == value


@pytest.mark.parametrize("missing", ["judge_url", "judge_model"])
def test_a_judge_needs_an_address_and_a_model(missing: str) -> None:
    given = {"reward_funcs": ["judge"], **{name: value for name, value in JUDGE.items() if name != missing}}
    sentence = refusal(environment={"use_gym_env": False}, rewards=given)
    assert sentence == f"{missing}: judge needs it, got none"


def test_options_without_effect_for_one_reason_are_told_together() -> None:
    kept = {"engine": "transformers", "vllm_tensor_parallel_size": 2, "vllm_gpu_memory_utilization": 0.5}
    assert refusal(inference=kept) == (
        "vllm_tensor_parallel_size, vllm_gpu_memory_utilization: want engine: vllm with them, got engine: transformers"
    )


def test_a_learning_rate_that_stays_has_no_end() -> None:
    sentence = refusal(training={"lr_scheduler_type": "constant", "lr_end_ratio": 0.1})
    assert sentence == "lr_end_ratio: want lr_scheduler_type: cosine or linear with it, got lr_scheduler_type: constant"
    job(training={"lr_scheduler_type": "constant", "lr_end_ratio": 0.0})
    job(training={"lr_scheduler_type": "cosine", "lr_end_ratio": 0.1})


@pytest.mark.parametrize(("option", "value"), [("gamma", 0.5), ("episode_statistics", "per_step")])
def test_episodes_of_one_step_have_nothing_to_discount_and_one_vote(option: str, value: Any) -> None:
    section = {**GIGPO, option: value}
    assert f"{option}: want max_turns > 1" in refusal(algorithm=section, environment={"max_turns": 1})
    job(algorithm=section, environment={"max_turns": 2})


@pytest.mark.parametrize("single", [{"max_turns": 1}, {"use_gym_env": False}])
def test_episodes_of_one_step_are_no_conversation(single: dict[str, Any]) -> None:
    rewards: dict[str, Any] = {"rewards": {"reward_funcs": ["accuracy"]}} if "use_gym_env" in single else {}
    sentence = refusal(environment={**single, "interaction": "conversation"}, **rewards)
    assert sentence.startswith(
        "interaction: want max_turns > 1 (one turn has nothing before it) with it, got max_turns: 1"
    )
    job(environment={**single, "interaction": "steps"}, **rewards)
    job(environment={"max_turns": 2, "interaction": "conversation"})


@pytest.mark.parametrize(
    ("ignoring", "wanted"),
    [
        ({"max_turns": 1}, "max_turns > 1"),
        ({"interaction": "conversation", "context_overflow": "end"}, "context_overflow: restart"),
    ],
)
def test_turns_that_no_prompt_shows_are_no_history(ignoring: dict[str, Any], wanted: str) -> None:
    assert refusal(environment={**ignoring, "history_length": 2}).startswith(f"history_length: want {wanted}")
    job(environment={**ignoring, "history_length": 0})
    job(environment={"interaction": "conversation", "history_length": 2})


def test_in_episodes_of_one_step_no_step_is_judged_by_later_ones() -> None:
    section = {"advantage_estimator": "gagpo", "gae_lambda": 0.5}
    assert "gae_lambda: want max_turns > 1" in refusal(algorithm=section, environment={"max_turns": 1})
    job(algorithm=section, environment={"max_turns": 2})


def test_graphgpo_discounts_distances_also_of_one_step() -> None:
    job(algorithm={"advantage_estimator": "graphgpo", "gamma": 0.5}, environment={"max_turns": 1})


def test_every_row_of_the_tables_has_its_case_above() -> None:
    def options(effects: tuple[Effect, ...]) -> set[str]:
        return {effect.option for effect in effects}

    assert options(Algorithm.effects) == {option for option, *_ in ALGORITHM}
    assert options(Rewards.effects) == {*COSINE, *REPETITION, *SOFT, *JUDGE}
    assert options(Training.effects) == {"lr_end_ratio"}
    assert options(_BESIDE_TURNS) == {"gamma", "gae_lambda", "episode_statistics"}
    for section in (Algorithm, Rewards, Training):
        read = {name for effect in section.effects for name in effect.reads}
        assert read | options(section.effects) <= section.model_fields.keys()


@pytest.mark.parametrize("example", sorted(Path("examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_with_every_default_written_out_is_the_same_job(example: Path) -> None:
    spec = parse_spec(yaml.safe_load(example.read_text()))
    assert parse_spec(spec.model_dump(mode="json")) == spec
