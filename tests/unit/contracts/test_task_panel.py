"""A panel's id: equal tasks have one wherever they are played, other tasks another."""

from __future__ import annotations

import random
from typing import Any

import pytest

from services.contracts import ids
from services.contracts.environment import EnvironmentInfo
from services.contracts.ids import Purpose
from services.contracts.job import JobSpec, parse_spec
from services.contracts.task_panel import PanelTask, panel_outcome
from services.env.environments.grid import Grid, GridKwargs
from services.env.workers.episode import Episode

SCHEMA: dict[str, Any] = {"properties": {"size": {"type": "integer", "default": 6}, "data": {}, "rows": {}}}
SCHEMA["properties"]["folder"] = {"anyOf": [{"format": "path", "type": "string"}, {"type": "null"}], "default": None}
WORLD = EnvironmentInfo(id="world", kwargs_schema=SCHEMA)
TASKS = [PanelTask(seed, bytes([seed] * 32), outcome) for seed, outcome in ((7, "1"), (2, "0"), (5, "x"), (9, "-"))]


def spec(**environment: Any) -> JobSpec:
    return parse_spec(
        {
            "model": {"scratch": {}},
            "environment": {"environment": "world", "environment_kwargs": {}, **environment},
            "rollout": {"max_completion_length": 6},
        }
    )


def of(tasks: list[PanelTask] = TASKS, **environment: Any) -> str:
    return panel_outcome(spec(**environment), WORLD, tasks).id


def test_the_order_in_which_tasks_are_found_does_not_count() -> None:
    shuffled = random.Random(1).sample(TASKS, len(TASKS))
    assert shuffled != TASKS
    assert panel_outcome(spec(), WORLD, shuffled) == panel_outcome(spec(), WORLD, TASKS)
    assert panel_outcome(spec(), WORLD, TASKS).outcomes == "0x1-"


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({}, {"size": 6}),
        ({"data": "/srv/tasks"}, {"data": "/home/ada/tasks"}),
        ({"data": "/srv/tasks"}, {"data": r"C:\tasks"}),
        ({"folder": "tasks"}, {"folder": "tasks of may"}),
        ({"rows": [{"prompt": "a"}, {"prompt": "b"}]}, {"rows": [{"prompt": "b"}, {"prompt": "a"}]}),
    ],
)
def test_equal_tasks_have_one_id_however_they_are_named(here: dict[str, Any], there: dict[str, Any]) -> None:
    assert of(environment_kwargs=here) == of(environment_kwargs=there)


@pytest.mark.parametrize(
    "environment",
    [
        {"environment_kwargs": {"size": 7}},
        {"environment_kwargs": {"rows": [{"prompt": "a"}]}},
        {"eval_split": "train"},
        {"max_turns": 3},
    ],
)
def test_another_world_makes_another_panel(environment: dict[str, Any]) -> None:
    assert of(**environment) != of()


@pytest.mark.parametrize(
    "tasks",
    [
        TASKS[:-1],
        [*TASKS[:-1], PanelTask(8, TASKS[-1].first, "1")],
        [*TASKS[:-1], PanelTask(9, bytes(32), "1")],
        [*TASKS[:-1], PanelTask(9, b"", "-")],
    ],
)
def test_other_tasks_make_another_panel(tasks: list[PanelTask]) -> None:
    assert of(tasks) != of()


def test_what_becomes_of_the_tasks_does_not_count() -> None:
    lost = [PanelTask(task.seed, task.first, "0") for task in TASKS]
    assert of(lost) == of()


def test_the_panel_of_the_grid_is_the_same_on_every_machine() -> None:
    tasks = []
    for cursor in range(8):
        seed = ids.task_seed(0, Purpose.EVALUATION, cursor)
        seen = Episode(Grid(kwargs := GridKwargs()), kwargs).reset(seed, "test")
        tasks.append(PanelTask(seed, seen.state_key + seen.anchor_key, "1"))
    assert of(tasks) == "0762568b64ec9ce9"
