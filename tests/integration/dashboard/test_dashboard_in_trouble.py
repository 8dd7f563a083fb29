"""The dashboard beside what goes wrong: Redis away, the process asked to end, requests that were forged."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import httpx
from playwright.sync_api import Browser, expect

from services.stack.valkey import embedded_redis
from tests.integration.api.api_process import ApiProcess, running_api
from tests.integration.dashboard.conftest import Visitor
from tests.integration.dashboard.small_jobs import submitted


def test_without_redis_pages_show_what_was_stored_and_say_why_nothing_moves(
    browser: Browser, env_address: str, tmp_path: Path
) -> None:
    with ExitStack() as redis, ExitStack() as others:
        url = redis.enter_context(embedded_redis(tmp_path / "valkey"))
        api = others.enter_context(running_api(tmp_path / "data", url, env_address))
        with httpx.Client(base_url=api.url, timeout=30) as http:
            job = submitted(http, "stored")
        redis.close()
        page = others.enter_context(browser.new_context()).new_page()
        for path in ("/", f"/jobs/{job}"):
            page.goto(api.url + path)
            expect(page.get_by_role("alert")).to_contain_text("Redis does not answer.")
            expect(page.get_by_text("stored").first).to_be_visible()
        page.goto(api.url + "/system")
        expect(page.get_by_role("listitem").filter(has_text="redis")).to_have_class("bad")
        expect(page.get_by_role("listitem").filter(has_text="database")).to_have_class("ok")


def test_an_open_page_does_not_keep_the_process_from_ending(
    browser: Browser, redis_server: str, env_address: str, tmp_path: Path
) -> None:
    with running_api(tmp_path, redis_server, env_address) as api, browser.new_context() as context:
        page = context.new_page()
        with page.expect_response(lambda answer: "/live" in answer.url):
            page.goto(api.url)
        api.process.send_signal(signal.SIGTERM)
        assert api.process.wait(30) == 0


def test_a_form_of_another_site_does_nothing(api: ApiProcess, http: httpx.Client) -> None:
    job = submitted(http, "wanted")
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert http.post(f"/jobs/{job}/cancel", headers=headers).status_code == 403
    assert http.get(f"/v1/jobs/{job}").json()["wish"] == "run"
    assert http.post(f"/jobs/{job}/cancel", headers={"Origin": api.url}).status_code == 303
    assert http.get(f"/v1/jobs/{job}").json()["wish"] == "cancel"


def test_the_description_of_the_api_and_its_answers_know_nothing_of_the_pages(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    assert all(path.startswith(("/v1/", "/healthz")) for path in paths)
    assert http.get("/v1/jobs/nope").headers["content-type"] == "application/problem+json"


def test_files_of_the_pages_are_asked_for_once(visitor: Visitor, http: httpx.Client) -> None:
    page = visitor.open("/")
    address = page.locator('link[rel="stylesheet"]').first.get_attribute("href")
    answer = http.get(str(address), headers={"Accept-Encoding": "gzip"})
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "gzip"
    assert http.get(str(address).rsplit("/", 1)[0] + "/../../settings.py").status_code == 404
