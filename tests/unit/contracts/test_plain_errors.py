"""Sentences for wrong values: ours, not a library's."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from gigpo.client.flags import _field
from services.contracts.job import JobSpec, SpecError, flags, parse_spec
from services.contracts.plain_errors import in_words
from services.contracts.states import JobState

SMALL: dict[str, Any] = {"model": {"scratch": {}}, "rollout": {"max_completion_length": 8}}
A_NAME = (
    "name: want a name of 1 to 63 small letters a-z, digits, dots, underscores and hyphens, the first one a letter or "
    "a digit, got "
)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "Größe ✓"}, A_NAME + "'Größe ✓'"),
        ({"name": "../../etc"}, A_NAME + "'../../etc'"),
        ({"name": "a" * 300}, A_NAME + "'" + "a" * 27 + "..." + "a" * 28 + "'"),
        ({"name": 5}, "name: want text, got 5"),
        ({"training": {"seed": "many"}}, "training.seed: want a whole number, got 'many'"),
        ({"training": {"seed": 1.5}}, "training.seed: want a whole number, got 1.5"),
        ({"training": {"seed": -1}}, "training.seed: want a number >= 0, got -1"),
        ({"training": {"learning_rate": "fast"}}, "training.learning_rate: want a number, got 'fast'"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate: want a finite number, got nan"),
        ({"rollout": []}, "rollout: want a mapping of keys to values, got []"),
        ({"rollout": None}, "rollout: want a mapping of keys to values, got null"),
        ({"algorithm": {"dynamic_sample": "perhaps"}}, "algorithm.dynamic_sample: want true or false, got 'perhaps'"),
        ({"algorithm": {"norm": "std_mean"}}, "algorithm.norm: want one of mean, mean_std, got 'std_mean'"),
        ({"inference": {"engine": "VLLM"}}, "inference.engine: want one of vllm, transformers, got 'VLLM'; did you "
         "mean vllm?"),
        ({"environment": {"environment_kwargs": 3}}, "environment.environment_kwargs: want a mapping of keys to "
         "values, got 3"),
        ({"tracking": {"trackers": 5}}, "tracking.trackers: want a list such as [a, b], got 5"),
        ({"tracking": {"tracking_project": ""}}, "tracking.tracking_project: want at least 1 character(s), got ''"),
        ({"model": {"scratch": {"hidden_size": 50}}}, "model.scratch.hidden_size: want a multiple of 32, got 50"),
        ({"environment": {"id": "grid"}}, "environment.id: unknown key, got 'grid'; did you mean "
         "environment.environment?"),
        ({"environment": {"kwargs": {}}}, "environment.kwargs: unknown key, got {}; did you mean "
         "environment.environment_kwargs?"),
        ({"training": {"save_steps": 5}}, "training.save_steps: unknown key, got 5; here checkpoint.checkpoint_every, "
         "which counts batches, not optimizer steps"),
        ({"model": {"scratch": {}, "use_dora": True}}, "model.use_dora: unknown key, got true; adapters are plain LoRA "
         "(--tuner_type lora, --lora_rank, --lora_alpha, --lora_dropout, --target_modules)"),
        ({"model": {"scratch": {}, "lora_rank": 4}}, "model: lora_rank: want tuner_type: lora with it, "
         "got tuner_type: full"),
        ({"model": {"scratch": {}, "path": "/m"}}, "model.path: unknown key, got '/m'; did you mean model.model?"),
    ],
)  # fmt: skip
def test_a_wrong_value_gets_a_sentence_in_plain_words(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse_spec({**SMALL, **changes})
    assert str(refused.value) == sentence


def test_a_name_of_an_enumeration_is_one_of_its_names() -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(JobState).validate_python("RUNING")
    assert in_words(refused.value.errors()[0]) == (
        "want one of PENDING, QUEUED, RUNNING, PAUSED, SUCCEEDED, FAILED, CANCELLED, got 'RUNING'; "
        "did you mean RUNNING?"
    )


def test_a_pattern_is_never_shown() -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(Annotated[str, Field(pattern=r"^j[0-9a-f]{1,31}$")]).validate_python("x")
    assert in_words(refused.value.errors()[0]) == "want text of another form, got 'x'"


def test_a_missing_section_is_asked_for() -> None:
    with pytest.raises(SpecError, match=r"^model: want a value, none is given$"):
        parse_spec({})


def test_a_model_and_an_environment_may_be_named_by_their_text_alone() -> None:
    short = parse_spec({"model": "job:j1/final", "environment": "sokoban"})
    assert short == parse_spec({"model": {"model": "job:j1/final"}, "environment": {"environment": "sokoban"}})
    assert short.model_dump(exclude_unset=True)["model"] == {"model": "job:j1/final"}
    assert JobSpec.model_validate(short) is short


def test_every_key_says_what_it_is() -> None:
    silent = [name for name, path in flags().items() if not (_field(path).description or "").strip()]
    assert silent == []
