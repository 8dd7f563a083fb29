"""The dashboard of an installation with keys: a way in, one's own project, and no more than the key may do."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.integration.api.keyed_api import SPEC, keyed_api
from tests.integration.dashboard.conftest import visiting


def test_a_session_sees_its_project_and_a_reader_only_looks(
    browser: Browser, redis_server: str, env_address: str, tmp_path: Path
) -> None:
    with keyed_api(tmp_path, redis_server, env_address) as keyed:
        writer, reader = keyed.new_key("submit", "read", project="alpha"), keyed.new_key("read", project="beta")
        jobs = {}
        for key, name in ((writer, "of-alpha"), (keyed.new_key("submit", project="beta"), "of-beta")):
            with keyed.client(key["key"]) as http:
                jobs[name] = http.post("/v1/jobs", json={"name": name, **SPEC}).raise_for_status().json()["id"]
        with visiting(browser, keyed.api.url) as visitor:
            page = visitor.open(f"/jobs/{jobs['of-beta']}")
            page.get_by_label("API key").fill(reader["key"])
            page.get_by_role("button", name="Log in").click()
            expect(page.get_by_role("heading", name="of-beta")).to_be_visible()
            expect(page.get_by_role("button", name="Cancel of-beta")).to_be_hidden()
            expect(page.get_by_role("link", name="New job")).to_be_hidden()
            visitor.open("/")
            expect(page.get_by_role("link", name="of-beta")).to_be_visible()
            expect(page.get_by_role("link", name="of-alpha")).to_be_hidden()
            assert page.request.get(f"{keyed.api.url}/jobs/{jobs['of-alpha']}").status == 404
            assert page.request.get(f"{keyed.api.url}/jobs/{jobs['of-alpha']}/live").status == 404
            assert page.request.post(f"{keyed.api.url}/jobs/{jobs['of-beta']}/cancel").status == 403
            page.get_by_role("button", name="Log out").click()
            page.get_by_label("API key").fill(writer["key"])
            page.get_by_role("button", name="Log in").click()
            expect(page.get_by_role("button", name="Cancel of-alpha")).to_be_visible()
            visitor.complaints[:] = [one for one in visitor.complaints if "401" not in one]  # the login's icon
