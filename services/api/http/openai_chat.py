"""Translates between OpenAI's chat completions and the messages to the rollout worker."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from pydantic import JsonValue

from services.api.rest.problems import bad_spec
from services.contracts.agents import Chat, ChatMessage, Said, SessionRecord, ToolCall
from services.contracts.rest.sessions import (
    CalledFunction,
    ChatCompletion,
    ChatRequest,
    ChatToolCall,
    ChatTurn,
    CompletionChoice,
    CompletionMessage,
    CompletionUsage,
)

LONGEST_ANCHOR = 16_000


def asked(request: ChatRequest, *, repeated: bool) -> Chat:
    """The request for the worker. Raises Problem 422."""
    messages = [_message(place, turn) for place, turn in enumerate(request.messages)]
    tools = [] if request.tool_choice == "none" else request.tools or []
    anchor = (request.metadata or {}).get("anchor")
    if anchor is not None and len(anchor) > LONGEST_ANCHOR:
        raise bad_spec([("metadata.anchor", f"want at most {LONGEST_ANCHOR} characters, got {len(anchor)}")])
    return Chat(
        messages=messages,
        tools=[tool.function.model_dump() for tool in tools],
        max_tokens=request.max_completion_tokens or request.max_tokens,
        anchor=anchor,
        repeated=repeated,
    )


def completion(record: SessionRecord, said: Said) -> ChatCompletion:
    """The worker's answer as OpenAI's API has it."""
    calls = [
        ChatToolCall(id=call.id, function=CalledFunction(name=call.name, arguments=json.dumps(call.arguments)))
        for call in said.calls
    ]
    message = CompletionMessage(content=None if calls else said.text, tool_calls=calls or None)
    total = said.prompt_tokens + said.completion_tokens
    return ChatCompletion(
        id=f"chatcmpl-{record.session_id}-{record.turns}",
        created=int(time.time()),
        model=f"{record.job_id}@{said.versions[-1]}",
        choices=[CompletionChoice(message=message, finish_reason=said.finish_reason)],
        usage=CompletionUsage(
            prompt_tokens=said.prompt_tokens, completion_tokens=said.completion_tokens, total_tokens=total
        ),
    )


def chunks(whole: ChatCompletion, *, usage: bool) -> Iterator[str]:
    """A completion as server-sent events; all of it is sampled before the first one."""
    choice = whole.choices[0]
    delta = choice.message.model_dump(exclude_none=True)
    for place, call in enumerate(delta.get("tool_calls", [])):
        call["index"] = place
    head: dict[str, object] = {"id": whole.id, "object": "chat.completion.chunk", "created": whole.created}
    head["model"] = whole.model
    yield _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": choice.finish_reason}]})
    if usage:
        yield _event({**head, "choices": [], "usage": whole.usage.model_dump()})
    yield "data: [DONE]\n\n"


def _event(chunk: dict[str, object]) -> str:
    return f"data: {json.dumps(chunk)}\n\n"


def _message(place: int, turn: ChatTurn) -> ChatMessage:
    content = turn.content or ""
    text = content if isinstance(content, str) else "\n".join(part.text for part in content)
    calls = [
        ToolCall(id=call.id, name=call.function.name, arguments=_arguments(place, call.function.arguments))
        for call in turn.tool_calls or []
    ]
    role = "system" if turn.role == "developer" else turn.role
    return ChatMessage(role=role, content=text, calls=calls, call_id=turn.tool_call_id or "")


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _arguments(place: int, text: str) -> dict[str, JsonValue]:
    try:
        found = json.loads(text or "{}", parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise bad_spec(
            [(f"messages.{place}.tool_calls", f"want arguments as JSON, got {text[:80]!r}: {error}")]
        ) from None
    if not isinstance(found, dict):
        raise bad_spec([(f"messages.{place}.tool_calls", f"want arguments as a JSON object, got {text[:80]!r}")])
    return found
