"""Paths into what an OpenEnv server shows, templates of actions, and calls of tools."""

import json

import pytest
from pydantic import ValidationError

from gigpo.env.environment import KwargsError
from services.env.environments.openenv import OpenEnv, OpenEnvKwargs
from services.env.environments.openenv_connection import Connection
from services.env.environments.openenv_fields import admissible, at, check_paths, filled, shown, tool_failed, tool_text
from services.env.environments.tool_calls import Call, Tool, json_of, listed, parsed_call

FIELDS = {
    "text": "hello",
    "a.b": 1,
    "board": {"rows": [[0, 1], [2, 3]], "turn": None},
    "messages": [{"content": "first"}, {"content": "last"}],
    "none": [],
    "metadata": {"secret": 1},
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("text", "hello"),
        ("a.b", 1),
        ("board.rows.1", [2, 3]),
        ("board.rows.1.0", 2),
        ("messages.-1.content", "last"),
        ("messages.0.content", "first"),
        ("none.-1.content", None),
        ("board.turn.number", None),
        ("messages.7.content", None),
    ],
)
def test_a_path_leads_into_objects_and_lists(path: str, value: object) -> None:
    assert at(FIELDS, path) == value


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("txet", "got 'txet', there are: a.b, board, messages, metadata, none, text"),
        ("board.row", "got 'board.row', there are: board.rows, board.turn"),
        ("messages.-1.txet", "there are: messages.-1.content"),
        ("messages.last", "'last' is no place in a list of 2"),
        ("text.length", "'text' is \"hello\""),
    ],
)
@pytest.mark.parametrize("key", ["show", "anchor", "admissible"])
def test_a_misspelt_field_is_refused_with_the_names_there_are(key: str, path: str, said: str) -> None:
    """OpenEnv 601: it used to show nothing for ever."""
    with pytest.raises(KwargsError, match=f"{key}: want a field of the server's observation, ") as refused:
        check_paths(FIELDS, {"other": ["text"], key: ["text", path]})
    assert said in str(refused.value)


def test_fields_are_shown_one_a_line_and_all_of_them_without_the_metadata() -> None:
    assert shown(FIELDS, ("text", "board.rows.0", "messages.9")) == "hello\n[0, 1]\n"
    assert json.loads(shown(FIELDS, ())) == {name: value for name, value in FIELDS.items() if name != "metadata"}


def test_admissible_actions_are_texts_that_can_be_said() -> None:
    fields = {"legal": [0, " go north ", "", {"b": 1, "a": 2}, 0, None], "text": "x", "null": None}
    assert admissible(fields, "legal") == ("0", "go north", '{"a": 2, "b": 1}')
    assert admissible(fields, "null") == admissible(fields, "gone") == ()
    with pytest.raises(TypeError, match='admissible: want text to be a list, got "x"'):
        admissible(fields, "text")


def test_a_template_takes_words_and_values() -> None:
    template = {"type": "call_tool", "arguments": {"word": "{words}", "note": "said {words}", "all": ["{json}", 3]}}
    words = '{"a": 1}'
    assert filled(template, words)["arguments"] == {"word": words, "note": f"said {words}", "all": [{"a": 1}, 3]}
    with pytest.raises(ValueError, match="no JSON"):
        filled(template, "hello")


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"action": {"word": "WORDS"}}, r"action: want \{words\} or \{json\} somewhere in the template"),
        ({"headers": {"X": "a\r\nY: b"}}, "headers: want names and values of HTTP"),
        ({"headers": {"Host": "elsewhere"}}, "headers: want names and values of HTTP"),
        ({"tools": True, "action": "message"}, "tools: want no action beside it"),
        ({"url": "ws://a:1/x?y=1"}, "url"),
        ({"url": "ws://user:word@a:1/x"}, "url"),
    ],
)
def test_kwargs_that_cannot_be_meant_are_refused(kwargs: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        OpenEnvKwargs.model_validate({"url": "ws://a:1", **kwargs})


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("ws://a:1/envs/echo/../secret", ["a:1/envs/echo"]),
        ("ws://a:1/envs/echo/%2e%2e/secret", ["a:1/envs/echo"]),
        ("ws://a:1/envs/echoes", ["a:1/envs/echo"]),
        ("ws://a:1", ["a:1/envs/echo"]),
        ("ws://a:2/envs/echo", ["a:1"]),
    ],
)
def test_a_path_that_the_operator_does_not_allow_is_refused_before_any_call(url: str, allowed: list[str]) -> None:
    with pytest.raises(KwargsError, match=r"^url: "):
        Connection(url, {"allowed": allowed}, {}, 1.0)


ADD = Tool(
    "add", "Add two\nnumbers.", {"properties": {"a": {"type": "integer"}, "b": {"enum": [1, 2]}}, "required": ["a"]}
)


def test_tools_are_listed_in_words() -> None:
    assert listed([ADD]).splitlines()[1] == "- add(a: integer, b: 1|2, optional): Add two numbers."


@pytest.mark.parametrize(
    "words", ['{"name": "add", "arguments": {"a": 1}}', '```json\n{"name":"add","arguments":{"a":1}}\n```']
)
def test_a_call_is_read_with_or_without_a_fence(words: str) -> None:
    assert parsed_call(words, ["add"]) == Call("add", {"a": 1})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("add 1 2", "This is no call of a tool"),
        ("[1]", "This is no call of a tool"),
        ('{"name": "ad"}', 'There is no tool "ad"; there are: add'),
        ('{"name": ["add"]}', "There is no tool"),
        ('{"name": "add", "arguments": [1]}', "arguments: want an object, got [1]"),
    ],
)
def test_what_is_no_call_is_answered_with_a_sentence(words: str, said: str) -> None:
    assert said in str(parsed_call(words, ["add"]))


def test_json_of_takes_nothing_that_others_refuse() -> None:
    assert json_of("NaN") is json_of("{") is json_of("[" * 100_000) is None


def test_what_a_tool_said_is_told_from_its_failure() -> None:
    assert tool_text({"result": {"content": [{"text": "3"}, {"text": "4"}], "is_error": False}}) == "3\n4"
    assert tool_text({"result": {"n": 1}}) == '{"n": 1}'
    assert tool_text({"result": None, "error": {"error_type": "timeout", "message": "too late"}}) == "too late"
    assert tool_text({}) == ""
    for failed in ({"error": {"message": "x"}}, {"result": {"is_error": True}}, {"result": {"isError": True}}):
        assert tool_failed(failed)
    assert not tool_failed({"error": None, "result": {"content": []}})


def test_a_reset_that_waits_for_everything_as_long_as_it_may_is_not_taken_for_hung() -> None:
    """It waits for the connection, the handshake, the first observation and the tools."""
    kwargs = OpenEnvKwargs(url="ws://127.0.0.1:1", tools=True, timeout_s=7.0)
    assert OpenEnv(kwargs).longest_call_s > 4 * kwargs.timeout_s
