"""Typed events: one way to write a warning, and one to read whatever was ever written."""

from typing import get_args

import pytest

from services.contracts.events import (
    LONGEST_MESSAGE,
    Alarmed,
    AnyBody,
    BatchTrained,
    CheckpointSaved,
    Evaluated,
    Kind,
    Phase,
    PhaseBegan,
    RepeatedWarning,
    StateReached,
    Summarized,
    Warned,
    cause_key,
    encoded,
    job_event,
    read,
    summarized,
    warned,
)
from services.contracts.messages import JobEvent, decode
from services.contracts.states import JobState
from services.contracts.summary import EvaluationResult


@pytest.mark.parametrize(
    ("body", "kind", "data"),
    [
        (Warned(service="inference", message="slow"), "warning", {"service": "inference", "message": "slow"}),
        (Warned(service="r", message="slow", count=2), "warning", {"service": "r", "message": "slow", "count": 2}),
        (StateReached(state=JobState.RUNNING), "state", {"state": "RUNNING"}),
        (StateReached(state=JobState.FAILED, error="no luck"), "state", {"state": "FAILED", "error": "no luck"}),
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
        ({}, Warned(service="platform", message="a warning without a message")),
    ],
)
def test_a_warning_of_any_age_is_read(data, read):
    assert warned(data) == read


def test_a_warning_is_never_empty_and_never_a_book():
    assert job_event(Warned(service="s", message="")).data["message"] == "a warning without a message"
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


RESULT = EvaluationResult(
    label="after",
    version=3,
    episodes=4,
    success=0.5,
    standard_error=0.25,
    return_mean=1.0,
    length_mean=2.0,
    invalid_share=0.0,
    split="eval",
)


@pytest.mark.parametrize(
    "body",
    [
        StateReached(state=JobState.QUEUED, reason="no replica is free"),
        PhaseBegan(phase=Phase.EVALUATION, detail={"label": "before", "version": 0}),
        BatchTrained(record={"batch": 3, "success": 0.5}),
        Evaluated(result=RESULT),
        CheckpointSaved(batch=3, name="b3"),
        Warned(service="trainer", message="slow", count=4),
        Summarized(summary={"job_id": "job_a", "state": "SUCCEEDED"}),
        Alarmed(name="dead_letters", raised=True, message="set aside", value=3.0),
        Alarmed(name="dead_letters", raised=False, message="set aside"),
    ],
)
def test_every_kind_is_read_as_it_was_written(body):
    event = decode(encoded(body), JobEvent)
    assert read(event.kind, event.data) == body


def test_there_is_a_struct_for_each_kind():
    assert {body.__struct_config__.tag for body in get_args(AnyBody)} == set(Kind)


@pytest.mark.parametrize(
    ("kind", "data", "body"),
    [
        ("state", {"state": "FAILED", "error": 5}, StateReached(state=JobState.FAILED, error="5")),
        ("state", {"state": "DREAMING"}, None),
        ("state", {}, None),
        ("phase", {}, PhaseBegan(phase="")),
        ("phase", {"phase": 7}, PhaseBegan(phase="7")),
        ("evaluation", {"label": "after"}, None),
        ("evaluation", {**RESULT.model_dump(), "of_a_later_version": 1}, Evaluated(result=RESULT)),
        ("checkpoint", {"batch": "x"}, CheckpointSaved(batch=0, name="")),
        ("alarm", {"value": "x"}, Alarmed(name="", raised=False, message="a warning without a message")),
        ("rumour", {"state": "FAILED"}, None),
    ],
)
def test_content_of_another_age_is_read_as_far_as_it_is_understood(kind, data, body):
    assert read(kind, data) == body
