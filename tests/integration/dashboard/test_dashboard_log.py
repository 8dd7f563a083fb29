"""The log of a job: its timeline, its events, what can be found in them, and that it follows a running job."""

from __future__ import annotations

import re
import time

import httpx
from playwright.sync_api import expect

from services.api.dashboard.pages.log import PAGE
from tests.integration.api.api_process import ApiProcess
from tests.integration.dashboard.conftest import Visitor
from tests.integration.dashboard.small_jobs import metrics, submitted

TIMES = {
    "wait_env_s": 2.5, "wait_generate_s": 5.0, "train_s": 2.5, "publish_s": 0.0, "wait_last_s": 6.0, "idle_share": 0.2,
    "slowest_s": 6.5, "slowest_turns": 40, "slowest_cursor": 3, "slowest_k": 1,
}  # fmt: skip


def said(http: httpx.Client, job: str, event_id: str) -> None:
    """Wait until the event is stored; pytest's timeout is the deadline."""
    while event_id not in http.get(f"/v1/jobs/{job}/events?follow=false").text:
        time.sleep(0.05)


def test_what_happened_is_shown_found_and_followed(visitor: Visitor, api: ApiProcess, http: httpx.Client) -> None:
    job = submitted(http, "logged")
    api.say(job, "state", state="RUNNING")
    api.say(job, "phase", phase="warmstart", doing="learning", done=0, total=10, unit="optimizer steps")
    api.say(job, "phase", phase="warmstart", doing="learning", done=7, total=10, unit="optimizer steps")
    api.say(job, "metrics", **metrics(0, 0.5), **TIMES, failed_attempts=3)
    said(http, job, api.say(job, "warning", service="rollout", message="The <b>Environment</b> timed out", count=2))

    page = visitor.open(f"/jobs/{job}")
    page.get_by_role("link", name="Log").click()
    lines = page.get_by_role("list", name="Events, the newest first").get_by_role("listitem")
    expect(lines.first).to_contain_text("The <b>Environment</b> timed out (2 times so far)")
    expect(page.get_by_text("warmstart learning 7/10 optimizer steps")).to_be_visible()
    expect(page.get_by_text("warmstart learning 0/10 optimizer steps")).to_have_count(0)
    expect(page.get_by_role("img", name=re.compile("^warmstart"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("environment 25.0.%, prefill and decode 50.0.%"))).to_be_visible()
    expect(page.get_by_text("group 3, episode 1: 40 turns in 6.5 s")).to_be_visible()
    expect(page.get_by_text("60% of the time one episode was waited for")).to_be_visible()

    api.say(job, "checkpoint", batch=1, name="b000001")
    expect(lines.first).to_contain_text("checkpoint b000001")  # without a reload

    page.get_by_label("Show").select_option("batches with retried groups")
    page.get_by_role("button", name="Filter").click()
    expect(lines).to_have_count(1)
    expect(lines.first).to_contain_text("3 attempts failed and were played again")
    visitor.open(f"/jobs/{job}/log?text=ENVIRONMENT")
    expect(lines).to_have_count(1)
    visitor.open(f"/jobs/{job}/log?text=100%25")
    expect(page.get_by_role("heading", name="No event is like that")).to_be_visible()
    http.post(f"/v1/jobs/{job}:cancel")


def test_older_events_are_on_further_pages(visitor: Visitor, api: ApiProcess, http: httpx.Client) -> None:
    job = submitted(http, "talkative")
    for n in range(PAGE + 5):
        last = api.say(job, "warning", service="rollout", message=f"trouble {n}")
    said(http, job, last)
    page = visitor.open(f"/jobs/{job}/log?show=warning")
    lines = page.get_by_role("list", name="Events, the newest first").get_by_role("listitem")
    expect(lines).to_have_count(PAGE)
    page.get_by_role("link", name="Older events").click()
    expect(lines).to_have_count(5)
    expect(lines.last).to_contain_text("trouble 0")
    assert http.get(f"/jobs/{job}/log?before=nonsense").status_code == 422
    http.post(f"/v1/jobs/{job}:cancel")
