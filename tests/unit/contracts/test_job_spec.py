"""The job spec: what it refuses, in which words, and its flags."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec, SpecError, flags, parse_spec
from services.contracts.section import section_of
from tests.unit.contracts.reference_page import PAGE, reference

SMALL = {"model": {"scratch": {}}}
STEP_LEVEL = "want advantage_estimator: g2po, gagpo, gigpo, graphgpo or hgpo with it, got advantage_estimator: grpo"
CLIPPED = "want loss_type: bnpo, dapo, dr_grpo, fipo or grpo with it"


def problem(document: object) -> tuple[str, str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(document)
    (found,) = caught.value.problems
    assert found[1] in str(caught.value)
    return found


@pytest.mark.parametrize(
    ("changes", "field", "came", "wanted"),
    [
        ({"rollout": {"num_generation": 8}}, "rollout.num_generation", "8", "unknown key"),
        ({"trainer": {}}, "trainer", "{}", "unknown key"),
        (
            {"algorithm": {"gigpo_step_advantage_weight": -1}},
            "algorithm.gigpo_step_advantage_weight",
            "-1",
            ">= 0",
        ),
        ({"algorithm": {"advantage_estimator": "ppo"}}, "algorithm.advantage_estimator", "'ppo'", "gigpo"),
        ({"training": {"learning_rate": float("inf")}}, "training.learning_rate", "inf", "finite"),
        ({"environment": {"max_turns": "many"}}, "environment.max_turns", "'many'", "whole number"),
        ({"name": "My Job"}, "name", "'My Job'", "small letters"),
        ({"training": {"seed": 1 << 31}}, "training.seed", str(1 << 31), "a number < 2147483648"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field_what_came_and_what_is_wanted(changes, field, came, wanted):
    found, sentence = problem({**SMALL, **changes})
    assert found == field
    assert f"got {came}" in sentence
    assert wanted in sentence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"algorithm": {"advantage_estimator": "gigpo"}, "environment": {"use_gym_env": False}},
         ["advantage_estimator: gigpo needs use_gym_env: true", "got use_gym_env: false"]),
        ({"environment": {"use_gym_env": False}},
         ["reward_funcs: want at least one with use_gym_env: false", "accuracy", "got none"]),
        ({"environment": {"use_gym_env": False, "environment": "grid"}},
         ["want false with environment: prompts", "got false and grid"]),
        ({"environment": {"environment": "prompts"}}, ["use_gym_env", "got true and prompts"]),
        ({"rewards": {"reward_funcs": ["format"]}}, ["want use_gym_env: false with them", "got true and format"]),
        ({"environment": {"use_gym_env": False, "max_turns": 3}, "rewards": {"reward_funcs": ["format"]}},
         ["max_turns: want 1", "got 3"]),
        ({"algorithm": {"gigpo_step_advantage_weight": 2.0}},
         ["gigpo_step_advantage_weight: want advantage_estimator: g2po, gigpo or graphgpo with it", "grpo"]),
        ({"algorithm": {"advantage_estimator": "rloo"}, "rollout": {"num_generations": 1}},
         ["num_generations", "want >= 2, got 1"]),
        ({"algorithm": {"loss_type": "real"}, "rollout": {"groups_per_batch": 4, "max_completion_length": 8}},
         ["minibatches: real deals a batch out by whole groups, want at most groups_per_batch = 4, got 8"]),
        ({"algorithm": {"anchor_similarity": 0.8}}, ["anchor_similarity: want", STEP_LEVEL]),
        ({"algorithm": {"anchor_state": "exact"}}, ["anchor_state: want", STEP_LEVEL]),
        ({"algorithm": {"advantage_estimator": "gigpo", "anchor_similarity": 0.8, "anchor_state": "exact"}},
         ["anchor_similarity: want anchor_state: text", "got anchor_state: exact"]),
        ({"algorithm": {"advantage_estimator": "rloo", "scale_rewards": "group"}},
         ["scale_rewards: want", ": grpo or reinforce_plus_plus with it, got advantage_estimator: rloo"]),
        ({"algorithm": {"hgpo_alpha": 2.0}}, ["hgpo_alpha: want advantage_estimator: hgpo", "grpo"]),
        ({"algorithm": {"loss_type": "cispo"}}, ["epsilon_high: cispo", "got none"]),
        ({"algorithm": {"loss_type": "sapo", "delta": 2.0}}, ["delta: want", CLIPPED, "sapo"]),
        ({"algorithm": {"delta": 1.1}}, ["delta: want more than 1 + epsilon_high = 1.2, got 1.1"]),
        ({"algorithm": {"loss_type": "sapo", "importance_sampling_level": "sequence"}},
         ["importance_sampling_level: want loss", "sapo"]),
        ({"algorithm": {"loss_type": "sapo", "epsilon": 0.1}}, ["epsilon: want", CLIPPED, "sapo"]),
        ({"algorithm": {"loss_type": "sapo", "epsilon_high": 0.3}}, ["epsilon_high: want loss_type", "sapo"]),
        ({"algorithm": {"loss_type": "cispo", "epsilon_high": 5.0, "epsilon": 0.1}},
         ["epsilon: want", CLIPPED, "got loss_type: cispo"]),
        ({"algorithm": {"max_resample_times": 5}}, ["max_resample_times: want dynamic_sample: true", "false"]),
        ({"algorithm": {"beta": 0, "kl_estimator": "k1"}}, ["kl_estimator: want beta > 0", "got beta: 0"]),
        ({"algorithm": {"tau_pos": 2.0}}, ["tau_pos: want loss_type: sapo with it, got loss_type: bnpo"]),
        ({"algorithm": {"dynamic_sample": True}, "rollout": {"num_generations": 1, "max_completion_length": 8}},
         ["num_generations: dynamic_sample compares"]),
        ({"environment": {"environment_kwargs": {"max_turns": 5}}},
         ["environment_kwargs.max_turns: want it in environment.max_turns"]),
        ({"environment": {"environment_kwargs": {"rewards": {}}}},
         ["environment_kwargs.rewards: want it in the section rewards"]),
        ({"model": {"scratch": {}, "warmstart": {"warmstart_environment_kwargs": {"max_turns": 5}}}},
         ["warmstart_environment_kwargs.max_turns: want it in environment.max_turns"]),
        ({"model": {"scratch": {}, "warmstart": {"warmstart_environment_kwargs": {"rewards": {}}}}},
         ["warmstart_environment_kwargs.rewards: want it in the section rewards"]),
        ({"model": {"model": "/m", "warmstart": {}}}, ["warmstart", "scratch"]),
        ({"rollout": {"max_completion_length": 1000}}, ["want <= 256", "got 1128"]),
    ],
)  # fmt: skip
def test_a_combination_that_makes_no_sense_is_refused_in_one_sentence(changes, words):
    document = {"rollout": {"max_completion_length": 8}, **SMALL, **changes}
    _, sentence = problem(document)
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("rewards", "words"),
    [
        ({"reward_funcs": ["format", "format"]}, ["reward_funcs: want names, each once"]),
        ({"reward_funcs": ["format"], "reward_weights": [1, 2]}, ["reward_weights: want 1, one per function, got 2"]),
        ({"reward_funcs": ["soft_overlong"]}, ["soft_cache_length: soft_overlong needs a number"]),
        (
            {"reward_funcs": ["soft_overlong"], "soft_max_length": 4, "soft_cache_length": 5},
            ["at most soft_max_length = 4"],
        ),
    ],
)
def test_reward_settings_that_do_not_fit_are_refused(rewards, words):
    field, sentence = problem({**SMALL, "environment": {"use_gym_env": False}, "rewards": rewards})
    assert field == "rewards"
    for word in words:
        assert word in sentence


def test_a_single_turn_job_needs_only_its_reward_functions():
    made = spec(environment={"use_gym_env": False}, rewards={"reward_funcs": "accuracy,format"})
    assert (made.environment.environment, made.environment.max_turns) == ("prompts", 1)
    assert (made.rewards.reward_funcs, made.rewards.weights) == (["accuracy", "format"], (1.0, 1.0))
    assert JobSpec.model_validate_json(made.model_dump_json(exclude_unset=True)) == made


def test_a_session_of_a_single_turn_job_is_told_the_rewards_with_their_lengths():
    made = spec(environment={"use_gym_env": False}, rewards={"reward_funcs": ["cosine"]})
    prompts = EnvironmentInfo(id="prompts", kwargs_schema={"properties": {"max_turns": {}, "rewards": {}}})
    told = prompts.kwargs(made)
    assert told["max_turns"] == 1
    assert (told["rewards"]["cosine_max_len"], told["rewards"]["soft_max_length"]) == (8, None)


def test_a_session_is_told_its_horizon_where_it_wants_to_know_and_overrides_win():
    made = spec(environment={"max_turns": 7, "environment_kwargs": {"size": [3]}})
    grid = EnvironmentInfo(id="grid", kwargs_schema={"properties": {"max_turns": {}, "size": {}}})
    assert grid.kwargs(made) == {"max_turns": 7, "size": [3]}
    assert grid.kwargs(made, max_turns=2, overrides={"size": [4]}) == {"max_turns": 2, "size": [4]}
    assert EnvironmentInfo(id="deaf").kwargs(made) == {"size": [3]}


def test_a_template_that_is_not_known_is_refused_with_those_that_are():
    field, sentence = problem({**SMALL, "environment": {"prompt_template": "grid/v9"}})
    assert field == "environment.prompt_template"
    for word in ("'grid/v9'", "auto", "grid/v1", "search_qa/v1"):
        assert word in sentence


@pytest.mark.parametrize("name", ["", "maze", "maze.v1", "maze/v1/v2", "../v1", "maze/V1", "grid/v9"])
def test_a_name_that_no_environment_can_bring_is_refused(name):
    assert problem({**SMALL, "environment": {"prompt_template": name}})[0] == "environment.prompt_template"


def test_a_template_that_an_environment_may_bring_is_taken():
    assert spec(environment={"prompt_template": "maze/v1"}).environment.prompt_template == "maze/v1"


@pytest.mark.parametrize("model", [{}, {"model": "/m", "scratch": {}}])
def test_exactly_one_source_of_a_model_is_wanted(model):
    field, sentence = problem({"model": model})
    assert field == "model"
    assert "exactly one of `model`" in sentence


def test_a_head_size_that_vllm_does_not_serve_is_refused():
    _, sentence = problem({"model": {"scratch": {"hidden_size": 64, "num_attention_heads": 4}}})
    assert "got 64 / 4" in sentence


def test_every_problem_of_a_document_is_told():
    with pytest.raises(SpecError) as caught:
        parse_spec({"rollout": {"a": 1, "b": 2}})
    assert {field for field, _ in caught.value.problems} == {"model", "rollout.a", "rollout.b"}


@pytest.mark.parametrize(
    ("document", "kind"),
    [(None, "nothing"), ([], "a list"), ("gigpo", "text"), (True, "true or false"), (3, "a number"), (0.5, "a number")],
)
def test_a_document_that_is_no_mapping_is_refused_by_its_kind(document, kind):
    assert problem(document) == ("", f"want a mapping of sections such as model and environment, got {kind}")


def leaves(document: dict, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found = set()
    for name, value in document.items():
        inner = value if isinstance(value, dict) and not name.endswith("kwargs") else None
        found |= leaves(inner, (*path, name)) if inner is not None else {(*path, name)}
    return found


def test_flags_are_unique_and_lead_to_every_leaf_of_a_full_spec():
    found = flags()
    assert all(path[-1] == name for name, path in found.items())
    full = parse_spec({"model": {"scratch": {}, "warmstart": {}}, "rollout": {"max_completion_length": 8}}).model_dump()
    assert set(found.values()) == leaves(full)
    assert len(set(found.values())) == len(found)


def test_no_two_sections_have_a_leaf_of_one_name():
    def names(section, path=()):
        for name, field in section.model_fields.items():
            inner = section_of(field.annotation)
            yield from (names(inner, (*path, name)) if inner else [name])

    every = list(names(JobSpec))
    assert sorted(every) == sorted(set(every))
    assert {"advantage_estimator", "use_gym_env", "gigpo_step_advantage_weight"} <= set(every)


def spec(**changes) -> JobSpec:
    return parse_spec({"model": {"scratch": {}}, "rollout": {"max_completion_length": 8}, **changes})


def test_a_spec_comes_back_from_json_as_it_was():
    for changes in ({}, {"algorithm": {"advantage_estimator": "gigpo", "gigpo_step_advantage_weight": 0.5}}):
        made = spec(**changes)
        assert JobSpec.model_validate_json(made.model_dump_json()) == made


def test_the_fingerprint_tells_groups_apart_and_nothing_else():
    same = [spec(), spec(name="other"), spec(algorithm={"advantage_estimator": "gigpo"})]
    assert len({one.fingerprint() for one in same}) == 1
    different = [
        spec(training={"seed": 1}),
        spec(environment={"max_turns": 7}),
        spec(environment={"environment_kwargs": {"size": [3]}}),
        spec(rollout={"num_generations": 4, "max_completion_length": 8}),
    ]
    assert len({one.fingerprint() for one in [*different, spec()]}) == 5


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_document_is_a_spec_or_a_spec_error(document):
    try:
        parse_spec(document)
    except SpecError as error:
        found = error.problems
    else:
        found = [("", "it is one")]
    assert found


def test_the_reference_of_the_documentation_is_made_from_the_spec() -> None:
    page = PAGE.read_text("utf-8")
    assert page == reference(), "write it anew: python -m tests.unit.contracts.reference_page"
    assert [name for name in flags() if f"`{name}`" not in page and name != "name"] == []


@pytest.mark.parametrize("option", [{"chat_template_kwargs": {"enable_thinking": False}}, {"system_role": "user"}])
def test_a_policy_from_scratch_has_no_chat_template_to_give_values_to(option: dict[str, object]) -> None:
    (name,) = option
    with pytest.raises(SpecError, match=f"^{name}: want a model whose tokenizer has a chat template with it, got scr"):
        parse_spec({"model": {"scratch": {}}, "environment": {"system": "Be brief.", **option}})
    parse_spec({"model": {"model": "/folder"}, "environment": {"system": "Be brief.", **option}})


def test_vllm_s_options_have_bounds_and_an_effect() -> None:
    base: dict[str, Any] = {"model": {"model": "/folder"}, "rollout": {"max_completion_length": 100}}
    job = parse_spec({**base, "inference": {"vllm_max_model_len": 512, "vllm_tensor_parallel_size": 2}})
    assert job.max_model_len == 512
    assert job.inference.options.devices == 2
    for inference, said in {
        "vllm_max_model_len": (
            {"vllm_max_model_len": 200},
            r"max_prompt_tokens \+ max_completion_length: want <= 200 \(vllm_max_model_len\), got 228",
        ),
        "transformers": (
            {"vllm_max_num_seqs": 4, "engine": "transformers"},
            "vllm_max_num_seqs: want engine: vllm with it, got engine: transformers",
        ),
    }.values():
        with pytest.raises(SpecError, match=said):
            parse_spec({**base, "inference": inference})
    with pytest.raises(SpecError, match=r"vllm_max_model_len: want <= 256 \(max_position_embeddings\), got 512"):
        parse_spec(
            {
                "model": {"scratch": {}},
                "rollout": {"max_completion_length": 8},
                "inference": {"vllm_max_model_len": 512},
            }
        )


def test_extra_groups_need_batches_by_arrival_and_determinism_needs_cursors() -> None:
    def spec(**sections: dict[str, object]) -> Any:
        return parse_spec({"model": {"model": "/folder"}, "rollout": {"max_staleness": 0}, **sections})

    assert spec(rollout={"batch_order": "arrival", "extra_groups": 4}).rollout.extra_groups == 4
    with pytest.raises(SpecError, match="extra_groups: want batch_order: arrival with it, got batch_order: cursor"):
        spec(rollout={"extra_groups": 4})
    with pytest.raises(SpecError, match=r"deterministic: want batch_order: cursor with it .*, got arrival"):
        spec(rollout={"batch_order": "arrival", "max_staleness": 0}, inference={"deterministic": True})
