"""A phone opens what is wider than its screen: the timeline of a job, and the menu of charts."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import expect

from tests.integration.api.api_process import ApiProcess
from tests.integration.dashboard.conftest import Visitor
from tests.integration.dashboard.small_jobs import metrics, submitted
from tests.integration.dashboard.test_dashboard_log import said

WIDTH = 390
PHONE = {"viewport": {"width": WIDTH, "height": 844}, "has_touch": True, "is_mobile": True}
PHASES = ("warmstart", "publish", "evaluation", "training", "evaluation", "training", "export")


@pytest.fixture(scope="module")
def job(api: ApiProcess) -> str:
    """A job that has gone through many phases."""
    with httpx.Client(base_url=api.url, timeout=30) as http:
        job = submitted(http, "phone")
        api.say(job, "state", state="RUNNING")
        for phase in PHASES:
            api.say(job, "phase", phase=phase)
        said(http, job, api.say(job, "metrics", **metrics(0, 0.5)))
    return job


@pytest.mark.parametrize("visitor", [PHONE], indirect=True, ids=["phone"])
def test_the_timeline_stays_within_a_phone(visitor: Visitor, job: str) -> None:
    page = visitor.open(f"/jobs/{job}/log")
    timeline = page.get_by_role("region", name="Timeline of the phases")
    expect(timeline).to_be_visible()
    box = timeline.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= WIDTH
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH
    for phase in set(PHASES):
        expect(page.get_by_role("img", name=phase).first).to_be_attached()


@pytest.mark.parametrize("visitor", [PHONE], indirect=True, ids=["phone"])
def test_the_menu_of_charts_opens_within_a_phone_and_hides_a_chart(visitor: Visitor, job: str) -> None:
    page = visitor.open(f"/jobs/{job}")
    summary = page.locator("#chart-tools .menu > summary")
    summary.tap()
    boxes = page.locator("#chart-tools .menu input[name=panel]")
    expect(boxes.first).to_be_visible()
    for place in (summary, boxes.first, page.locator("#chart-tools .menu > ul")):
        box = place.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= WIDTH
    first = page.locator("#charts .chart").first
    expect(first).to_be_visible()
    boxes.first.tap()
    expect(first).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH
