"""Confidence intervals against hand-worked values, and what a comparison makes of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigpo.client.budget import Result
from gigpo.client.compare import comparison_cells, comparison_rows, contrasts
from gigpo.client.comparison_report import cells, comparison_html, comparison_png, notes, rows_csv, rows_json
from gigpo.client.document import default_document
from gigpo.client.statistics import mean_interval, steps_to_reach, t_quantile_975
from services.contracts.job import parse_spec


def test_the_interval_of_three_values_is_the_hand_worked_one() -> None:
    interval = mean_interval([0.8, 0.9, 1.0])
    assert interval is not None
    assert interval.mean == pytest.approx(0.9)
    assert interval.half_width == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-6)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    one = mean_interval([0.5])
    assert one is not None
    assert (one.mean, one.half_width, str(one)) == (0.5, None, "0.500")
    assert mean_interval([]) is None


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 12.706), (4, 2.776), (30, 2.042), (40, 2.021), (120, 1.980)])
def test_t_quantiles_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    assert t_quantile_975(degrees) == pytest.approx(quantile, abs=2e-3)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=40), st.floats(-5, 5))
def test_shifting_all_values_shifts_the_mean_and_keeps_the_width(values: list[float], by: float) -> None:
    plain, shifted = mean_interval(values), mean_interval([value + by for value in values])
    assert plain is not None
    assert shifted is not None
    assert shifted.mean == pytest.approx(plain.mean + by, abs=1e-9)
    assert shifted.half_width == pytest.approx(plain.half_width, abs=1e-9)


def test_a_threshold_is_reached_when_the_running_mean_gets_there() -> None:
    curve = [(float(x), 1.0 if x >= 4 else 0.0) for x in range(10)]
    assert steps_to_reach(curve, 1.0, window=3) == 6.0
    assert steps_to_reach(curve, 0.6, window=3) == 5.0
    assert steps_to_reach(curve[:4], 0.5, window=3) is None


def test_the_jobs_of_a_comparison_differ_in_estimator_seed_and_name_only() -> None:
    document = default_document()
    document["algorithm"]["gigpo_step_advantage_weight"] = 2.0
    found = comparison_cells(document, "c", ["grpo", "gigpo"], [0, 1])
    assert [cell.name for cell in found] == ["grpo-s0", "gigpo-s0", "grpo-s1", "gigpo-s1"]
    specs = [parse_spec(cell.spec) for cell in found]
    for cell, spec in zip(found, specs, strict=True):
        assert (spec.algorithm.advantage_estimator, spec.training.seed) == (cell.estimator, cell.seed)
        assert spec.algorithm.norm == specs[0].algorithm.norm
        assert spec.algorithm.entropy_coef == specs[0].algorithm.entropy_coef
        assert spec.evaluation == specs[0].evaluation
    assert specs[1].algorithm.gigpo_step_advantage_weight == 2.0
    assert len({cell.sha for cell in found}) == 4
    assert found == comparison_cells(document, "c", ["grpo", "gigpo"], [0, 1])


def test_each_job_of_a_comparison_keeps_the_keys_of_its_own_estimator() -> None:
    document = default_document()
    document["algorithm"].update(anchor_state="exact", hgpo_alpha=2.0, graphgpo_success_reward=5.0, norm="mean_std")
    found = comparison_cells(document, "c", ["grpo", "rloo", "gigpo", "hgpo", "graphgpo", "gagpo", "g2po"], [0])
    made = {cell.estimator: parse_spec(cell.spec).algorithm for cell in found}
    assert [name for name, one in made.items() if one.norm == "mean_std"] == [
        "grpo",
        "gigpo",
        "hgpo",
        "graphgpo",
        "gagpo",
        "g2po",
    ]
    assert [name for name, one in made.items() if one.anchor_state == "exact"] == [
        "gigpo",
        "hgpo",
        "graphgpo",
        "gagpo",
        "g2po",
    ]
    assert [name for name, one in made.items() if one.hgpo_alpha == 2.0] == ["hgpo"]
    assert [name for name, one in made.items() if one.graphgpo_success_reward == 5.0] == ["graphgpo"]


@pytest.mark.parametrize(
    ("given", "subtracting"),
    [
        ({}, []),
        ({"kl_in_reward": None, "kl_estimator": "k1"}, []),
        ({"beta": 0.0}, []),
        ({"kl_in_reward": True}, ["grpo", "rloo", "reinforce_plus_plus"]),
    ],
)
def test_the_kl_is_in_one_place_for_all_jobs_of_a_comparison(given: dict[str, Any], subtracting: list[str]) -> None:
    document = default_document()
    document["algorithm"].update(given)
    found = comparison_cells(document, "c", ["grpo", "rloo", "reinforce_plus_plus"], [0])
    assert [cell.estimator for cell in found if parse_spec(cell.spec).algorithm.subtracts_kl] == subtracting


def test_a_comparison_with_rloo_says_that_it_is_unscaled() -> None:
    with_rloo, without = comparison_rows([], ["rloo", "gigpo"], 0.8), comparison_rows([], ["grpo", "gigpo"], 0.8)
    assert notes(without) == []
    (note,) = notes(with_rloo)
    assert note.startswith("rloo is unscaled")
    assert note in comparison_html("c", with_rloo, [], 0.8, b"")
    assert note not in comparison_html("c", without, [], 0.8, b"")


def results() -> list[Result]:
    def one(estimator: str, seed: int, after: float) -> Result:
        measured = {"label": "after", "version": 20, "episodes": 100, "success": after, "standard_error": 0.04}
        shape = {"return_mean": after, "length_mean": 3.0, "invalid_share": 0.0, "split": "test"}
        evaluations: Any = [{**measured, **shape}]
        summary: dict[str, Any] = {"success_before": 0.1, "env_steps": 1000, "evaluations": evaluations}
        metrics = [{"batch": batch, "success": min(1.0, batch * after / 10)} for batch in range(20)]
        return Result(estimator, seed, summary, metrics)

    return [one("grpo", 0, 0.7), one("grpo", 1, 0.8), one("gigpo", 0, 0.9), one("gigpo", 1, 0.96)]


def test_rows_hold_means_over_seeds_and_differences_are_paired() -> None:
    rows = comparison_rows(results(), ["grpo", "gigpo"], 0.8)
    assert [row.estimator for row in rows] == ["grpo", "gigpo"]
    assert rows[0].success_after is not None
    assert rows[0].success_after.mean == pytest.approx(0.75)
    assert rows[1].reached == 2
    (found,) = contrasts(results(), ["grpo", "gigpo"])
    assert (found.first, found.second, found.seeds, found.tasks) == ("gigpo", "grpo", 2, 0)
    assert found.difference == pytest.approx(0.18)


def test_a_comparison_is_shown_as_table_picture_and_one_file() -> None:
    rows, paired = comparison_rows(results(), ["grpo", "gigpo"], 0.8), contrasts(results(), ["grpo", "gigpo"])
    png = comparison_png(results(), rows, 0.8)
    assert png.startswith(b"\x89PNG")
    html = comparison_html("<c>", rows, paired, 0.8, png)
    assert "&lt;c&gt;" in html
    assert "data:image/png;base64," in html
    assert rows_csv(rows, 0.8).count("\n") == 3
    assert rows_json(rows, paired)["rows"][0]["estimator"] == "grpo"
    assert cells(rows[0])[3] == "0.750 ± 0.635"


def test_an_estimator_without_results_is_shown_as_such() -> None:
    (row,) = comparison_rows([], ["grpo"], 0.8)
    assert cells(row) == ["grpo", "0", "–", "–", "–", "–", "–", "–", "–"]
    assert comparison_png([], [row], 0.8).startswith(b"\x89PNG")
