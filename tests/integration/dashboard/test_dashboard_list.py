"""The list of jobs as somebody keeps it: search, order, tags, notes, archive, delete, and ticks that lead on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.integration.api.api_process import ApiProcess, running_api
from tests.integration.dashboard.conftest import Visitor, folder_of, visiting
from tests.integration.dashboard.small_jobs import metrics


@pytest.fixture
def alone(redis_server: str, env_address: str, tmp_path: Path) -> Iterator[ApiProcess]:
    """An API in whose list nobody else's jobs are."""
    with running_api(tmp_path, redis_server, env_address) as api:
        yield api


@pytest.fixture
def visitor(browser: Browser, alone: ApiProcess) -> Iterator[Visitor]:
    with visiting(browser, alone.url) as visitor:
        yield visitor


@pytest.fixture
def http(alone: ApiProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=alone.url, timeout=30) as client:
        yield client


def submitted(http: httpx.Client, name: str, seed: int = 0) -> str:
    spec = {"name": name, "model": {"scratch": {}}, "rollout": {"max_completion_length": 6}, "training": {"seed": seed}}
    return str(http.post("/v1/jobs", json=spec).raise_for_status().json()["id"])


def ended(api: ApiProcess, http: httpx.Client, name: str, seed: int = 0) -> str:
    job = submitted(http, name, seed)
    api.say(job, "state", state="RUNNING")
    api.say(job, "state", state="SUCCEEDED")
    while http.get(f"/v1/jobs/{job}").json()["state"] != "SUCCEEDED":  # pytest's timeout is the deadline
        pass
    return job


def names(page: Page) -> list[str]:
    return page.locator("tbody th[scope=row] > a").all_text_contents()


def test_jobs_are_found_by_a_part_of_any_word_and_sorted_by_a_column(
    visitor: Visitor, alone: ApiProcess, http: httpx.Client
) -> None:
    for name, seed, success in (("alpha-run", 3, 0.2), ("beta-run", 1, 0.9), ("gamma", 2, 0.5)):
        job = submitted(http, name, seed)
        alone.say(job, "metrics", **metrics(0, success))
    http.patch(f"/v1/jobs/{job}", json={"tags": ["paper"], "notes": "Without the Warm start"}).raise_for_status()
    page = visitor.open("/")
    expect(page.get_by_text("1–3 of 3 jobs")).to_be_visible()
    page.get_by_label("Search").fill("RUN")
    page.get_by_label("Search").press("Enter")
    expect(page.get_by_text("1–2 of 2 jobs")).to_be_visible()
    assert names(page) == ["beta-run", "alpha-run"]
    for words, found in (("warm STA", ["gamma"]), ("aper", ["gamma"]), ("alpha seed", []), ("%", []), ("grid", None)):
        visitor.open(f"/?search={words.replace('%', '%25')}")
        assert found is None or names(page) == found, words

    visitor.open("/")
    for column, order in (("Job", ["alpha-run", "beta-run", "gamma"]), ("Seed", ["beta-run", "gamma", "alpha-run"]),
                          ("Success", ["beta-run", "gamma", "alpha-run"])):  # fmt: skip
        page.get_by_role("columnheader", name=column).get_by_role("link").click()
        expect(page.get_by_role("columnheader", name=column)).to_have_attribute("aria-sort", re.compile("ending"))
        assert names(page) == order
    page.get_by_role("columnheader", name="Success").get_by_role("link").click()
    assert names(page) == ["alpha-run", "gamma", "beta-run"]
    expect(page.get_by_role("row", name=re.compile("beta-run"))).to_contain_text("90.0 %")


def test_ticked_jobs_are_compared_and_stay_ticked_while_the_list_changes(
    visitor: Visitor, alone: ApiProcess, http: httpx.Client
) -> None:
    first, second = submitted(http, "first"), submitted(http, "second")
    page = visitor.open("/")
    compare = page.get_by_role("button", name="Compare")
    expect(compare).to_be_disabled()
    for name in ("first", "second"):
        page.get_by_role("checkbox", name=f"Choose {name}").check()
    submitted(http, "third")
    expect(page.get_by_role("checkbox", name="Choose third")).to_be_visible()
    alone.say(first, "state", state="RUNNING")
    expect(page.get_by_role("row", name=re.compile("first"))).to_contain_text("Running")
    expect(page.get_by_role("checkbox", name="Choose first")).to_be_checked()
    expect(page.get_by_text("2 chosen")).to_be_visible()
    compare.click()
    expect(page.get_by_role("heading", name="Compare jobs")).to_be_visible()
    asked = parse_qs(urlsplit(page.url).query)
    assert (set(asked), set(asked["job"])) == ({"job"}, {first, second})


def test_a_job_gets_a_name_tags_and_notes_by_which_it_is_found(
    visitor: Visitor, alone: ApiProcess, http: httpx.Client
) -> None:
    job = submitted(http, "plain")
    page = visitor.open(f"/jobs/{job}")
    page.get_by_text("Add tags or notes").click()
    page.get_by_role("textbox", name="Name").fill("better-name")
    page.get_by_role("textbox", name="Tags").fill("paper seed:0")
    page.get_by_role("textbox", name="Notes").fill("Two lines:\n<b>and</b> markup")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="better-name")).to_be_visible()
    expect(page.get_by_role("paragraph").filter(has_text="<b>and</b> markup")).to_be_visible()
    page.get_by_role("link", name="seed:0").click()
    expect(page.get_by_role("link", name="better-name")).to_be_visible()
    page.get_by_role("checkbox", name="Choose better-name").check()
    page.get_by_placeholder("tag", exact=True).fill("third")
    page.get_by_role("button", name="Add tag").click()
    expect(page.get_by_role("link", name="third")).to_be_visible()
    assert http.get(f"/v1/jobs/{job}").json()["tags"] == ["paper", "seed:0", "third"]

    visitor.open(f"/jobs/{job}")
    page.get_by_text("Change name, tags, notes").click()
    page.get_by_role("textbox", name="Tags").fill("Not A Tag!")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("tags: want small letters, digits and")).to_be_visible()
    visitor.complaints[:] = [one for one in visitor.complaints if "422" not in one]  # Chromium logs the answer


def test_ended_jobs_are_archived_and_shown_again(visitor: Visitor, alone: ApiProcess, http: httpx.Client) -> None:
    ended(alone, http, "old")
    submitted(http, "new")
    page = visitor.open("/")
    page.get_by_role("checkbox", name="Choose old").check()
    page.get_by_role("button", name="Archive").click()
    expect(page.get_by_text("1–1 of 1 job")).to_be_visible()
    assert names(page) == ["new"]
    page.get_by_label("Archived").select_option("alone")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name="old").click()
    expect(page.get_by_text("Archived: lists leave it out.")).to_be_visible()
    page.get_by_role("button", name="Unarchive old").click()
    expect(page.get_by_role("button", name="Archive old")).to_be_visible()


def test_ended_jobs_are_deleted_after_a_question_and_others_are_refused(
    visitor: Visitor, alone: ApiProcess, http: httpx.Client
) -> None:
    jobs = {name: ended(alone, http, name) for name in ("one", "two")} | {"live": submitted(http, "live")}
    (folder_of(alone, jobs["one"]) / "final").mkdir(parents=True)
    page = visitor.open(f"/jobs/{jobs['one']}")
    page.get_by_role("button", name="Delete one").click()
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert http.get(f"/v1/jobs/{jobs['one']}").status_code == 200
    page.get_by_role("button", name="Delete one").click()
    page.get_by_role("button", name="Delete the job").click()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    assert http.get(f"/v1/jobs/{jobs['one']}").status_code == 404
    assert not folder_of(alone, jobs["one"]).exists()

    page.get_by_role("checkbox", name="Choose all jobs of this page").check()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete them").click()
    expect(page.get_by_text("want a job that has ended, got state QUEUED")).to_be_visible()
    visitor.open("/")
    assert names(page) == ["live"]
    visitor.complaints[:] = [one for one in visitor.complaints if "409" not in one]  # Chromium logs the answer


def test_progress_and_time_left_are_shown_from_the_warm_start_on(
    visitor: Visitor, alone: ApiProcess, http: httpx.Client
) -> None:
    job = submitted(http, "warm")
    alone.say(job, "state", state="RUNNING")
    page = visitor.open("/")
    row = page.get_by_role("row", name=re.compile("warm"))
    for done, at in ((0, 1_000.0), (25, 1_010.0)):
        alone.say(job, "phase", phase="warmstart", doing="learning", done=done, total=100, unit="steps", at_unix_s=at)
    expect(row).to_contain_text("25 / 100")
    expect(row).to_contain_text("warmstart learning · 30 s left")
    visitor.open(f"/jobs/{job}")
    expect(page.get_by_text("warmstart learning · 30 s left")).to_be_visible()
    alone.say(job, "phase", phase="training", batch=0, at_unix_s=2_000.0)
    alone.say(job, "metrics", **metrics(0, 0.5), at_unix_s=2_010.0)
    expect(page.get_by_text("1 / 60")).to_be_visible()
    expect(page.get_by_text("9 min 50 s left")).to_be_visible()


def test_the_keyboard_alone_finds_ticks_and_compares_jobs(visitor: Visitor, http: httpx.Client) -> None:
    for name in ("one", "two"):
        submitted(http, name)
    page = visitor.open("/")

    def tab_to(role: str, name: str) -> None:
        target = page.get_by_role(role, name=name, exact=True)  # type: ignore[arg-type]
        for _ in range(60):
            page.keyboard.press("Tab")
            if target.evaluate("element => element === document.activeElement"):
                return
        raise AssertionError(f"Tab does not lead to {name}")

    tab_to("searchbox", "Search")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    expect(page.get_by_text("1–1 of 1 job")).to_be_visible()
    page.get_by_role("link", name="Show all").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("1–2 of 2 jobs")).to_be_visible()
    page.get_by_role("searchbox", name="Search").focus()
    tab_to("checkbox", "Choose all jobs of this page")
    page.keyboard.press("Space")
    expect(page.get_by_text("2 chosen")).to_be_visible()
    page.keyboard.press("Shift+Tab")
    for _ in range(10):
        if page.evaluate("document.activeElement.textContent") == "Compare":
            break
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="What is different")).to_be_visible()
    expect(page.get_by_text("Nothing but names: the specs are equal.")).to_be_visible()
