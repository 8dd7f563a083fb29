"""Calls of tools as families of models write them; what vLLM's own parsers read is in tests/data/tool_calls."""

import json
from pathlib import Path

import pytest

from services.rollout.reply_format import CallReader
from services.rollout.tool_calls import FORMATS, Call, MalformedCall, call_of, format_of

RECORDED = json.loads((Path(__file__).parents[2] / "data" / "tool_calls" / "replies.json").read_text())
TOOLS = RECORDED["tools"]
THEIRS = {"hermes": "hermes", "llama3_json": "json", "mistral": "mistral", "qwen3_coder": "function tags"}
OURS = {one.name: one for one in FORMATS}
ADD = Call("add", {"a": 3, "b": [1, {"c": "}"}]})
HARMONY = (
    "<|channel|>analysis<|message|>to=functions is a thought<|end|><|start|>assistant<|channel|>commentary "
    'to=functions.add <|constrain|>json<|message|>{"a": 3, "b": [1, {"c": "}"}]}'
)


@pytest.mark.parametrize(
    ("family", "case"), [(family, case) for family, cases in RECORDED["replies"].items() for case in cases]
)
def test_a_reply_is_read_as_vllm_reads_it(family, case):
    written = OURS[THEIRS[family]]
    broken = not case["calls"] and "<tool_call>" in case["reply"]
    if broken:  # vLLM takes what it cannot read for words; here the agent is told
        with pytest.raises(MalformedCall, match=r"^want a call as JSON, got "):
            written.read(case["reply"], TOOLS)
    else:
        assert [[call.name, call.arguments] for call in written.read(case["reply"], TOOLS)] == case["calls"]


@pytest.mark.parametrize(
    ("written", "reply", "calls"),
    [
        ("harmony", HARMONY, [ADD]),
        ("harmony", ' to=functions.add<|channel|>commentary json<|message|>{"a": 1}', [Call("add", {"a": 1})]),
        ("harmony", "<|channel|>final<|message|>It is 4.", []),
        ("mistral", '[TOOL_CALLS]add[ARGS]{"a": 1}', [Call("add", {"a": 1})]),
        ("mistral", '[TOOL_CALLS]add{"a": 1}[TOOL_CALLS]search{"query": "["}', [
            Call("add", {"a": 1}), Call("search", {"query": "["})]),
        ("mistral", '[TOOL_CALLS] {"name": "add", "arguments": "{\\"a\\": 1}"}', [Call("add", {"a": 1})]),
        ("hermes", '<tool_call>{"name": "stop"}</tool_call>', [Call("stop", {})]),
        ("function tags", "<tool_call><function=stop></function></tool_call>", [Call("stop", {})]),
    ],
)  # fmt: skip
def test_further_forms_are_read(written, reply, calls):
    assert OURS[written].read(reply, TOOLS) == calls


@pytest.mark.parametrize(
    ("written", "reply", "sentence"),
    [
        ("hermes", "<tool_call>[1]</tool_call>", "want an object with name and arguments, got \\[1\\]"),
        ("hermes", '<tool_call>{"name": 3}</tool_call>', "want an object with name and arguments"),
        (
            "hermes",
            '<tool_call>{"name": "add", "arguments": [1]}</tool_call>',
            "arguments: want an object, got ",
        ),
        ("hermes", '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>', "NaN is no number of JSON"),
        ("hermes", "<tool_call>" + "[" * 100_000, "want a call as JSON"),
        ("function tags", "<tool_call>add(1)</tool_call>", "want <function=NAME>...</function> in <tool_call>"),
        ("function tags", "<tool_call><function=add>1</function></tool_call>", "want <parameter=NAME>"),
        ("json", '{"name": "add", "parameters": {}} and more', "want nothing, or ; and another call"),
        ("json", '{"name": "add", "parameters"', "want a call as JSON"),
        ("mistral", "[TOOL_CALLS] add them", "want a call as JSON"),
        ("harmony", "<|channel|>commentary to=functions.add", "got a call without its message"),
        ("harmony", "<|channel|>commentary to=functions.add <|constrain|>json<|message|>{", "want a call as JSON"),
    ],
)
def test_a_malformed_call_says_what_is_wanted(written, reply, sentence):
    with pytest.raises(MalformedCall, match=sentence):
        OURS[written].read(reply, TOOLS)
    projected = CallReader(OURS[written], TOOLS).project(reply)
    assert (projected.action, projected.well_formed, projected.calls) == ("", False, ())
    assert projected.note.startswith("The tool call cannot be read: ")


@pytest.mark.parametrize("written", OURS)
@pytest.mark.parametrize("call", [ADD, Call("search", {"query": 'café "<b>"\n'}), Call("stop", {})])
def test_what_is_written_is_read_again(written, call):
    reader = CallReader(OURS[written], [*TOOLS, {"name": "stop"}])
    said = reader.reply(call.action)
    assert format_of(said) is OURS[written]
    projected = reader.project(f"<think>Which one? <tool_call></think>{said}")
    assert projected.calls == (call,)
    assert projected.actions == (call.action,)
    assert call_of(projected.action) == call


def test_what_is_no_call_is_the_environments_to_judge():
    reader = CallReader(OURS["hermes"], TOOLS)
    assert reader.project("<think>4?</think> It is 4. ") == ("It is 4.", True, (), "")
    harmony = CallReader(OURS["harmony"], TOOLS)
    assert (
        harmony.project("<|channel|>analysis<|message|>4?<|end|><|channel|>final<|message|>It is 4.").action
        == "It is 4."
    )
    assert reader.reply("look around") == "look around"


def test_unknown_tools_and_too_many_calls_are_refused():
    reader = CallReader(OURS["hermes"], TOOLS, most=1)
    other = reader.project('<tool_call>{"name": "rm", "arguments": {}}</tool_call>')
    assert other.note == "The tool call cannot be read: want a tool that there is (add, search), got rm"
    twice = reader.project(reader.reply(ADD.action) * 2)
    assert twice.note == "The tool call cannot be read: want at most 1 in one turn, got 2"
    long = reader.project(reader.reply(Call("search", {"query": "x" * 64_000}).action))
    assert "want at most 64000 characters, got 64046" in long.note
