"""The pages that say what a job's figures mean, and an episode that is watched."""

from __future__ import annotations

import re

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from redis import Redis

from services.contracts import keys
from services.contracts.watching import (
    FIELD,
    AnyShown,
    PlayBegan,
    PlayEnded,
    StateReached,
    StepTaken,
    encoded,
)
from tests.integration.api.api_process import ApiProcess
from tests.integration.api.submitting import until
from tests.integration.dashboard.conftest import Visitor, folder_of
from tests.integration.dashboard.small_jobs import submitted
from tests.rollout_archives import write
from tests.unit.api.insight_groups import group_of, played

NARROW = {"viewport": {"width": 390, "height": 844}}
PAGES = ("insight", "insight/changed", "insight/states?text=hall", "insight/watch", "insight/watch/w0123")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def job(api: ApiProcess) -> str:
    """A running job that learns nothing, and whose policy turns from left to right all the same."""
    with httpx.Client(base_url=api.url, timeout=30) as http:
        job = submitted(http, "turns")
        until(http, job, "QUEUED")
        api.say(job, "state", state="RUNNING")
        for batch in range(20):
            api.say(job, "metrics", batch=batch, version=batch + 1, success=0.0, return_mean=0.0, invalid_share=0.4)
        until(http, job, "RUNNING")
        while len(http.get(f"/v1/jobs/{job}/metrics?shape=list").json()) < 20:  # pytest's timeout is the deadline
            pass
    for batch in range(4):
        episodes = [
            played(["hall", "door"], ["right" if k < 2 * batch else "left", "open"], won=k < 2 * batch)
            for k in range(6)
        ]
        folder_of(api, job).mkdir(parents=True, exist_ok=True)
        write(folder_of(api, job), batch, [group_of(episodes, group_id=f"t{batch}", advantage=0.5)])
    return job


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "visitor",
    [{"color_scheme": "light"}, {"color_scheme": "dark", **NARROW}],
    indirect=True,
    ids=["light", "dark and narrow"],
)
def test_no_page_breaks_a_rule_of_accessibility_or_scrolls_sideways(visitor: Visitor, job: str, path: str) -> None:
    page = visitor.open(f"/jobs/{job}/{path}")
    broken = Axe().run(page, options={"runOnly": RULES}).response["violations"]
    assert {one["id"]: [node["html"][:200] for node in one["nodes"]] for one in broken} == {}
    assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    visitor.complaints[:] = [one for one in visitor.complaints if "404" not in one]  # of the watch that is not there


def test_a_diagnosis_says_what_is_wrong_and_what_to_do(visitor: Visitor, job: str) -> None:
    page = visitor.open(f"/jobs/{job}")
    page.get_by_role("link", name="Insight").click()
    finding = page.get_by_role("region", name="Success stays 0")
    expect(finding).to_contain_text("What to do: Begin with easier tasks")
    expect(finding).to_contain_text("without one episode won; limit 20")
    expect(page.get_by_role("region", name="Many actions are invalid")).to_contain_text("40%")


def test_what_changed_leads_to_the_step(visitor: Visitor, job: str) -> None:
    page = visitor.open(f"/jobs/{job}/insight")
    page.get_by_role("link", name="What changed").click()
    page.get_by_label("Batches on a side").fill("1")
    page.get_by_role("button", name="Show").click()
    hall = page.get_by_role("article", name="hall", exact=True).first
    expect(hall).to_contain_text("moved 1, chance 0")
    expect(hall.get_by_role("row", name=re.compile("right.*0.0 %.*100.0 %"))).to_be_visible()
    hall.get_by_role("link", name="batch 3, episode 5, step 0").click()
    expect(page.locator("#e5s0 .inside")).to_be_visible()


def test_states_are_searched(visitor: Visitor, job: str) -> None:
    page = visitor.open(f"/jobs/{job}/insight/states")
    page.get_by_label("Task or state holds").fill("HALL")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("article", name="hall", exact=True)).to_contain_text("regret")
    page.get_by_label("Task or state holds").fill("cellar")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name="No state is like that")).to_be_visible()


def test_an_episode_is_watched_step_by_step(visitor: Visitor, api: ApiProcess, job: str) -> None:
    page = visitor.open(f"/jobs/{job}/insight/watch")
    page.get_by_label("Task").fill("7")
    page.get_by_role("button", name="Watch it play").click()
    expect(page.get_by_role("status")).to_contain_text("Waiting")
    watch = page.url.rsplit("/", 1)[1]

    def tell(*shown: AnyShown) -> None:
        with Redis.from_url(api.redis_url) as redis:
            for one in shown:
                assert redis.xadd(keys.watch(job, watch), {FIELD: encoded(one)}, nomkstream=True)

    state = StateReached(step_index=0, observation="<b>a hall</b>", anchor="hall", admissible_actions=[], prompt="p")
    tell(PlayBegan(task="put it", max_turns=5), state)
    expect(page.get_by_role("heading", name="put it")).to_be_visible()
    step = page.locator(".watch-step")
    expect(step).to_contain_text("<b>a hall</b>")
    expect(step).to_contain_text("24 visits")
    expect(step).to_contain_text("Best action so far: right")
    expect(step.locator(".taken")).to_have_count(0)
    tell(StepTaken(step_index=0, reply="I go left", action="left", action_valid=True, reward=1.0, versions=[3],
                   finish_reason="stop"))  # fmt: skip
    expect(step.locator(".taken")).to_contain_text("left")
    expect(step).to_contain_text("reward 1")
    expect(page.get_by_role("status")).to_contain_text("at most 5 steps")
    tell(PlayEnded(won=True, score=1.0, steps=1, return_sum=1.0, out_of_turns=False))
    expect(page.get_by_role("status")).to_have_text("Won after 1 steps, return 1.")
    assert Axe().run(page, options={"runOnly": RULES}).response["violations"] == []
    page.set_viewport_size(NARROW["viewport"])
    assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def test_what_cannot_be_watched_is_said_on_a_page(visitor: Visitor, http: httpx.Client) -> None:
    job = submitted(http, "new")
    page = visitor.open(f"/jobs/{job}/insight/changed")
    expect(page.get_by_role("heading", name="There is nothing to compare yet")).to_be_visible()
    visitor.open(f"/jobs/{job}/insight/states")
    expect(page.get_by_role("heading", name="No rollouts yet")).to_be_visible()
    visitor.open(f"/jobs/{job}/insight/watch")
    page.get_by_role("button", name="Watch it play").click()
    expect(page.locator("main")).to_contain_text("checkpoint")
    visitor.complaints[:] = [one for one in visitor.complaints if "40" not in one]  # Chromium logs the answer
