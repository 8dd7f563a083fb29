"""Numbers, curves and texts of the dashboard, each worked out by hand."""

from __future__ import annotations

import pytest

from services.api.dashboard.curves import MOST_POINTS, held_out, point, points, thinned
from services.api.dashboard.formats import ago, brief, in_words, number, percent, signed, size
from services.api.dashboard.spec_text import DEFAULT_SPEC, field_problems, line_of, yaml_problem
from services.contracts.intervals import wilson_interval
from services.contracts.job import parse_spec

yaml = pytest.importorskip("yaml")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (3, "3"), (1234567, "1,234,567"), (0.5, "0.5"), (-0.03, "−0.03"), (2.0, "2"), (12345.6, "12,346"),
     (1.013e-13, "1.0e−13"), (0.123456, "0.1235")],
)  # fmt: skip
def test_numbers_keep_four_significant_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_signs_shares_sizes_and_times_have_their_units() -> None:
    assert [signed(0.25), signed(-0.5), signed(0.0), signed(None)] == ["+0.25", "−0.5", "0", "–"]
    assert [brief(0.25), brief(-0.000343), brief(0.00452), brief(-0.0326), brief(None)] == [
        "+0.25", "0", "+0.005", "−0.033", "–",
    ]  # fmt: skip
    assert [percent(0.473), percent(1.0), percent(None)] == ["47.3 %", "100.0 %", "–"]
    assert [size(0), size(999), size(346_128), size(2_000_000_000)] == ["0 B", "999 B", "346 kB", "2 GB"]
    assert [ago(1_000.0, 1_030.0), ago(1_000.0, 1_300.0), ago(None)] == ["just now", "5 min ago", "–"]


def test_what_an_instance_says_of_itself_is_one_line() -> None:
    detail = {"status": {"job_id": "j1", "version": 3}, "counters": {"asked": 6192, "failed": 0}, "jobs": ["a", "b"]}
    assert in_words(detail) == "job id j1 · version 3 · asked 6,192 · jobs a, b"
    assert in_words({"failed": 0, "jobs": []}) == "–"
    assert in_words({"status": {"version": -1, "state": "idle"}, "counters": {"asked": 0}}) == "state idle"


def test_the_wilson_interval_stays_in_the_unit_interval_and_holds_the_share() -> None:
    low, high = wilson_interval(0.5, 100)
    assert (low, high) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson_interval(0.0, 10)[0] == 0.0
    assert wilson_interval(1.0, 10)[1] == pytest.approx(1.0)
    assert wilson_interval(0.0, 10)[1] == pytest.approx(0.2775, abs=1e-4)


def test_a_point_holds_what_charts_show_and_a_band_where_episodes_are_known() -> None:
    assert point({"batch": 3, "success": None, "strange": 1.0, "kl": 0.1}) == {"batch": 3, "kl": 0.1}
    with_band = point({"batch": 3, "success": 0.5, "episodes": 100})
    assert with_band["success_low"] < 0.5 < with_band["success_high"]


def test_long_curves_are_thinned_and_keep_their_end() -> None:
    rows = points([{"batch": batch} for batch in range(10_001)])
    thin = thinned(rows)
    assert len(thin) <= MOST_POINTS
    assert (thin[0]["batch"], thin[-1]["batch"]) == (0, 10_000)
    assert thinned(rows[:5]) == rows[:5]
    assert thinned([]) == []


def test_a_part_of_a_long_curve_has_every_batch_and_the_totals_of_the_whole() -> None:
    rows = points([{"batch": batch, "env_steps": 10, "tokens": 3} for batch in range(10_001)])
    part = thinned(rows, 4_000, 4_100)
    assert [row["batch"] for row in part] == list(range(4_000, 4_101))
    assert (part[0]["env_steps_so_far"], part[0]["tokens_so_far"]) == (40_010, 12_003)


def test_a_point_knows_how_long_its_job_had_run() -> None:
    rows = [{"batch": 0, "at_unix_s": 130.0}, {"batch": 1, "at_unix_s": 142.0}]
    assert [row["elapsed_s"] for row in points(rows, 100.0)] == [30.0, 42.0]
    assert [row["elapsed_s"] for row in points(rows)] == [0.0, 12.0]


def test_only_the_policy_itself_is_drawn_as_held_out() -> None:
    evaluations = [
        {"label": label, "version": 2, "success": 0.5, "standard_error": 0.1} for label in ("during", "random_actor")
    ]
    assert held_out(evaluations) == [{"batch": 2, "success": 0.5, "error": 0.1}]


def test_the_editor_starts_with_a_spec_that_parses() -> None:
    assert parse_spec(yaml.safe_load(DEFAULT_SPEC)).algorithm.advantage_estimator == "gigpo"


def test_a_problem_knows_the_line_of_its_field_or_of_the_section_around_it() -> None:
    text = "model:\n  scratch: {}\nalgorithm:\n  gamma: 2\n"
    assert [line_of(text, field) for field in ("algorithm.gamma", "algorithm.beta", "rollout", "")] == [
        4,
        3,
        None,
        None,
    ]
    (problem,) = field_problems(text, [("algorithm.gamma", "too large")])
    assert (problem.line, problem.message) == (4, "too large")


def test_a_text_that_is_no_yaml_is_told_with_its_line() -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        yaml.safe_load("a: 1\nb: [1, 2\nc: 3\n")
    assert yaml_problem(caught.value).line == 3
