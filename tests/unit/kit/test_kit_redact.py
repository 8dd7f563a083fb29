"""Log lines hold no secret, wherever it stands."""

import json
import logging

import pytest

from services.kit.log import configure_logging
from services.kit.redact import HIDDEN, redact_secrets, redacted

KEY = "gigpo_0123456789ab_" + "c" * 48


@pytest.fixture(autouse=True)
def _restored():
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:], logging.root.level = handlers, level


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"got {KEY}!", f"got gigpo_0123456789ab_{HIDDEN}!"),
        ("Authorization: Bearer abc.def-ghi", f"Authorization: Bearer {HIDDEN}"),
        ("redis://:hunter2@host:6379/0", f"redis://:{HIDDEN}@host:6379/0"),
        ("postgresql+asyncpg://me:p%40ss@db/x", f"postgresql+asyncpg://me:{HIDDEN}@db/x"),
        ("API_KEY=abcdef and gigpo_session=xyz; Path=/", f"API_KEY={HIDDEN} and gigpo_session={HIDDEN}; Path=/"),
        ("password: hunter2, user: me", f"password: {HIDDEN}, user: me"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_in_a_text(text, left):
    assert redacted(text) == left


@pytest.mark.parametrize(
    "text",
    ["no secret here", "http://127.0.0.1:8400/v1/jobs", "sampled_tokens=12", "job j0123 gigpo_advantages_1", "a: b@c"],
)
def test_other_words_stay(text):
    assert redacted(text) == text


def test_fields_with_a_secret_name_are_hidden_at_every_depth():
    event = {"authorization": "x", "headers": {"Cookie": "y", "host": "z"}, "list": [{"db_password": "p"}], "token": 1}
    assert redact_secrets(None, "info", event) == {
        "authorization": HIDDEN,
        "headers": {"Cookie": HIDDEN, "host": "z"},
        "list": [{"db_password": HIDDEN}],
        "token": HIDDEN,
    }


def test_figures_and_nothing_stay_what_they_are():
    event = {"tokens": 7, "share": 0.5, "done": True, "api_key": None, "names": ("a", "b")}
    assert redact_secrets(None, "info", event) == {**event, "names": ["a", "b"]}


def test_our_lines_library_lines_and_exceptions_are_redacted(capsys):
    log = configure_logging("api")
    try:
        raise ValueError(f"cannot use {KEY}")
    except ValueError:
        log.exception("it broke", given=KEY)
    logging.getLogger("library").warning("connecting to %s", "redis://:hunter2@host")
    text = capsys.readouterr().err
    assert "c" * 48 not in text
    assert "hunter2" not in text
    assert [json.loads(line)["level"] for line in text.splitlines()] == ["error", "warning"]
    assert f"cannot use gigpo_0123456789ab_{HIDDEN}" in text
