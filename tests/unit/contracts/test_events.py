"""Typed events: one way to write a warning, and one to read whatever was ever written."""

import pytest

from services.contracts.events import (
    LONGEST_MESSAGE,
    CheckpointSaved,
    RepeatedWarning,
    StateReached,
    Warned,
    cause_key,
    encoded,
    job_event,
    summarized,
    warned,
)
from services.contracts.messages import JobEvent, decode


@pytest.mark.parametrize(
    ("body", "kind", "data"),
    [
        (Warned(service="inference", message="slow"), "warning", {"service": "inference", "message": "slow"}),
        (Warned(service="r", message="slow", count=2), "warning", {"service": "r", "message": "slow", "count": 2}),
        (StateReached(state="RUNNING"), "state", {"state": "RUNNING"}),
        (StateReached(state="FAILED", error="no luck"), "state", {"state": "FAILED", "error": "no luck"}),
        (CheckpointSaved(batch=3, name="b3"), "checkpoint", {"batch": 3, "name": "b3"}),
    ],
)
def test_an_event_travels_as_its_kind_and_the_fields_that_say_something(body, kind, data):
    event = decode(encoded(body), JobEvent)
    assert (event.kind, event.data) == (kind, data)
    assert event.at_unix_s > 1.6e9


@pytest.mark.parametrize(
    ("data", "read"),
    [
        ({"service": "inference", "text": "as it was"}, Warned(service="inference", message="as it was")),
        ({"message": "no service"}, Warned(service="platform", message="no service")),
        ({"service": "trainer", "message": "m", "count": 8}, Warned(service="trainer", message="m", count=8)),
        ({"service": "trainer", "message": "m", "count": "8"}, Warned(service="trainer", message="m")),
        ({}, Warned(service="platform", message="a warning without words")),
    ],
)
def test_a_warning_of_any_age_is_read(data, read):
    assert warned(data) == read


def test_a_warning_is_never_empty_and_never_a_book():
    assert job_event(Warned(service="s", message="")).data["message"] == "a warning without words"
    assert len(job_event(Warned(service="s", message="x" * 10_000)).data["message"]) == LONGEST_MESSAGE


def test_causes_are_one_when_ids_and_numbers_alone_tell_them_apart():
    one = "group t7a6f09b12345678 was dropped: step 3: want at least 57 tokens, got 1.5e-3 at 0x7f00aa"
    other = "group t00aa11bb22cc33dd was dropped: step 12: want at least 9 tokens, got 20 at 0x12"
    assert cause_key(one) == cause_key(other)
    assert cause_key("the environment was lost") != cause_key("the engine was lost")
    assert "defaced facade" in cause_key("defaced facade")


def test_repeated_warnings_are_one_line_with_the_newest_words_and_the_larger_count():
    told = [
        (1.0, {"service": "rollout", "message": "step 1 failed"}),
        (2.0, {"service": "trainer", "message": "slow"}),
        (3.0, {"service": "rollout", "message": "step 2 failed", "count": 2}),
        (4.0, {"service": "rollout", "message": "step 3 failed", "count": 4}),
        (5.0, {"service": "api", "message": "again"}),
        (6.0, {"service": "api", "message": "again"}),
    ]
    assert summarized(told) == [
        RepeatedWarning(6.0, "api", "again", 2),
        RepeatedWarning(4.0, "rollout", "step 3 failed", 4),
        RepeatedWarning(2.0, "trainer", "slow", 1),
    ]
