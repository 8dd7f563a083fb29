"""Calls of tools as families of models write them, read out of a reply.

vLLM's parsers need vLLM, which only the engine's own installation has; these read the same formats off the decoded
reply and need nothing. tests/data/tool_calls holds replies with what vLLM's parsers make of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

from services.rollout.outside import Quote

Tool = Mapping[str, JsonValue]
"""name, description, and parameters as a JSON Schema."""


class MalformedCall(Exception):
    """A reply begins a call and does not say which; the message is what the agent is told."""


class Call(NamedTuple):
    """One call of a tool."""

    name: str
    arguments: dict[str, JsonValue]

    @property
    def action(self) -> str:
        """The action for the environment."""
        return json.dumps({"name": self.name, "arguments": self.arguments}, ensure_ascii=False)


@dataclass(frozen=True)
class CallFormat:
    """How a family of models writes calls."""

    name: str
    written: re.Pattern[str]
    """Occurs in what its chat template makes of a call."""
    read: Callable[[str, Sequence[Tool]], list[Call]]
    """The calls in a reply, in order; raises MalformedCall."""
    write: Callable[[Call, Quote], str]
    """A reply that is this call; what is quoted stays text."""


def format_of(written: str) -> CallFormat | None:
    """The format of a chat template that makes this of a call; None: none of ours."""
    return next((one for one in FORMATS if one.written.search(written)), None)


def call_of(action: str) -> Call | None:
    """The call that an action is, as an environment names it among its admissible ones; None: it is no call."""
    try:
        document = _parsed(action)
        return _call(document, ("arguments",))
    except MalformedCall:
        return None


def _parsed(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise MalformedCall(f"want a call as JSON, got {text[:80]!r}: {error}") from error
    return value


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _call(document: JsonValue, names: tuple[str, ...]) -> Call:
    """The call in a JSON object; `names` are those that its arguments may have."""
    if not isinstance(document, dict) or not isinstance(document.get("name"), str):
        raise MalformedCall(f"want an object with name and {names[0]}, got {json.dumps(document)[:80]}")
    arguments = next((document[name] for name in names if name in document), {})
    if isinstance(arguments, str):  # some models write them as a text of JSON
        arguments = _parsed(arguments)
    if not isinstance(arguments, dict):
        raise MalformedCall(f"{names[0]}: want an object, got {json.dumps(arguments)[:80]}")
    return Call(str(document["name"]), arguments)


_HERMES = re.compile(r"<tool_call>(.*?)(?:</tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)


def _read_hermes(reply: str, _: Sequence[Tool]) -> list[Call]:
    return [_call(_parsed(inner.strip()), ("arguments",)) for inner in _HERMES.findall(reply)]


_FUNCTION = re.compile(r"\s*<function=([^>\n]*)>(.*?)(?:</function>\s*|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\n]*)>\n?(.*?)\n?</parameter>", re.DOTALL)


def _read_function_tags(reply: str, tools: Sequence[Tool]) -> list[Call]:
    calls = []
    for inner in _HERMES.findall(reply):
        found = _FUNCTION.fullmatch(inner)
        if found is None:
            raise MalformedCall(f"want <function=NAME>...</function> in <tool_call>, got {inner.strip()[:80]!r}")
        name, body = found[1].strip(), found[2]
        if _PARAMETER.sub("", body).strip():
            raise MalformedCall(f"want <parameter=NAME>...</parameter> in <function>, got {body.strip()[:80]!r}")
        calls.append(Call(name, {key: _typed(value, name, key, tools) for key, value in _PARAMETER.findall(body)}))
    return calls


def _typed(value: str, tool: str, parameter: str, tools: Sequence[Tool]) -> JsonValue:
    """The value of a text, by the schema of its parameter: itself where that is a text or does not say."""
    if _type_of(tool, parameter, tools) in ("string", None):
        return value
    try:
        return _parsed(value.strip())
    except MalformedCall:
        return value


def _type_of(tool: str, parameter: str, tools: Sequence[Tool]) -> JsonValue:
    found: JsonValue = next((one.get("parameters") for one in tools if one.get("name") == tool), None)
    for key in ("properties", parameter, "type"):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _read_json(reply: str, _: Sequence[Tool]) -> list[Call]:
    """Llama's: the whole reply is one object, or several with semicolons between them."""
    said = reply.strip().removeprefix("<|python_tag|>").strip()
    if not said.startswith("{"):
        return []
    return [_call(document, ("parameters", "arguments")) for document in _objects(said)]


def _objects(said: str) -> Iterator[JsonValue]:
    decoder, place = json.JSONDecoder(parse_constant=_no_number), 0
    while place < len(said):
        try:
            document, place = decoder.raw_decode(said, place)
        except (ValueError, RecursionError) as error:
            raise MalformedCall(f"want a call as JSON, got {said[place : place + 80]!r}: {error}") from error
        yield document
        behind = said[place:].lstrip()
        if behind and not behind.startswith(";"):
            raise MalformedCall(f"want nothing, or ; and another call, behind a call, got {behind[:80]!r}")
        place = len(said) - len(behind.removeprefix(";").lstrip())


_NAMED = re.compile(r"\s*([\w.-]+)\s*(?:\[CALL_ID\]\w+)?\s*(?:\[ARGS\])?\s*(?=\{)")


def _read_mistral(reply: str, _: Sequence[Tool]) -> list[Call]:
    """`[TOOL_CALLS] [{...}, ...]`, or in newer models `[TOOL_CALLS]name[ARGS]{...}` once or more."""
    parts = reply.split("[TOOL_CALLS]")[1:]
    calls = []
    for part in parts:
        if (named := _NAMED.match(part)) is not None:
            calls.append(_call({"name": named[1], "arguments": _parsed(part[named.end() :].strip())}, ("arguments",)))
            continue
        documents = _parsed(part.strip())
        listed = documents if isinstance(documents, list) else [documents]
        calls += [_call(document, ("arguments",)) for document in listed]
    return calls


_HARMONY = re.compile(
    r"to=functions\.([\w.-]+)[^<]*(?:<\|channel\|>[^<]*)?(?:<\|constrain\|>[^<]*)?<\|message\|>(.*?)"
    r"(?=<\|(?:call|end|start|return)\|>|\Z)",
    re.DOTALL,
)


def _read_harmony(reply: str, _: Sequence[Tool]) -> list[Call]:
    calls = [
        _call({"name": name, "arguments": _parsed(body)}, ("arguments",)) for name, body in _HARMONY.findall(reply)
    ]
    if not calls and "to=functions." in reply:
        raise MalformedCall("want to=functions.NAME and a message of JSON, got a call without its message")
    return calls


def _json(call: Call, arguments: str, quote: Quote) -> str:
    return f'{{"name": "{call.name}", "{arguments}": {quote(json.dumps(call.arguments, ensure_ascii=False))}}}'


def _write_function_tags(call: Call, quote: Quote) -> str:
    values = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in call.arguments.items()
    }
    lines = "".join(f"<parameter={name}>\n{quote(value)}\n</parameter>\n" for name, value in values.items())
    return f"<tool_call>\n<function={call.name}>\n{lines}</function>\n</tool_call>"


FORMATS = (
    CallFormat("function tags", re.compile(r"<tool_call>\s*<function="), _read_function_tags, _write_function_tags),
    CallFormat(
        "hermes",
        re.compile(r'<tool_call>\s*{\s*"name"'),
        _read_hermes,
        lambda call, quote: f"<tool_call>\n{_json(call, 'arguments', quote)}\n</tool_call>",
    ),
    CallFormat(
        "mistral",
        re.compile(r"\[TOOL_CALLS\]"),
        _read_mistral,
        lambda call, quote: f"[TOOL_CALLS] [{_json(call, 'arguments', quote)}]",
    ),
    CallFormat(
        "harmony",
        re.compile(r"to=functions\."),
        _read_harmony,
        lambda call, quote: (
            f"<|channel|>commentary to=functions.{call.name} <|constrain|>json<|message|>"
            f"{quote(json.dumps(call.arguments, ensure_ascii=False))}"
        ),
    ),
    CallFormat(
        "json",
        re.compile(r'{\s*"name":\s*"[^"]*",\s*"parameters"'),
        _read_json,
        lambda call, quote: _json(call, "parameters", quote),
    ),
)
"""Hermes: Qwen 2.5 and 3, Hermes. Function tags: Qwen 3.5 and Coder, Nemotron 3. JSON: Llama 3.1 and 3.2. Harmony:
gpt-oss. The first whose mark is written is taken."""
