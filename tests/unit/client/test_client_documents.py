"""Job documents: files, flags, and the sentence for everything that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gigpo.client.document import (
    checked,
    default_document,
    overrides,
    read_document,
    require_model_folder,
    submission,
    with_flags,
)
from gigpo.client.errors import BadInput
from gigpo.client.yaml_keys import load_yaml
from services.contracts.job import flags, parse_spec


@pytest.mark.parametrize(
    ("flag", "kept"), [("2", set()), ("5", {"warmup_batches"}), ("500", {"warmup_batches", "checkpoint_every"})]
)
def test_a_short_default_job_is_left_to_the_defaults_that_its_own_keys_do_not_suit(flag: str, kept: set[str]) -> None:
    spec = checked(with_flags(default_document(values := {"total_batches": flag}), values))
    assert {*spec.training.model_fields_set, *spec.checkpoint.model_fields_set} & {
        "warmup_batches", "checkpoint_every",
    } == kept  # fmt: skip


def test_the_built_in_job_is_the_example_and_is_valid() -> None:
    example = yaml.safe_load((Path(__file__).parents[3] / "examples" / "default.yaml").read_text())
    assert default_document() == example
    assert checked(example).algorithm.advantage_estimator == "gigpo"


def test_the_flags_of_the_quick_start_work_as_they_stand() -> None:
    values = {"advantage_estimator": "gigpo", "use_gym_env": "true", "gigpo_step_advantage_weight": "0.5"}
    spec = checked(with_flags(default_document(), values))
    assert spec.environment.use_gym_env is True
    assert spec.algorithm.gigpo_step_advantage_weight == 0.5


def test_every_leaf_is_a_flag_and_its_default_can_be_given_as_one() -> None:
    spec = checked(default_document())
    document = spec.model_dump(mode="json")
    for name, path in flags().items():
        value: Any = document
        for part in path:
            value = value[part]
        if name not in {"name", "model"}:
            assert with_flags({}, {name: yaml.safe_dump(value)}) is not None
            changed = with_flags(document, {name: yaml.safe_dump(value, default_flow_style=True)})
            assert parse_spec(changed) == parse_spec(document), name


def test_numbers_without_a_point_are_numbers() -> None:
    assert checked(with_flags(default_document(), {"learning_rate": "1e-4"})).training.learning_rate == 1e-4


def test_a_json_value_reaches_the_environment() -> None:
    spec = checked(with_flags(default_document(), {"environment_kwargs": '{"size": 5}'}))
    assert spec.environment.environment_kwargs == {"size": 5}


def test_a_model_flag_takes_the_place_of_a_model_from_scratch(tmp_path: Path) -> None:
    spec = checked(with_flags(default_document(), {"model": str(tmp_path)}))
    assert (spec.model.scratch, spec.model.warmstart) == (None, None)
    require_model_folder(spec)
    assert submission(spec)["model"] == {"model": str(tmp_path)}


def test_a_checkpoint_of_another_job_is_sent_as_it_was_named() -> None:
    spec = checked(with_flags(default_document(), {"model": "job:job_a1/b000040"}))
    require_model_folder(spec)
    assert submission(spec)["model"] == {"model": "job:job_a1/b000040"}


def test_half_a_reference_is_refused_before_anything_is_started() -> None:
    spec = checked(with_flags(default_document(), {"model": "job:job_a1"}))
    for refusing in (require_model_folder, submission):
        with pytest.raises(BadInput, match=r"model\.model: want job:<job id>/<checkpoint>, got 'job:job_a1'"):
            refusing(spec)


def test_another_estimator_drops_the_keys_that_it_does_not_have() -> None:
    values = {"gigpo_step_advantage_weight": "2", "anchor_similarity": "0.8"}
    document = with_flags(default_document(), values)
    assert checked(with_flags(document, {"seed": "1"})).algorithm.gigpo_step_advantage_weight == 2.0
    assert checked(with_flags(document, {"advantage_estimator": "grpo"})).algorithm.advantage_estimator == "grpo"
    assert checked(with_flags(document, {"advantage_estimator": "hgpo"})).algorithm.anchor_similarity == 0.8
    with pytest.raises(BadInput, match=r"want advantage_estimator: g2po, gigpo or graphgpo with it, got .*: grpo"):
        checked(with_flags(document, {"advantage_estimator": "grpo", "gigpo_step_advantage_weight": "3"}))


def test_a_document_is_not_changed_by_flags() -> None:
    document = default_document()
    with_flags(document, {"seed": "7", "model": "/x"})
    assert document == default_document()


BAD_VALUES = {
    "negative weight": (
        {"gigpo_step_advantage_weight": "-1"},
        "gigpo_step_advantage_weight: want a number >= 0, got -1",
    ),
    "gigpo without environment": ({"use_gym_env": "false"}, "gigpo needs use_gym_env: true"),
    "unknown estimator": (
        {"advantage_estimator": "ppo"},
        "advantage_estimator: want one of .*rloo, reinforce_plus_plus, gigpo, hgpo.*got 'ppo'",
    ),
    "broken YAML": ({"environment_kwargs": "{a: "}, "--environment_kwargs: want a value in YAML or JSON"),
    "no number": ({"seed": "many"}, "training.seed: want a whole number, got 'many'"),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_a_bad_value_gets_one_sentence(name: str) -> None:
    values, sentence = BAD_VALUES[name]
    with pytest.raises(BadInput, match=sentence) as refused:
        checked(with_flags(default_document(), values))
    assert "\n" not in str(refused.value)


def test_equal_keys_of_different_mappings_are_fine() -> None:
    assert load_yaml("a: &x {k: 1}\nb: {<<: *x, k: 2}\nc: [{k: 1}, {k: 1}]") == {
        "a": {"k": 1},
        "b": {"k": 2},
        "c": [{"k": 1}, {"k": 1}],
    }


def test_changes_of_a_fork_are_named_by_flag_or_by_path() -> None:
    changes = ["learning_rate=1e-4", "algorithm.beta=0", 'environment_kwargs={"size": [5]}']
    assert overrides(changes) == {
        "training": {"learning_rate": "1e-4"},
        "algorithm": {"beta": 0},
        "environment": {"environment_kwargs": {"size": [5]}},
    }
    for change, words in (("gama=1", "--set gama: unknown key"), ("gamma", "want KEY=VALUE")):
        with pytest.raises(BadInput, match=words):
            overrides([change])


def test_variables_of_the_environment_stand_in_a_job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED", "7")
    monkeypatch.setenv("WHO", "ann")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NOBODY", raising=False)
    path = tmp_path / "job.yaml"
    path.write_text(
        "name: ${WHO}-run  # ${NOBODY} in a comment is no variable\n"
        "model: {scratch: {}}\n"
        "environment:\n"
        "  environment_kwargs:\n"
        "    size: ${SEED}\n"
        "    text: '${SEED}'\n"
        "    default: ${NOBODY:-0.5}\n"
        "    empty: ${EMPTY:-x}\n"
        "    plain: $$1 $${SEED} $SEED\n"
    )
    assert read_document(path) == {
        "name": "ann-run",
        "model": {"scratch": {}},
        "environment": {
            "environment_kwargs": {
                "size": 7, "text": "7", "default": 0.5, "empty": "x", "plain": "$$1 ${SEED} $SEED"
            }
        },
    }  # fmt: skip


def test_flags_are_the_shells_to_fill_in() -> None:
    assert with_flags({}, {"environment_kwargs": "{a: '${HOME}'}"}) == {
        "environment": {"environment_kwargs": {"a": "${HOME}"}}
    }


def test_a_job_file_has_room_for_anchors_and_short_forms(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("x-small: &small {seed: 3}\nmodel: /m\nenvironment: grid\ntraining: {<<: *small, seed: 4}\n")
    assert read_document(path) == {
        "model": {"model": "/m"},
        "environment": {"environment": "grid"},
        "training": {"seed": 4},
    }
    changed = checked(with_flags(read_document(path), {"torch_dtype": "bfloat16", "max_turns": "9"}))
    assert (changed.model.model, changed.environment.environment) == ("/m", "grid")


BAD_FILES: dict[str, tuple[str | bytes, str]] = {
    "a variable that is not set": (
        "model: m\nname: ${NOBODY_SET_THIS}-x\n",
        "job.yaml: line 2: NOBODY_SET_THIS is not set",
    ),
    "no variable": ("model: ${a b}\n", r"line 1: want \$\{NAME\} or \$\{NAME:-default\}, got \$\{a b\}"),
    "a tab": ("model:\n\tscratch: {}\n", "line 2, column 1: .*indent with spaces, not with tabs"),
    "bytes": (b"\xff\xfe\x00", "byte 0 is not UTF-8 text"),
    "no YAML": ("model: [", "not valid YAML: line 1, column 9: "),
    "a list": ("- 1\n", "want a mapping.*got a list"),
    "empty": ("", "got nothing"),
    "unknown key": ("modle: {}\nmodel: {scratch: {}}\n", "^modle: unknown key, got {}; did you mean model"),
    "a key twice": ("model:\n  scratch: {}\n\nmodel: {}\n", "line 4: the key 'model' repeats the one on line 1"),
    "an inner key twice": ("model: {scratch: {}}\ntraining:\n  seed: 1\n  seed: 2\n", "line 4: the key 'seed'"),
    "a key of another section": ("model: {scratch: {}, seed: 1}\n", "did you mean training.seed"),
    "unknown inner key": ("model: {scratch: {hiden: 1}}\n", "model.scratch.hiden: unknown key"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gets_one_sentence(name: str, tmp_path: Path) -> None:
    text, sentence = BAD_FILES[name]
    path = tmp_path / "job.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput, match=sentence) as refused:
        checked(read_document(path))
    assert "\n" not in str(refused.value)


def test_a_missing_file_and_a_missing_model_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        read_document(tmp_path / "none.yaml")
    with pytest.raises(BadInput, match="no such folder: /no/such/model"):
        require_model_folder(checked(with_flags(default_document(), {"model": "/no/such/model"})))
