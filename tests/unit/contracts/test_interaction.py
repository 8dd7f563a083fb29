"""How much of an episode the policy sees, and how its replies are put: what goes together, and what room it needs."""

from typing import Any

import pytest

from services.api.policies.config import positions_problem
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import SpecError, parse_spec

TOOLS = EnvironmentInfo(id="calculator", tools=[{"name": "add", "description": "", "parameters": {}}])
PLAIN = EnvironmentInfo(id="grid")


def spec(scratch: dict[str, Any] | None = None, **environment: Any) -> Any:
    model = {"model": "m"} if scratch is None else {"scratch": scratch}
    rollout = {"max_completion_length": 100}
    return parse_spec({"model": model, "environment": {"max_prompt_tokens": 50, **environment}, "rollout": rollout})


@pytest.mark.parametrize(
    ("environment", "room"),
    [
        ({}, 150),
        ({"interaction": "conversation"}, 2_400),
        ({"interaction": "conversation", "max_prompt_tokens": 1_000}, 8_192),
        ({"interaction": "conversation", "max_prompt_tokens": 9_000}, 9_100),
        ({"interaction": "conversation", "max_context_tokens": 600}, 600),
    ],
)
def test_the_engine_has_room_for_a_whole_conversation(environment: dict[str, Any], room: int) -> None:
    assert spec(**environment).max_model_len == room
    assert positions_problem({"max_position_embeddings": room}, spec(**environment)) is None
    refused = positions_problem({"max_position_embeddings": room - 1}, spec(**environment))
    named = "max_context_tokens" if "interaction" in environment else "max_prompt_tokens 50"
    assert refused is not None
    assert f"want at least {room} ({named}" in refused


def test_a_policy_from_scratch_has_a_conversation_as_long_as_its_positions() -> None:
    long = spec({"max_position_embeddings": 400}, interaction="conversation")
    assert (long.prompt_and_response_tokens, long.max_model_len) == (400, 400)


@pytest.mark.parametrize(
    ("scratch", "environment", "sentence"),
    [
        (
            None,
            {"max_context_tokens": 500},
            "max_context_tokens: want interaction: conversation or outside with it, got",
        ),
        (None, {"context_overflow": "end"}, "context_overflow: want interaction: conversation with it, got"),
        (
            None,
            {"interaction": "conversation", "max_context_tokens": 149},
            "max_context_tokens: want >= max_prompt_tokens + max_completion_length = 150, got 149",
        ),
        (
            {},
            {"interaction": "conversation", "max_context_tokens": 257},
            "max_context_tokens: want <= 256 (max_position_embeddings), got 257",
        ),
        ({}, {"prompt_form": "tools"}, "prompt_form: tools needs a chat template, want scratch_chat: true with it"),
        ({}, {"interaction": "outside"}, "interaction: outside needs a chat template, want scratch_chat: true with it"),
        (
            None,
            {"interaction": "outside", "use_chat_template": False},
            "want use_chat_template: true with it, got false",
        ),
        (None, {"environment": "outside"}, "environment: outside needs interaction: outside, got steps"),
        (
            None,
            {"session_timeout_s": 5.0},
            "session_timeout_s: want interaction: outside with it, got interaction: ste",
        ),
        (
            None,
            {"prompt_form": "tools", "use_chat_template": False},
            "prompt_form: tools needs use_chat_template: true, got false",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    scratch: dict[str, Any] | None, environment: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SpecError) as refused:
        spec(scratch, **environment)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("info", "environment", "chats", "form"),
    [
        (TOOLS, {}, True, "tools"),
        (TOOLS, {}, False, "plain"),
        (TOOLS, {"use_chat_template": False}, True, "plain"),
        (TOOLS, {"prompt_form": "think"}, True, "think"),
        (PLAIN, {}, True, "think"),
        (PLAIN, {}, False, "plain"),
        (PLAIN, {"prompt_form": "tools"}, True, "tools"),
    ],
)
def test_the_form_follows_from_tools_and_chat_template(
    info: EnvironmentInfo, environment: dict[str, Any], chats: bool, form: str
) -> None:
    assert info.form(spec(**environment), has_chat_template=chats) == form


def test_a_policy_from_scratch_knows_the_names_of_its_tools() -> None:
    assert "add" in TOOLS.scratch_words(spec({"scratch_chat": True}))
    assert "add" not in TOOLS.scratch_words(spec({}))
    assert {".", "act"} <= {*PLAIN.scratch_words(spec({"scratch_chat": True}))}
