"""A real Chromium without a screen, a real API, and pages that tell what went wrong in them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.integration.api.api_process import ApiProcess, environment_service, running_api

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for each module: while it is there an event loop runs in this thread, and no async test can."""
    path = shutil.which("chromium")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("want chromium; tests/install_servers.sh installs it")
        pytest.skip("chromium is not installed (tests/install_servers.sh)")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def env_address() -> Iterator[str]:
    with environment_service() as address:
        yield address


@pytest.fixture(scope="module")
def api(redis_server: str, env_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    with running_api(tmp_path_factory.mktemp("data"), redis_server, env_address) as process:
        yield process


@dataclass
class Visitor:
    """One page of a browser, and everything that it complained of."""

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        self.page.goto(self.base + path)
        return self.page


def until(page: Page, condition: str, arg: object = None) -> None:
    """Wait until an expression or a function of the page gives true; pytest's timeout is the deadline.

    `Page.wait_for_function` evaluates a string again and again, and the page's content security policy refuses that
    whenever the first look gives false.
    """
    while page.evaluate(condition, arg) is not True:
        page.wait_for_timeout(20)


@contextmanager
def visiting(browser: Browser, base: str, **context: Any) -> Iterator[Visitor]:
    """A page whose console stays silent and that asks no other host for anything, else AssertionError at the end."""
    opened = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
    opened.set_default_timeout(PATIENCE_MS)
    visitor = Visitor(opened.new_page(), base)
    page, complaints = visitor.page, visitor.complaints
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(base) else complaints.append(asked.url))
    yield visitor
    opened.close()
    assert complaints == []


@pytest.fixture
def visitor(browser: Browser, api: ApiProcess, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """A page on the shared API. Parameters go to the browser's context."""
    with visiting(browser, api.url, **getattr(request, "param", {})) as visitor:
        yield visitor


@pytest.fixture
def http(api: ApiProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, timeout=30) as client:
        yield client


def folder_of(api: ApiProcess, job: str) -> Path:
    return api.data_dir / "jobs" / job
