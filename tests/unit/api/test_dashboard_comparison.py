"""Jobs beside each other: seeds together, every chart as its title says, and what differs in the specs."""

from __future__ import annotations

from typing import Any

import pytest

from services.api.dashboard.comparison import (
    Difference,
    Told,
    differences,
    groups_of,
    line_name,
    panels_measured,
    run_document,
)
from services.api.dashboard.curves import comparison_panels, mean_held_out, mean_over_seeds, point
from services.api.sql.tables import JobRow


def job(name: str, seed: int = 0, **algorithm: Any) -> JobRow:
    spec = {"name": name, "training": {"seed": seed, "sizes": [1, 2]}, "algorithm": {"gamma": 0.95, **algorithm}}
    return JobRow(id=f"j{name}", name=name, spec=spec, seed=seed)


def test_jobs_that_differ_in_name_and_seed_only_are_one_line() -> None:
    a, b, other = job("a-s0"), job("a-s1", 1), job("b", gamma=0.9)
    assert groups_of([a, other, b], "mean") == [[a, b], [other]]
    assert groups_of([a, other, b], "each") == [[a], [other], [b]]


def test_specs_differ_in_what_is_not_the_same_and_never_in_names() -> None:
    groups = groups_of([job("a-s0"), job("a-s1", 1), job("b", gamma=0.9, beta=None)], "mean")
    assert differences(groups) == [
        Difference("training.seed", ("0, 1", "0")),
        Difference("algorithm.gamma", ("0.95", "0.9")),
        Difference("algorithm.beta", ("–", "null")),
    ]
    assert differences(groups_of([job("a"), job("b")], "each")) == []


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["alone"], "alone"),
        (["grid-s0", "grid-s1", "grid-s12"], "grid, 3 seeds"),
        (["grid-seed1", "grid-seed12"], "grid, 2 seeds"),
        (["x", "y"], "x, 2 seeds"),
    ],
)
def test_a_line_is_called_by_what_its_names_share(names: list[str], line: str) -> None:
    assert line_name([job(name, seed) for seed, name in enumerate(names)]) == line


def test_the_panels_that_jobs_were_measured_on_are_counted() -> None:
    told = [Told([], [{"label": "after", "panel": panel}]) for panel in ("a", "a", "b", None)]
    assert panels_measured([*told, Told([], [{"label": "before", "panel": "c"}])]) == 2
    assert panels_measured(told[:2]) == 1


def test_jobs_of_one_seed_are_not_called_seeds() -> None:
    assert line_name([job("grid-a"), job("grid-b")]) == "grid, 2 jobs"


def test_a_mean_over_seeds_has_the_range_of_the_seeds_as_its_band() -> None:
    first = [{"batch": 0, "success": 0.2, "success_low": 0.1, "env_steps_so_far": 10.0}, {"batch": 1, "success": 0.4}]
    second = [{"batch": 0, "success": 0.6, "success_low": 0.5, "env_steps_so_far": 30.0}]
    (row,) = mean_over_seeds([first, second])
    assert row == pytest.approx(
        {"batch": 0, "success": 0.4, "success_low": 0.2, "success_high": 0.6, "env_steps_so_far": 20.0}
    )
    assert mean_over_seeds([]) == []


def test_the_error_of_a_mean_of_evaluations_is_that_of_independent_ones() -> None:
    runs = [[{"batch": 4, "success": s, "error": e}] for s, e in ((0.5, 0.03), (0.7, 0.04))]
    (one,) = mean_held_out(runs)
    assert one == pytest.approx({"batch": 4, "success": 0.6, "error": 0.025})
    assert mean_held_out([runs[0], []]) == []


def test_every_chart_of_a_comparison_draws_one_thing_and_its_title_says_which() -> None:
    panels = comparison_panels()
    assert all(len(panel.series) == 1 and panel.kind != "stack" for panel in panels)
    assert len({panel.key for panel in panels}) == len(panels)
    of_time = [panel.title for panel in panels if panel.key.startswith("time.")]
    assert of_time == [f"Time of a batch: {part}" for part in ("the whole", "rollout", "training", "publishing")]
    assert point({"batch": 0, "wait_s": 4.0, "train_s": 3.0, "publish_s": 1.0})["time_whole"] == 8.0


def test_a_group_of_one_keeps_its_own_intervals() -> None:
    told = Told([{"batch": 0, "success": 0.5, "episodes": 100}], [])
    assert run_document([job("a")], [told])["rows"][0]["success_low"] == pytest.approx(0.4038, abs=1e-4)


def test_each_member_of_a_mixture_has_charts_of_its_own() -> None:
    titles = {panel.title: panel.series for panel in comparison_panels(["far", "near"])}
    assert titles["Success by member: near"] == (("success/near", "near"),)
    assert {"Return by member: far", "Episodes by member: far"} <= titles.keys()
    assert "Success by member: near" not in {panel.title for panel in comparison_panels()}
