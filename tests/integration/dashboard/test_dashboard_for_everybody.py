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
    "rollouts": "/jobs/{job}/rollouts",
    "group": "/jobs/{job}/rollouts/{group}",
    "anchors": "/jobs/{job}/anchors/{group}",
    "results": "/jobs/{job}/results",
    "spec": "/jobs/{job}/spec",
}
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]


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
    assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def test_the_keyboard_skips_to_the_content_and_the_theme_is_kept(visitor: Visitor, job: str) -> None:
    page = visitor.open("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
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
    visitor.complaints[:] = [one for one in visitor.complaints if "404" not in one]  # Chromium logs the answer
