"""A job's life as somebody sees it who never leaves the browser."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.integration.api.api_process import ApiProcess, running_api
from tests.integration.dashboard.conftest import Visitor, folder_of, visiting
from tests.integration.dashboard.small_jobs import metrics, submitted
from tests.integration.dashboard.walks import group_id, write_walks

SPEC = "name: seen\nmodel:\n  scratch: {}\nrollout:\n  max_completion_length: 6\ntraining:\n  total_batches: 4\n"


def curve(page: Page, title: str) -> str:
    return str(page.get_by_role("img", name=re.compile(f"^{title}")).evaluate("canvas => canvas.toDataURL()"))


def test_from_the_empty_list_to_a_cancelled_job(
    browser: Browser, redis_server: str, env_address: str, tmp_path: Path
) -> None:
    with (
        running_api(tmp_path, redis_server, env_address) as api,  # nobody else's jobs are in its list
        visiting(browser, api.url) as visitor,
    ):
        follow_a_job(visitor, api)


def follow_a_job(visitor: Visitor, api: ApiProcess) -> None:
    page = visitor.open("/")
    expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
    page.get_by_role("link", name="Submit the default job").click()

    page.get_by_label("Job spec, YAML").fill(SPEC)
    page.get_by_role("button", name="Check only").click()
    expect(page.get_by_role("status")).to_contain_text("This job can run.")
    expect(page.get_by_text("parameters", exact=False).first).to_be_visible()
    page.get_by_role("button", name="Submit").click()

    expect(page.get_by_role("heading", name="seen")).to_be_visible()
    expect(page.get_by_text("Queued")).to_be_visible()
    expect(page.get_by_role("heading", name="No batch has been trained yet")).to_be_visible()
    job = page.url.rsplit("/", 1)[1]

    api.say(job, "state", state="RUNNING")
    api.say(job, "metrics", **metrics(0, 0.25))
    api.say(job, "metrics", **metrics(1, 0.5))
    expect(page.get_by_text("Running")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^Success.*50 % at batch 1"))).to_be_visible()
    before = curve(page, "Success")
    api.say(job, "metrics", **metrics(2, 0.875))
    expect(page.get_by_role("img", name=re.compile("^Success.*87.5 % at batch 2"))).to_be_visible()
    assert curve(page, "Success") != before
    expect(page.get_by_text("3 / 4")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^Step-group sizes"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^Loss"))).to_be_hidden()  # it never said one

    page.get_by_role("button", name="Cancel seen").click()
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Cancel seen").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.get_by_text("cancelling")).to_be_visible()
    api.say(job, "state", state="CANCELLED")
    expect(page.get_by_text("Cancelled")).to_be_visible()
    expect(page.get_by_role("button", name="Retry seen")).to_be_visible()


def test_the_list_follows_jobs_that_come_and_change(visitor: Visitor, api: ApiProcess, http: httpx.Client) -> None:
    first = submitted(http, "first")
    page = visitor.open("/?environment=grid")
    row = page.get_by_role("row", name=re.compile("first"))
    expect(row).to_contain_text("Queued")
    second = submitted(http, "second")
    expect(page.get_by_role("row", name=re.compile("second"))).to_be_visible()
    api.say(first, "state", state="RUNNING")
    api.say(first, "metrics", **metrics(29, 0.75))
    expect(row).to_contain_text("30 / 60")
    expect(row).to_contain_text("75.0 %")
    row.get_by_role("button", name="Pause first").click()
    expect(page.get_by_text("pausing")).to_be_visible()
    visitor.open("/?search=SECON")
    expect(page.get_by_role("row", name=re.compile("second"))).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("first"))).to_be_hidden()
    visitor.open("/?state=FAILED&search=second")
    expect(page.get_by_role("heading", name="No job is like that")).to_be_visible()
    http.post(f"/v1/jobs/{second}:cancel")


def test_what_is_wrong_in_a_spec_is_said_with_its_field_and_line(visitor: Visitor, http: httpx.Client) -> None:
    page = visitor.open("/jobs/new")
    visitor.page.get_by_label("Job spec, YAML").fill("model:\n  scratch: {}\nalgorithm:\n  gamma: 2\nnonsense: 1\n")
    with page.expect_response(lambda answer: answer.request.method == "POST") as answered:
        page.get_by_role("button", name="Submit").click()
    assert answered.value.status == 422
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("2 things have to change")
    expect(alert).to_contain_text("algorithm.gamma")
    expect(alert).to_contain_text("nonsense")
    alert.get_by_role("link", name="line 4").click()
    chosen = "area => area.value.slice(area.selectionStart, area.selectionEnd)"
    assert page.get_by_label("Job spec, YAML").evaluate(chosen) == "  gamma: 2"
    visitor.complaints[:] = [one for one in visitor.complaints if "422" not in one]  # Chromium logs the answer


def test_a_rollout_shows_both_advantages_of_every_step(visitor: Visitor, api: ApiProcess, http: httpx.Client) -> None:
    job = submitted(http, "walks")
    write_walks(folder_of(api, job), groups=6, groups_per_batch=3, episodes=4, steps=6)
    page = visitor.open(f"/jobs/{job}/rollouts")
    expect(page.get_by_role("row")).to_have_count(7)
    page.get_by_role("link", name="walk 4 to the far corner").click()
    told = http.get(f"/v1/jobs/{job}/rollouts/{group_id(4)}").raise_for_status().json()
    expect(page.get_by_role("heading", name=re.compile("Episode"))).to_have_count(4)
    step = told["played"][2]["steps"][3]
    shown = page.locator("#e2s3")
    expect(shown).to_contain_text(step["action"])
    for level, value in (("E", step["episode_advantage"]), ("S", step["step_advantage"])):
        sign = "−" if value < 0 else r"\+" if value > 0 else ""
        bar = shown.get_by_role("img", name=re.compile(f"^A {level} {sign}"))
        expect(bar).to_be_visible()
        length = float(bar.locator("rect").get_attribute("width") or 0)
        assert (length > 0) == (value != 0)
    shown.locator("summary").click()
    expect(shown.get_by_label("Prompt of step 3")).to_contain_text("3 4 5")
    other = next(one for one in step["step_group_members"] if (one["k"], one["step_index"]) != (2, 3))
    shown.get_by_role("link", name=re.compile(f"episode {other['k']}, step {other['step_index']}$")).click()
    expect(page.locator(f"#e{other['k']}s{other['step_index']} .inside")).to_be_visible()
    expect(page.locator(".step.same")).to_have_count(len(step["step_group_members"]))


def test_the_anchor_view_tells_actions_apart_and_needs_no_mouse(
    visitor: Visitor, api: ApiProcess, http: httpx.Client
) -> None:
    job = submitted(http, "anchors")
    write_walks(folder_of(api, job), groups=4, groups_per_batch=4, episodes=6, steps=5)
    page = visitor.open(f"/jobs/{job}/anchors/{group_id(1)}")
    told = http.get(f"/v1/jobs/{job}/anchors", params={"group_id": group_id(1), "min_visits": 1}).json()["anchors"]
    nodes = page.get_by_role("link", name=re.compile("^State .* visits by"))
    expect(nodes).to_have_count(len(told))
    start = max(told, key=lambda state: state["visits"])
    node = page.get_by_role("link", name=re.compile(f"^State {start['step_group']}: {start['visits']} visits"))
    node.focus()
    page.keyboard.press("Enter")
    card = page.get_by_role("region", name=f"State {start['step_group']}", exact=True)
    expect(card).to_be_visible()
    expect(card.get_by_label(f"Text of state {start['step_group']}")).to_have_text(start["anchor"])
    for action in start["actions"]:
        expect(card.get_by_role("rowheader", name=re.compile(action["action"]))).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(card).to_be_hidden()
    page.get_by_text("All states as a table").click()
    expect(page.locator("#all-states tbody tr")).to_have_count(len(told))
    page.get_by_label("Group of batch 0").select_option(index=2)
    expect(page).to_have_url(re.compile(group_id(2)))


def test_results_show_evaluations_and_hand_out_checkpoints(
    visitor: Visitor, api: ApiProcess, http: httpx.Client
) -> None:
    job = submitted(http, "results")
    page = visitor.open(f"/jobs/{job}/results")
    expect(page.get_by_text("None yet.")).to_have_count(2)
    final = folder_of(api, job) / "final"
    final.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (final / name).write_text("{}")
    api.say(job, "evaluation", label="after", version=4, episodes=64, success=0.75, standard_error=0.054,
            return_mean=0.7, length_mean=7.5, invalid_share=0.01, split="test")  # fmt: skip
    near = {"episodes": 32, "success": 0.5, "standard_error": 0.088, "return_mean": 0.5, "length_mean": 7.0,
            "invalid_share": 0.02, "panel": "36df269ffb1f8e96"}  # fmt: skip
    api.say(job, "evaluation", label="during", version=5, episodes=64, success=0.8, standard_error=0.05,
            return_mean=0.7, length_mean=7.5, invalid_share=0.01, split="test", members={"near": near})  # fmt: skip
    row = page.get_by_role("row", name=re.compile("near.*50.0 % ± 8.8 %.*36df269ffb1f8e96"))
    while row.count() == 0:  # the event is on its way into SQL; pytest's timeout is the deadline
        page.reload()
    expect(page.get_by_role("row", name=re.compile("after training.*75.0 % ± 5.4 %.*–"))).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download final").click()
    assert download.value.suggested_filename == "results-final.tar"
    page.get_by_role("link", name="Fork final").click()
    expect(page.get_by_label("Job spec, YAML")).to_have_value(re.compile(f"model: job:{job}/final"))


NARROW_DARK = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark"}


@pytest.mark.parametrize("visitor", [{}, NARROW_DARK], indirect=True, ids=["wide", "narrow and dark"])
def test_warnings_are_listed_once_for_each_cause_and_come_while_the_page_is_open(
    visitor: Visitor, api: ApiProcess, http: httpx.Client
) -> None:
    job = submitted(http, "warned")
    api.say(job, "warning", service="inference", text="r0 can't serve version 0: as it was said of old")
    page = visitor.open(f"/jobs/{job}")
    listed = page.get_by_role("list", name="Warnings, the newest first").get_by_role("listitem")
    expect(listed).to_have_count(1)
    expect(listed).to_contain_text("inference")
    expect(listed).to_contain_text("r0 can't serve version 0: as it was said of old")

    for count in (1, 2, 4):
        cause = f"group t{count}0123456789abcd was lost: <b>{'x' * 200}</b>"
        api.say(job, "warning", service="rollout", message=cause, **({"count": count} if count > 1 else {}))
    expect(listed).to_have_count(2)
    newest = listed.first
    expect(newest).to_contain_text("4 times")
    expect(newest).to_contain_text("group t40123456789abcd was lost: <b>xxx")  # text, never markup
    expect(newest.locator("time")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.reload()
    expect(listed).to_have_count(2)
    http.post(f"/v1/jobs/{job}:cancel")


def test_a_job_without_warnings_shows_no_list(visitor: Visitor, http: httpx.Client) -> None:
    job = submitted(http, "quiet")
    page = visitor.open(f"/jobs/{job}")
    expect(page.get_by_role("heading", name="quiet")).to_be_visible()
    expect(page.get_by_text("Warnings")).to_be_hidden()
    http.post(f"/v1/jobs/{job}:cancel")


def test_a_failed_job_says_why_and_leads_to_the_diagnosis(
    visitor: Visitor, api: ApiProcess, http: httpx.Client
) -> None:
    job = submitted(http, "broken")
    page = visitor.open(f"/jobs/{job}")
    expect(page.get_by_text("none yet")).to_be_visible()  # of batches
    api.say(job, "state", state="RUNNING")
    api.say(job, "state", state="FAILED", error="the loss is not finite")
    expect(page.get_by_role("alert")).to_contain_text("The job failed. the loss is not finite")
    page.get_by_role("link", name="What to do").click()
    expect(page).to_have_url(re.compile(f"/jobs/{job}/insight$"))
    expect(page.get_by_role("alert")).to_contain_text("The job failed. the loss is not finite")
    expect(page.get_by_role("heading", name="Its figures show no other cause")).to_be_visible()


def test_a_penalty_is_not_green(visitor: Visitor, api: ApiProcess, http: httpx.Client) -> None:
    job = submitted(http, "penalties")
    write_walks(folder_of(api, job), groups=1, groups_per_batch=1, episodes=8, steps=6, penalty=-0.25)
    page = visitor.open(f"/jobs/{job}/rollouts/{group_id(0)}")
    colours = "(sign) => [...document.querySelectorAll('.reward')].filter((one) => one.textContent.startsWith(sign))"
    colours += ".map((one) => getComputedStyle(one).color)"
    gains, penalties = set(page.evaluate(colours, "+")), set(page.evaluate(colours, "−"))
    assert (len(gains), len(penalties)) == (1, 1)
    assert not gains & penalties
