"""The layout that we read and write is the one of the kombu that is installed."""

from __future__ import annotations

import base64
import json

import pytest
from kombu.transport.redis import Channel
from msgspec import DecodeError

from services.kit.kombu_layout import UNACKED, UNACKED_INDEX, held_arguments, waiting_arguments, waiting_lists


def message(body: str = '[["job_1", 4], {}, {"callbacks": null}]') -> dict[str, str]:
    return {"body": base64.b64encode(body.encode()).decode(), "content-type": "application/json"}


def test_the_names_are_those_of_the_installed_kombu():
    assert (Channel.unacked_key, Channel.unacked_index_key) == (UNACKED, UNACKED_INDEX)
    named = [Channel._q_for_pri(_Steps(), "trainer", priority) for priority in Channel.priority_steps]
    assert waiting_lists("trainer") == named


def test_waiting_and_held_messages_tell_their_arguments():
    assert waiting_arguments(json.dumps(message()).encode()) == ["job_1", 4]
    assert held_arguments(json.dumps([message(), "", "trainer"]).encode()) == ["job_1", 4]


@pytest.mark.parametrize("body", ["{}", "[]", "no JSON"])
def test_what_is_no_message_of_a_task_is_refused(body: str):
    with pytest.raises(DecodeError):
        waiting_arguments(json.dumps(message(body)).encode())
    with pytest.raises(DecodeError):
        waiting_arguments(body.encode())


@pytest.mark.parametrize("body", ['{"a":' * 100_000, "[" * 100_000])
def test_what_is_nested_too_deep_is_no_message(body: str):
    with pytest.raises(ValueError, match="recursion"):
        waiting_arguments(json.dumps(message(f"[[{body}")).encode())
    with pytest.raises(ValueError, match="recursion"):
        waiting_arguments(b'{"headers":' + body.encode())


class _Steps:
    """What kombu asks of a channel to name a list."""

    sep, priority_steps, priority = Channel.sep, Channel.priority_steps, Channel.priority
