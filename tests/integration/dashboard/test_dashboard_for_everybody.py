"""Every page, in light and dark, wide and narrow, with a keyboard and through a screen reader's eyes."""

from __future__ import annotations

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.integration.api.api_process import ApiProcess
from tests.integration.dashboard.conftest import Visitor, folder_of
from tests.integration.dashboard.small_jobs import metrics, submitted
from tests.integration.dashboard.walks import group_id, write_walks

NARROW = {"viewport": {"width": 390, "height": 844}}
PAGES = {
    "jobs": "/",
    "new job": "/jobs/new",
    "compare": "/compare?job={job}",
    "system": "/system",
    "curves": "/jobs/{job}",
    "log": "/jobs/{job}/log",
    "rollouts": "/jobs/{job}/rollouts",
    "group": "/jobs/{job}/rollouts/{group}",
    "anchors": "/jobs/{job}/anchors/{group}",
    "results": "/jobs/{job}/results",
    "spec": "/jobs/{job}/spec",
    "docs": "/docs",
    "missing job": "/jobs/nope",
    "missing page": "/nowhere/at/all",
}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice", "experimental"]


@pytest.fixture(scope="module")
def job(api: ApiProcess) -> str:
    """A job with something on each of its pages."""
    with httpx.Client(base_url=api.url, timeout=30) as http:
        job = submitted(http, "everything")
    api.say(job, "state", state="RUNNING")
    for batch in range(3):
        api.say(job, "metrics", **metrics(batch, 0.25 * batch))
    for cause in ("a", "b", "c"):
        api.say(job, "warning", service="rollout", message=f"an attempt failed: {cause * 300}", count=2)
    folder = folder_of(api, job)
    write_walks(folder, groups=4, groups_per_batch=4, episodes=8, steps=12)
    (folder / "final").mkdir()
    (folder / "final" / "config.json").write_text("{}")
    return job


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES.keys())
@pytest.mark.parametrize(
    "visitor",
    [{"color_scheme": "light"}, {"color_scheme": "dark", **NARROW}],
    indirect=True,
    ids=["light", "dark and narrow"],
)
def test_no_page_breaks_a_rule_of_accessibility_or_scrolls_sideways(visitor: Visitor, job: str, path: str) -> None:
    page = visitor.open(path.format(job=job, group=group_id(1)))
    broken = Axe().run(page, options={"runOnly": RULES}).response["violations"]
    assert {one["id"]: [node["html"][:200] for node in one["nodes"]] for one in broken} == {}
    assert page.locator("h1").count() == 1
    assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    visitor.complaints[:] = [one for one in visitor.complaints if "404" not in one]  # Chromium logs the answer


def test_the_keyboard_skips_to_the_content_and_the_theme_is_kept(visitor: Visitor, job: str) -> None:
    page = visitor.open("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert page.get_by_text("System", exact=True).count() == 1  # the page of that name; the theme has another word
    theme = page.get_by_role("button", name="Theme: follows the system")
    theme.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Theme: dark")).to_be_focused()
    visitor.open(f"/jobs/{job}")
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_tab_indents_in_the_editor_until_it_is_let_go(visitor: Visitor) -> None:
    page = visitor.open("/jobs/new")
    editor = page.get_by_label("Job spec, YAML")
    editor.fill("model:")
    page.keyboard.press("Tab")
    expect(editor).to_have_value("model:  ")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Submit")).to_be_focused()


def test_a_page_that_is_not_there_says_so(visitor: Visitor) -> None:
    page = visitor.open("/jobs/nope")
    expect(page.get_by_role("heading", name="Not Found")).to_be_visible()
    expect(page.get_by_text("no job 'nope'")).to_be_visible()
    visitor.open("/nowhere")
    expect(page.get_by_text("There is no page at /nowhere.")).to_be_visible()
    page.get_by_role("main").get_by_role("link", name="Documentation").click()
    expect(page.get_by_role("heading", name="Documentation")).to_be_visible()
    visitor.open("/jobs")
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    visitor.complaints[:] = [one for one in visitor.complaints if "404" not in one]  # Chromium logs the answer


def test_programs_get_problems_as_json_and_browsers_as_pages(api: ApiProcess) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    with httpx.Client(base_url=api.url, timeout=30) as http:
        for path, headers, status, kind in (
            ("/nowhere", {}, 404, "application/problem+json"),
            ("/nowhere", browser, 404, "text/html; charset=utf-8"),
            ("/v1/nowhere", browser, 404, "application/problem+json"),
            ("/v1/jobs/nope", browser, 404, "application/problem+json"),
            ("/nowhere", {**browser, "Host": "rebound.example"}, 403, "text/html; charset=utf-8"),
        ):
            answer = http.get(path, headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (status, kind), (path, headers)
            assert "default-src" in answer.headers["content-security-policy"]
            assert len(answer.content) == int(answer.headers["content-length"])
        refused = http.put("/jobs/new", headers=browser)
        assert (refused.status_code, refused.headers["content-type"]) == (405, "text/html; charset=utf-8")


def test_the_explorer_finds_and_tries_an_operation(visitor: Visitor, job: str) -> None:
    page = visitor.open("/docs")
    said = page.locator("details.operation summary .under").all_text_contents()
    assert [one for one in said if not one.strip().endswith((".", ":"))] == []  # no sentence ends where a line did
    page.get_by_label("Find").fill("list job")
    expect(page.get_by_text(" found")).to_be_visible()
    operation = page.locator("#show_job")
    expect(operation).to_be_hidden()
    page.get_by_label("Find").fill("")
    operation.locator("summary").click()
    operation.get_by_label("job_id").fill(job)
    operation.get_by_role("button", name="Try it").click()
    expect(operation.get_by_role("status")).to_have_text(f"GET /v1/jobs/{job}: 200 OK")
    expect(operation.get_by_label("Answer of show_job")).to_contain_text('"name": "everything"')


@pytest.mark.parametrize("visitor", [NARROW], indirect=True, ids=["narrow"])
def test_every_tab_of_a_job_can_be_seen_on_a_phone(visitor: Visitor, job: str) -> None:
    page = visitor.open(f"/jobs/{job}")
    for tab in page.get_by_role("navigation", name="Job").get_by_role("link").all():
        box = tab.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
