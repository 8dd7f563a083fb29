"""A job of 1,000 groups and 100,000 steps: its pages hold what is looked at, and bring the rest when it is wanted."""

from __future__ import annotations

import re

import httpx
from playwright.sync_api import expect

from tests.integration.api.api_process import ApiProcess
from tests.integration.dashboard.conftest import Visitor, folder_of
from tests.integration.dashboard.small_jobs import submitted
from tests.integration.dashboard.walks import group_id, write_walks


def test_a_hundred_thousand_steps_open_and_scroll(visitor: Visitor, api: ApiProcess, http: httpx.Client) -> None:
    job = submitted(http, "large")
    assert write_walks(folder_of(api, job), groups=1_000, groups_per_batch=250, episodes=10, steps=10) == 100_000
    page = visitor.open(f"/jobs/{job}/rollouts")
    rows = page.locator("#rows tr:not(.more)")
    expect(rows).to_have_count(50)
    while rows.count() < 300:  # over the end of the newest batch; pytest's timeout is the deadline
        page.keyboard.press("End")
    expect(page.get_by_role("link", name="walk 999 to the far corner", exact=True)).to_have_count(1)
    expect(page.get_by_role("link", name="walk 749 to the far corner", exact=True)).to_have_count(0)

    page.get_by_label("Solved").select_option("by none")
    page.get_by_role("button", name="Filter").click()
    expect(page).to_have_url(re.compile("won=none"))
    for row in rows.all():
        expect(row).to_contain_text("0/10")

    visitor.open(f"/jobs/{job}/rollouts/{group_id(3)}")
    expect(page.locator(".step")).to_have_count(100)
    page.get_by_role("link", name="Anchor view").click()
    expect(page.get_by_text("10 episodes went through")).to_be_visible()


def test_a_thousand_groups_of_one_batch_are_one_list_to_choose_from(
    visitor: Visitor, api: ApiProcess, http: httpx.Client
) -> None:
    job = submitted(http, "wide")
    write_walks(folder_of(api, job), groups=600, groups_per_batch=600, episodes=2, steps=2)
    page = visitor.open(f"/jobs/{job}/anchors/{group_id(599)}")
    expect(page.get_by_role("heading", name="walk 599 to the far corner")).to_be_visible()
