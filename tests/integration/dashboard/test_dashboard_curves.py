"""Curves as somebody works with them who knows W&B: smoothing, zoom, axes, one cursor, downloads, comparison."""

from __future__ import annotations

import csv
import re
import time
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.integration.api.api_process import ApiProcess
from tests.integration.dashboard.conftest import Visitor, until
from tests.integration.dashboard.small_jobs import metrics, submitted

LONG = 2_000
DRAWN = '([key, label]) => Chart.getChart(document.querySelector(`[data-panel="${key}"] canvas`)).data.datasets'
LINE = f"async (of) => ({DRAWN})(of).find((set) => set.label === of[1]).data"


def line(page: Page, panel: str, label: str) -> list[dict[str, float]]:
    """The points of one line as they are drawn."""
    page.locator(f'[data-panel="{panel}"]').scroll_into_view_if_needed()
    until(page, '(of) => !!window.Chart?.getChart(document.querySelector(`[data-panel="${of}"] canvas`))', panel)
    found: list[dict[str, float]] = page.evaluate(LINE, [panel, label])
    return found


def zoomed(page: Page, low: int, high: int) -> None:
    """Ask for a range, and wait until its rows have come."""
    page.get_by_label("From", exact=True).fill(str(low))
    page.get_by_label("To", exact=True).fill(str(high))
    with page.expect_response(re.compile(f"/compare/curves.*high={high // 10}[0-9]$")):
        page.get_by_label("To", exact=True).press("Tab")


def stored(http: httpx.Client, job: str, batches: int) -> None:
    while len(http.get(f"/v1/jobs/{job}/metrics?shape=list").json()) < batches:  # pytest's timeout is the deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def long_job(api: ApiProcess) -> str:
    """2,000 batches of 100 environment steps and 40 tokens each; success goes to and fro."""
    with httpx.Client(base_url=api.url, timeout=30) as http:
        job = submitted(http, "long")
        api.say(job, "state", state="RUNNING")
        for batch in range(LONG):
            more = {"env_steps": 100, "tokens": 40, "wait_s": 3.0, "train_s": 2.0, "publish_s": 1.0}
            api.say(job, "metrics", **metrics(batch, 0.25 + 0.5 * (batch % 2)), **more, at_unix_s=1_000.0 + batch)
        stored(http, job, LONG)
    return job


def test_zooming_in_brings_the_batches_that_were_left_out(visitor: Visitor, long_job: str) -> None:
    page = visitor.open(f"/jobs/{long_job}")
    assert 100 < len(line(page, "success", "training")) <= 600
    zoomed(page, 500, 600)
    inside = f"async (of) => (await ({LINE})(of)).filter((p) => p.x >= 500 && p.x <= 600).length"
    until(page, f"async (of) => (await ({inside})(of)) === 101", ["success", "training"])
    scale = "Chart.getChart(document.querySelector('[data-panel=\"kl\"] canvas')).scales.x"
    line(page, "kl", "KL")
    assert page.evaluate(f"[{scale}.min, {scale}.max]") == [500, 600]  # of every chart
    page.get_by_role("button", name="All", exact=True).click()
    assert page.evaluate(f"[{scale}.min, {scale}.max]") == [0, LONG - 1]


def test_a_range_is_dragged_over_a_chart_and_a_double_click_shows_all(visitor: Visitor, long_job: str) -> None:
    page = visitor.open(f"/jobs/{long_job}")
    line(page, "success", "training")
    canvas = page.locator('[data-panel="success"] canvas')
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 70, steps=5)
    page.mouse.up()
    low = page.get_by_label("From", exact=True)
    expect(low).not_to_have_value("")
    assert 400 < float(low.input_value()) < float(page.get_by_label("To", exact=True).input_value()) < 1_600
    canvas.dblclick()
    expect(low).to_have_value("")


def test_smoothing_draws_the_average_before_what_was_measured_and_is_kept(visitor: Visitor, long_job: str) -> None:
    page = visitor.open(f"/jobs/{long_job}")
    page.get_by_label("Smoothing").fill("0.9")
    expect(page.get_by_text("0.9", exact=True)).to_be_visible()
    smooth = line(page, "success", "training")
    assert {point["raw"] for point in smooth} <= {0.25, 0.75}
    assert abs(smooth[-1]["y"] - smooth[-2]["y"]) < 0.1
    assert [point["y"] for point in line(page, "success", "_raw")] == [point["raw"] for point in smooth]
    page.reload()
    assert line(page, "success", "training")[-1]["y"] == smooth[-1]["y"]


@pytest.mark.parametrize(
    ("axis", "last"),
    [("batches", LONG - 1), ("environment steps", 100 * LONG), ("tokens", 40 * LONG), ("time", LONG - 1)],
)
def test_the_x_axis_is_what_was_chosen(visitor: Visitor, long_job: str, axis: str, last: float) -> None:
    page = visitor.open(f"/jobs/{long_job}")
    page.get_by_label("X axis").select_option(axis)
    assert line(page, "success", "training")[-1]["x"] == last


def test_live_batches_continue_the_totals_of_the_axis(visitor: Visitor, api: ApiProcess, http: httpx.Client) -> None:
    job = submitted(http, "live-totals")
    api.say(job, "state", state="RUNNING")
    for batch in range(2):
        api.say(job, "metrics", **metrics(batch, 0.5), env_steps=100)
    stored(http, job, 2)
    page = visitor.open(f"/jobs/{job}")
    page.get_by_label("X axis").select_option("environment steps")
    api.say(job, "metrics", **metrics(2, 0.75), env_steps=50)
    expect(page.get_by_role("img", name=re.compile("^Success.*75 % at batch 2"))).to_be_visible()
    assert [point["x"] for point in line(page, "success", "training")] == [100, 200, 250]


def test_log_scale_and_outliers_change_the_y_axis_of_lines(visitor: Visitor, long_job: str) -> None:
    page = visitor.open(f"/jobs/{long_job}")
    line(page, "entropy", "entropy")
    kind = '(key) => Chart.getChart(document.querySelector(`[data-panel="${key}"] canvas`)).scales.y.type'
    page.get_by_label("Log scale").check()
    assert page.evaluate(kind, "entropy") == "logarithmic"
    line(page, "time", "rollout")
    assert page.evaluate(kind, "time") == "linear"  # parts of a whole are stacked


def test_the_keyboard_moves_one_cursor_over_all_charts_and_zooms(visitor: Visitor, long_job: str) -> None:
    page = visitor.open(f"/jobs/{long_job}")
    line(page, "return", "return")
    canvas = page.get_by_role("img", name=re.compile("^Success"))
    canvas.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    told = "Chart.getChart(document.querySelector('[data-panel=\"return\"] canvas')).tooltip"
    until(page, f"{told}.getActiveElements().length === 1 && {told}.title[0] === 'batch 1,991'")
    page.keyboard.press("+")
    expect(page.get_by_label("From", exact=True)).to_have_value(re.compile("^149[0-9]$"))
    page.keyboard.press("0")
    expect(page.get_by_label("From", exact=True)).to_have_value("")


def test_a_chart_is_hidden_shown_again_and_fills_the_screen(visitor: Visitor, long_job: str) -> None:
    page = visitor.open(f"/jobs/{long_job}")
    loss = page.get_by_role("img", name=re.compile("^Entropy"))
    menu = page.get_by_label("Entropy: what to do")
    menu.click()
    page.locator('[data-panel="entropy"]').get_by_role("button", name="Full screen").click()
    until(page, "document.fullscreenElement?.dataset.panel === 'entropy'")
    page.evaluate("document.exitFullscreen()")
    menu.click()
    page.locator('[data-panel="entropy"]').get_by_role("button", name="Hide").click()
    expect(loss).to_be_hidden()
    page.reload()
    expect(page.get_by_text("1 hidden")).to_be_visible()
    expect(loss).to_be_hidden()
    page.get_by_text("1 hidden").click()
    page.get_by_label("Entropy", exact=True).check()
    expect(loss).to_be_visible()


def test_a_chart_is_saved_as_picture_and_table(visitor: Visitor, long_job: str, tmp_path: Path) -> None:
    page = visitor.open(f"/jobs/{long_job}")
    zoomed(page, 10, 40)
    saved: dict[str, Path] = {}
    for kind in ("PNG", "CSV"):
        line(page, "success", "training")
        page.get_by_label("Success: what to do").click()
        with page.expect_download() as download:
            page.locator('[data-panel="success"]').get_by_role("button", name=f"Save as {kind}").click()
        saved[kind] = tmp_path / download.value.suggested_filename
        download.value.save_as(saved[kind])
    assert saved["PNG"].read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(saved["CSV"].read_text().splitlines()))
    assert [int(row["batch"]) for row in rows] == list(range(10, 41))
    assert (rows[0]["env_steps"], rows[0]["tokens"], rows[0]["success"]) == ("1100", "440", "0.25")


def seeded(http: httpx.Client, name: str, seed: int, **algorithm: float) -> str:
    spec = {"name": name, "model": {"scratch": {}}, "rollout": {"max_completion_length": 6},
            "training": {"seed": seed}, "algorithm": {"advantage_estimator": "gigpo", **algorithm}}  # fmt: skip
    return str(http.post("/v1/jobs", json=spec).raise_for_status().json()["id"])


def test_a_comparison_begins_with_the_difference_and_draws_what_its_titles_say(
    visitor: Visitor, api: ApiProcess, http: httpx.Client
) -> None:
    jobs = [seeded(http, "a-s0", 0), seeded(http, "a-s1", 1), seeded(http, "b", 0, gamma=0.5)]
    for job, success in zip(jobs, (0.2, 0.6, 0.9), strict=True):
        for batch in range(3):
            api.say(job, "metrics", **metrics(batch, success), wait_s=3.0, train_s=2.0, publish_s=1.0)
        stored(http, job, 3)
    page = visitor.open("/compare")
    for name in ("a-s0", "a-s1", "b"):
        page.get_by_role("checkbox", name=re.compile(f"^{name} ")).check()
    page.get_by_role("button", name="Compare").click()

    different = page.get_by_role("table").first
    expect(different.get_by_role("rowheader")).to_have_text(["algorithm.gamma", "training.seed"])
    expect(different.get_by_role("row", name=re.compile("^algorithm.gamma"))).to_contain_text("0.5")
    assert [point["y"] for point in line(page, "success.success", "a, 2 seeds")] == pytest.approx([0.4] * 3)
    bands = f"async (of) => ({DRAWN})(of).filter((set) => set.label === '_high').map((set) => set.data[0].y)"
    assert page.evaluate(bands, ["success.success", ""])[1] == pytest.approx(0.6)  # the newest job is the first line
    for part, seconds in (("time_whole", 6.0), ("wait_s", 3.0), ("train_s", 2.0), ("publish_s", 1.0)):
        assert {point["y"] for point in line(page, f"time.{part}", "b")} == {seconds}
    page.get_by_label("Jobs that differ in their seed only").select_option("each")
    page.get_by_role("button", name="Show").click()
    for name, success in (("a-s0", 0.2), ("a-s1", 0.6), ("b", 0.9)):
        assert {point["y"] for point in line(page, "success.success", name)} == {success}
