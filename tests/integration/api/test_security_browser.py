"""Browsers: sessions, what other sites may not do, and headers on every answer."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.api.api_process import ApiProcess
from tests.integration.api.keyed_api import ADMIN_KEY, SPEC, KeyedApi


def test_a_page_leads_to_the_login_and_a_key_leads_back(keyed: KeyedApi) -> None:
    with keyed.client(None, follow_redirects=False) as browser:
        sent = browser.get("/somewhere", headers={"Accept": "text/html"})
        assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=%2Fsomewhere")
        form = browser.get(sent.headers["location"])
        assert (form.status_code, 'value="/somewhere"' in form.text) == (200, True)
        wrong = browser.post("/login", data={"key": "wrong", "next": "/somewhere"})
        assert (wrong.status_code, "unknown, expired or revoked" in wrong.text) == (401, True)
        right = browser.post("/login", data={"key": ADMIN_KEY, "next": "/somewhere"})
        assert (right.status_code, right.headers["location"]) == (303, "/somewhere")
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert ADMIN_KEY not in cookie
        assert browser.get("/v1/keys").status_code == 200
        assert browser.post("/logout").headers["location"] == "/login"
        assert browser.get("/v1/keys").status_code == 401


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/\\evil.example", "/a\nb", "javascript:1"]
)
def test_the_login_leads_to_no_other_site(keyed: KeyedApi, target: str) -> None:
    with keyed.client(None, follow_redirects=False) as browser:
        answer = browser.post("/login", data={"key": ADMIN_KEY, "next": target})
        assert answer.headers["location"] == "/"
        assert "evil" not in browser.get("/login", params={"next": target}).text


def test_a_session_ends_with_its_key(keyed: KeyedApi) -> None:
    made = keyed.new_key("read")
    with keyed.client(None) as browser:
        browser.post("/login", data={"key": made["key"]}, follow_redirects=False)
        assert browser.get("/v1/whoami").json()["key_id"] == made["id"]
        keyed.admin.delete(f"/v1/keys/{made['id']}").raise_for_status()
        assert browser.get("/v1/whoami").status_code == 401


def test_other_sites_can_make_a_session_do_nothing(keyed: KeyedApi) -> None:
    with keyed.client(None) as browser:
        browser.post("/login", data={"key": ADMIN_KEY}, follow_redirects=False)
        ours = f"http://{urlsplit(keyed.api.url).netloc}"
        for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
            assert browser.post("/v1/jobs", json=SPEC, headers=headers).status_code == 403
            assert browser.post("/login", data={"key": ADMIN_KEY}, headers=headers).status_code == 403
        assert browser.post("/v1/jobs", json=SPEC, headers={"Origin": ours}).status_code == 201
        assert (
            browser.get("/v1/jobs", headers={"Origin": "https://evil.example"})
            .headers.keys()
            .isdisjoint({"access-control-allow-origin", "access-control-allow-credentials"})
        )


def test_an_open_installation_answers_this_machine_and_no_page_of_another_site(
    api: ApiProcess, http: httpx.Client
) -> None:
    assert http.get("/v1/whoami").json()["name"] == "this machine"
    assert http.post("/v1/jobs", json=SPEC, headers={"Origin": "https://evil.example"}).status_code == 403
    assert http.post("/v1/jobs", json=SPEC, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert http.get("/v1/jobs", headers={"Host": "evil.example"}).status_code == 403  # its name was pointed here
    assert http.get("/v1/jobs", headers={"Host": "localhost:1"}).status_code == 200
    assert http.get("/v1/jobs", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert http.get("/login", params={"next": "/jobs"}, follow_redirects=False).headers["location"] == "/jobs"


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/nothing", "/login", "/healthz", "/openapi.json"])
@pytest.mark.parametrize("with_key", [True, False])
def test_every_answer_has_the_security_headers(keyed: KeyedApi, path: str, with_key: bool) -> None:
    with keyed.client(ADMIN_KEY if with_key else None) as client:
        headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src" in headers["content-security-policy"]
    assert "server" not in headers
    if path.startswith("/v1/"):
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'none'")
