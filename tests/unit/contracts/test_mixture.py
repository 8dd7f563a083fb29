"""Mixtures: which member a group is of, what its spec is, and what is refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from services.contracts.environment import EnvironmentInfo
from services.contracts.ids import Purpose
from services.contracts.job import JobSpec, SpecError, parse_spec

SMALL = {"member": "small", "weight": 3, "environment_kwargs": {"size": [3]}}
BOXES = {"member": "boxes", "environment": "sokoban", "max_turns": 5, "eval_split": "other"}


def spec(members: list[dict[str, Any]], seed: int = 0, **section: Any) -> JobSpec:
    return parse_spec(
        {
            "model": {"scratch": {}},
            "environment": {"max_turns": 10, "environment_kwargs": {"goal": "corner"}, "mixture": members, **section},
            "rollout": {"max_completion_length": 6},
            "training": {"seed": seed},
        }
    )


def test_a_member_replaces_keys_of_the_section_and_keeps_the_others() -> None:
    parts = spec([SMALL, BOXES]).parts
    small, boxes = parts["small"].environment, parts["boxes"].environment
    assert (small.environment, small.environment_kwargs, small.max_turns) == ("grid", {"size": [3]}, 10)
    assert (boxes.environment, boxes.environment_kwargs, boxes.max_turns) == ("sokoban", {"goal": "corner"}, 5)
    assert (small.eval_split, boxes.eval_split) == ("test", "other")
    assert small.mixture == boxes.mixture == []
    alone = spec([])
    assert alone.parts == {"": alone}
    assert alone.member_at(Purpose.TRAINING, 7) == ""


def test_groups_are_of_members_by_weight_and_by_seed_alone() -> None:
    mixed = spec([SMALL, BOXES])
    drawn = [mixed.member_at(Purpose.TRAINING, cursor) for cursor in range(4_000)]
    assert Counter(drawn)["small"] / 4_000 == pytest.approx(0.75, abs=0.03)
    assert drawn == [spec([SMALL, BOXES]).member_at(Purpose.TRAINING, cursor) for cursor in range(4_000)]
    assert drawn != [spec([SMALL, BOXES], seed=1).member_at(Purpose.TRAINING, cursor) for cursor in range(4_000)]
    heavy = spec([{**SMALL, "weight": 1e6}, {**BOXES, "weight": 1e-3}])
    assert {heavy.member_at(Purpose.TRAINING, cursor) for cursor in range(100)} == {"small"}


def test_groups_keep_their_names_without_a_mixture_and_have_others_with_one() -> None:
    assert spec([]).fingerprint() == "398534251769afd739b0829683fdd96e"  # as before there were mixtures
    names = [spec([]), spec([SMALL]), spec([{**SMALL, "weight": 2}]), spec([], environment_rows=[{"size": [3]}])]
    assert len({one.fingerprint() for one in names}) == 4


def test_each_task_takes_one_row_of_kwargs() -> None:
    section = spec([], environment_rows=[{"size": [3]}, {"size": [4]}]).environment
    assert [section.row(seed) for seed in (0, 1, 2)] == [{"size": [3]}, {"size": [4]}, {"size": [3]}]
    assert spec([]).environment.row(3) == {}
    own = spec([{**SMALL, "environment_rows": [{"size": [5]}]}], environment_rows=[{"size": [3]}])
    assert own.part("small").environment.row(1) == {"size": [5]}


@pytest.mark.parametrize(
    ("members", "field", "sentence"),
    [
        ([{**SMALL, "member": "A b"}], "mixture.0.member", "small letters"),
        ([SMALL, SMALL], "mixture", "want names that differ, got small twice"),
        ([{**SMALL, "max_turns": 11}], "", "mixture.0.max_turns: want at most max_turns = 10 of the section"),
        ([{**SMALL, "weight": 0}], "mixture.0.weight", "want a number > 0"),
        ([{**SMALL, "enviroment": "grid"}], "mixture.0.enviroment", "unknown key"),
        ([SMALL, {**BOXES, "environment": "prompts"}], "", "environment.mixture.1: use_gym_env: want false"),
        ([{**SMALL, "environment_kwargs": {"max_turns": 3}}], "", "mixture.0: environment_kwargs.max_turns"),
        ([{**SMALL, "environment_rows": [{}, {"rewards": 1}]}], "", "environment_rows.1.rewards"),
        ([{**SMALL, "prompt_template": "grid/v9"}], "", "mixture.0.prompt_template: unknown prompt template"),
        ({"small": SMALL}, "mixture", "want a list"),
    ],
)  # fmt: skip
def test_a_wrong_member_is_named(members: Any, field: str, sentence: str) -> None:
    with pytest.raises(SpecError) as refused:
        spec(members)
    assert any(place.endswith(field) and sentence in said for place, said in refused.value.problems)


def test_a_member_is_refused_for_what_would_refuse_a_job_of_it() -> None:
    with pytest.raises(SpecError, match=r"environment.mixture.0: interaction: want max_turns > 1"):
        spec([{**SMALL, "max_turns": 1}], interaction="conversation")


def test_environments_are_described_as_one() -> None:
    grid = EnvironmentInfo(id="grid", deterministic=True, vocabulary=["go", "left"], prompt_template="grid/v1")
    boxes = EnvironmentInfo(id="sokoban", gives_anchors=False, vocabulary=["push"])
    mixed = EnvironmentInfo.mixed({"small": grid, "boxes": boxes, "large": grid})
    assert (mixed.id, mixed.deterministic, mixed.gives_anchors) == ("grid+sokoban", False, False)
    assert mixed.vocabulary == ["go", "left", "push"]
    assert (mixed.part("large"), EnvironmentInfo.mixed({"": grid})) == (grid, grid)
    assert EnvironmentInfo.mixed({"a": grid, "b": EnvironmentInfo(id="x")}).vocabulary == []
    assert EnvironmentInfo.model_validate_json(mixed.model_dump_json()) == mixed


def test_a_tokenizer_from_scratch_knows_the_words_of_each_member() -> None:
    grid = EnvironmentInfo(id="grid", vocabulary=["left"], prompt_template="grid/v1")
    boxes = EnvironmentInfo(id="sokoban", vocabulary=["push"])
    words = EnvironmentInfo.mixed({"small": grid, "boxes": boxes}).scratch_words(spec([SMALL, BOXES]))
    assert {"left", "push", *grid.scratch_words(spec([])), *boxes.scratch_words(spec([]))} == {*words}
