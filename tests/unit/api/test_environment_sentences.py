"""Sentences about a job whose environment, or a key of it, is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from services.api.jobs.checks import installed_problems
from services.contracts.job import parse_spec

SCHEMA: dict[str, Any] = {
    "additionalProperties": False,
    "required": ["id"],
    "properties": {
        "id": {"type": "string", "pattern": r"^[\w-]+$", "description": "A registered id, such as Lake-v1."},
        "size": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 12}, "minItems": 1},
        "walls": {"type": "integer", "minimum": 0},
        "goal": {"enum": ["corner", "furniture"], "type": "string"},
        "name": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
}
GRID = {"info": {"id": "grid", "kwargs_schema": SCHEMA, "vocabulary": ["a"]}, "available": True}


def said(environment: str, **kwargs: Any) -> str:
    document = {"model": {"scratch": {}}, "rollout": {"max_completion_length": 8}}
    section = {"environment": environment, "environment_kwargs": kwargs}
    (sentence,) = installed_problems(parse_spec({**document, "environment": section}), [GRID])
    return sentence


def test_an_environment_that_is_misspelt_is_found() -> None:
    assert said("gird", id="x").endswith("unknown environment 'gird', known: grid; did you mean grid?")
    assert said("elevator", id="x").endswith("unknown environment 'elevator', known: grid")


@pytest.mark.parametrize(
    ("kwargs", "key", "words"),
    [
        ({"size": 2}, "size", "environment grid wants list of integer from 1 to 12, got 2"),
        ({"size": ["a"]}, "size.0", "environment grid wants integer from 1 to 12, got 'a'"),
        ({"size": []}, "size", "environment grid wants at least 1 value(s), got []"),
        ({"walls": -1}, "walls", "environment grid wants integer from 0, got -1"),
        ({"goal": "center"}, "goal", "environment grid wants corner or furniture, got 'center'"),
        ({"name": 3}, "name", "environment grid wants string or null, got 3"),
        ({"id": "a b"}, "id", "environment grid wants another text (A registered id, such as Lake-v1), got 'a b'"),
        ({"sizes": [3]}, "sizes", "unknown key of environment grid, known: goal, id, name, size, walls; did you mean "
         "size?"),
    ],
)  # fmt: skip
def test_a_key_is_told_in_plain_words(kwargs: dict[str, Any], key: str, words: str) -> None:
    assert said("grid", **{"id": "x", **kwargs}) == f"environment.environment_kwargs.{key}: {words}"


def test_a_key_that_is_missing_is_named() -> None:
    assert said("grid") == "environment.environment_kwargs.id: environment grid wants it, none is given"


def test_a_problem_of_a_member_is_told_at_its_place() -> None:
    members = [
        {"member": "a", "environment_kwargs": {"id": "x", "size": 2}},
        {"member": "b", "environment": "gird"},
        {"member": "c", "environment_rows": [{"id": "x"}, {"id": "x", "walls": -1}]},
    ]
    section = {"environment": "grid", "environment_kwargs": {"id": "x"}, "eval_split": "none", "mixture": members}
    spec = parse_spec({"model": {"scratch": {}}, "rollout": {"max_completion_length": 8}, "environment": section})
    found = [sentence.partition(": ")[0] for sentence in installed_problems(spec, [GRID])]
    assert found == [
        "environment.mixture.0.environment_kwargs.size",
        "environment.eval_split",  # the section's own key, told once
        "environment.mixture.1.environment",
        "environment.mixture.2.environment_rows.1.walls",
    ]
