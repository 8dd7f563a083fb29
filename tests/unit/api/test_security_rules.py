"""Keys, scopes, origins and addresses: the rules, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from services.api.rest.caller import Caller
from services.api.rest.problems import Problem
from services.api.security.access import Door, access
from services.api.security.addresses import data_problems, model_problem
from services.api.security.keys import new_key, parse_key, secret_matches
from services.api.security.loopback import is_loopback
from services.api.security.origin import forged, rebound
from services.api.security.rates import Rates
from services.api.security.sessions import COOKIE, Sessions, signing_secret
from services.contracts.job import parse_spec
from services.contracts.rest.access import Scope


def test_a_key_shows_its_id_and_only_its_secret_opens_its_hash() -> None:
    key, other = new_key(), new_key()
    parsed = parse_key(key.token)
    assert parsed is not None
    assert parsed[0] == key.id
    assert key.secret_hash.startswith("$argon2id$")
    assert parsed[1] not in key.secret_hash
    assert secret_matches(key.secret_hash, parsed[1])
    assert not secret_matches(other.secret_hash, parsed[1])
    assert not secret_matches(None, parsed[1])
    assert not secret_matches("no hash", parsed[1])


TOKEN = "gigpo_22dd138291e1_" + "0f" * 24
"""A key in the form of `new_key`'s."""


@pytest.mark.parametrize("text", ["", "gigpo_", "gigpo_0_1", "sk-" + "a" * 60, TOKEN + "0", TOKEN.upper()])
def test_what_has_not_the_form_of_a_key_is_none(text: str) -> None:
    assert parse_key(text) is None


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("GET", "/healthz", Door.PUBLIC),
        ("POST", "/login", Door.PUBLIC),
        ("GET", "/v1/whoami", Door.KNOWN),
        ("GET", "/v1/jobs", Scope.READ),
        ("HEAD", "/v1/jobs/j1/rollouts", Scope.READ),
        ("POST", "/v1/jobs/j1:cancel", Scope.SUBMIT),
        ("DELETE", "/v1/jobs/j1/checkpoints/x", Scope.SUBMIT),
        ("GET", "/v1/keys", Scope.ADMIN),
        ("GET", "/v1/audit", Scope.ADMIN),
        ("PATCH", "/v1/projects/default", Scope.ADMIN),
        ("GET", "/v1/keysmith", Scope.READ),
        ("GET", "/", Scope.READ),
        ("TRACE", "/v1/nobody/thought/of/this", Scope.SUBMIT),
        ("GET", "//healthz", Scope.READ),
        ("GET", "/healthz/", Scope.READ),
    ],
)
def test_every_path_has_a_rule(method: str, path: str, wanted: Scope | Door) -> None:
    assert access(method, path) == wanted


def test_admin_includes_the_other_scopes_and_sees_every_project() -> None:
    reader = Caller("r", frozenset({Scope.READ}), "robots")
    admin = Caller("a", frozenset({Scope.ADMIN}), "robots")
    assert (reader.may(Scope.READ), reader.may(Scope.SUBMIT), reader.may(Scope.ADMIN)) == (True, False, False)
    assert all(admin.may(scope) for scope in Scope)
    assert (reader.sees, admin.sees) == ("robots", None)


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"host": "127.0.0.1:8400"}, False),
        ({"host": "127.0.0.1:8400", "origin": "http://127.0.0.1:8400"}, False),
        ({"host": "gigpo.example", "origin": "https://gigpo.example"}, False),
        ({"host": "127.0.0.1:8400", "origin": "https://evil.example"}, True),
        ({"host": "127.0.0.1:8400", "origin": "http://127.0.0.1:1"}, True),
        ({"host": "127.0.0.1:8400", "origin": "null"}, True),
        ({"host": "127.0.0.1:8400", "origin": "http://127.0.0.1:8400.evil.example"}, True),
        ({"host": "127.0.0.1:8400", "origin": "http://[::1"}, True),
        ({"host": "127.0.0.1:8400", "sec-fetch-site": "cross-site"}, True),
        ({"host": "127.0.0.1:8400", "sec-fetch-site": "same-site"}, True),
        ({"host": "127.0.0.1:8400", "sec-fetch-site": "same-origin"}, False),
    ],
)
def test_what_another_site_sends_is_refused(headers: dict[str, str], refused: bool) -> None:
    problem = forged(Headers(headers))
    assert (problem is not None) == refused
    assert problem is None or problem.status == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:8400", "127.0.0.1:1", "[::1]:8400", "gigpo.localhost"])
def test_a_loopback_name_is_ours(host: str) -> None:
    assert rebound(Headers({"host": host})) is None


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:8400", "10.0.0.1", "", "[::1", "127.0.0.1@evil"]
)
def test_another_name_for_this_machine_is_refused(host: str) -> None:
    assert isinstance(rebound(Headers({"host": host})), Problem)
    assert not is_loopback(host)


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    model = tmp_path / "models" / "small"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "config.json").write_text("{}")
    (tmp_path / "models" / "escape").symlink_to(tmp_path / "private")
    leaking = tmp_path / "models" / "leaking"
    leaking.mkdir()
    (leaking / "config.json").symlink_to(tmp_path / "private" / "config.json")
    return [tmp_path / "models"]


def test_a_model_in_a_root_may_be_loaded(roots: list[Path]) -> None:
    assert model_problem(str(roots[0] / "small"), roots) is None
    assert model_problem("/anywhere/at/all", None) is None


@pytest.mark.parametrize("name", ["escape", "leaking", "../private", "small/../../private", "\0"])
def test_a_model_that_leads_out_of_its_root_may_not(roots: list[Path], name: str) -> None:
    problem = model_problem(f"{roots[0]}/{name}", roots)
    assert problem is not None


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data",
        "HTTPS://huggingface.co/x",
        "s3://bucket/x",
        "file:///etc/passwd",
        "//server/share",
        "\\\\server\\share",
        " hf://x",
        "organisation/model",
        "relative",
    ],
)
def test_a_model_is_never_an_address(roots: list[Path], address: str, trusted: bool) -> None:
    assert model_problem(address, None if trusted else roots) is not None


def test_an_environment_is_pointed_at_no_address_and_no_closed_folder(roots: list[Path]) -> None:
    kwargs: dict[str, object] = {
        "size": 5,
        "task": "go to http and back / forth",
        "rows": ["fine", {"path": "gopher://x"}],
        "good": str(roots[0] / "small"),
        "bad": "/etc/passwd",
        "home": "~/x",
        "up": "data/../../x",
    }
    warmstart = {"warmstart_environment_kwargs": {"also": "http://x"}}
    environment = {"environment_kwargs": kwargs}
    spec = parse_spec(
        {
            "model": {"scratch": {}, "warmstart": warmstart},
            "environment": environment,
            "rollout": {"max_completion_length": 6},
        }
    )
    names = [field.rpartition("kwargs.")[2] for field, _ in data_problems(spec, roots, {})]
    assert names == ["rows.1.path", "bad", "home", "up", "also"]
    assert [field.rpartition("kwargs.")[2] for field, _ in data_problems(spec, None, {})] == ["rows.1.path", "also"]
    marked = {"properties": {"rows": {"format": "text"}, "also": {"format": "uri"}, "size": {"type": "integer"}}}
    assert data_problems(spec, None, marked) == []


async def test_a_key_that_calls_too_often_waits_and_another_does_not() -> None:
    rates = Rates(structlog.get_logger(), per_key="3/hour", per_address="100/hour", failures_per_address="2/hour")
    for _ in range(3):
        await rates.count_key("a")
    with pytest.raises(Problem) as refused:
        await rates.count_key("a")
    assert refused.value.status == 429
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 3_600
    await rates.count_key("b")


async def test_wrong_keys_close_an_address_and_ipv6_counts_by_network() -> None:
    rates = Rates(structlog.get_logger(), per_key="100/hour", per_address="100/hour", failures_per_address="2/hour")
    for host in ("2001:db8::1", "2001:db8::2"):
        await rates.count_address(host)
        await rates.count_failure(host)
    with pytest.raises(Problem) as refused:
        await rates.count_address("2001:db8::3")
    assert refused.value.status == 429
    await rates.count_address("2001:db9::1")


def connection(cookie: str) -> HTTPConnection:
    return HTTPConnection({"type": "http", "headers": [(b"cookie", f"{COOKIE}={cookie}".encode())]})


def test_a_session_is_read_back_and_nothing_else_is() -> None:
    sessions, response = Sessions(b"s" * 32, "settings key"), Response()
    sessions.begin(response, "0123456789ab", secure=True)
    header = response.headers["set-cookie"]
    for flag in ("HttpOnly", "SameSite=lax", "Secure", "Path=/"):
        assert flag in header
    value = header.partition(f"{COOKIE}=")[2].partition(";")[0]
    assert sessions.read(connection(value)) == (True, "0123456789ab")
    for forgery in ("", "x", value[:-1], value.replace(value[:4], "AAAA")):
        assert sessions.read(connection(forgery)) == (False, None)
    assert Sessions(b"s" * 32, "another key").read(connection(value)) == (False, None)
    assert Sessions(b"t" * 32, "settings key").read(connection(value)) == (False, None)


def test_the_signing_secret_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    first = signing_secret(tmp_path)
    assert len(first) == 32
    assert signing_secret(tmp_path) == first
    assert (tmp_path / "session.secret").stat().st_mode & 0o777 == 0o600
    (tmp_path / "session.secret").write_bytes(b"")
    with pytest.raises(ValueError, match="want 32 bytes"):
        signing_secret(tmp_path)
