"""Fields of an OpenEnv observation by their paths, and actions made from a template."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from gigpo.env.environment import KwargsError
from services.env.environments.tool_calls import json_of

WORDS, VALUE = "{words}", "{json}"
"""Stand in a template for the agent's words, and for the value that they are as JSON."""
TOOL_FIELDS = ("tool_name", "result", "error")
"""The parts of a tool's answer."""
MOST_NAMES = 20
"""Names that a refusal tells, at most."""


class NoFieldError(Exception):
    """A path leads nowhere; the message says what there is."""


def at(fields: Any, path: str) -> Any:
    """The value at a path such as `board.rows.0` or `messages.-1.content`.

    None where the path ends in a null or beyond a list's end: that may be filled later.

    Raises:
        NoFieldError: an object on the way has no field of this name.
    """
    value, rest = fields, path
    while rest:
        if isinstance(value, Mapping):
            name = rest if rest in value else rest.partition(".")[0]
            if name not in value:
                raise NoFieldError(f"got {path!r}, there are: {_names(value, path[: len(path) - len(rest)])}")
            value, rest = value[name], rest[len(name) + 1 :]
        elif isinstance(value, list):
            number, _, rest = rest.partition(".")
            if not number.removeprefix("-").isdigit():
                raise NoFieldError(f"got {path!r}, but {number!r} is no place in a list of {len(value)}")
            place = int(number)
            value = value[place] if -len(value) <= place < len(value) else None
        elif value is None:
            return None
        else:
            raise NoFieldError(f"got {path!r}, but {path[: -len(rest) - 1]!r} is {json.dumps(value)[:40]}")
    return value


def check_paths(fields: Mapping[str, JsonValue], named: Mapping[str, Sequence[str]]) -> None:
    """KwargsError: one of the paths, by the key that names it, is no field of the first observation."""
    for key, paths in named.items():
        for path in paths:
            try:
                at(fields, path)
            except NoFieldError as error:
                raise KwargsError(f"{key}: want a field of the server's observation, {error}") from error


def shown(fields: Mapping[str, JsonValue], paths: Sequence[str]) -> str:
    """The values at the paths, one a line, nothing for those that are not there now; without paths all but the
    metadata, as JSON."""
    if not paths:
        return json.dumps({name: value for name, value in fields.items() if name != "metadata"}, sort_keys=True)
    return "\n".join(_text(_now(fields, path)) for path in paths)


def admissible(fields: Mapping[str, JsonValue], path: str) -> tuple[str, ...]:
    """The actions that a field lists, as texts. TypeError: it is no list."""
    values = _now(fields, path)
    if values is None:
        return ()
    if not isinstance(values, list):
        raise TypeError(f"admissible: want {path} to be a list, got {json.dumps(values)[:80]}")
    texts = (_text(value).strip() for value in values)
    return tuple(dict.fromkeys(text for text in texts if text))


def tool_failed(fields: Mapping[str, JsonValue]) -> bool:
    """Whether a tool was not found, or did not take its arguments, or failed."""
    result = fields.get("result")
    said = result.get("is_error", result.get("isError")) if isinstance(result, dict) else None
    return isinstance(fields.get("error"), dict) or said is True


def tool_text(fields: Mapping[str, JsonValue]) -> str:
    """A tool's last words, or the reason why it failed; empty before the first call."""
    error, result = fields.get("error"), fields.get("result")
    if isinstance(error, dict):
        return _text(error.get("message", error))
    content = result.get("content") if isinstance(result, dict) else None
    texts = [part.get("text") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return "\n".join(str(text) for text in texts if text is not None) if any(texts) else _text(result)


def check_template(template: Mapping[str, JsonValue]) -> None:
    """ValueError: no part of it takes the agent's words."""
    if not any(WORDS in text or text == VALUE for text in _texts(dict(template))):
        raise ValueError(f"action: want {WORDS} or {VALUE} somewhere in the template, got {json.dumps(template)[:200]}")


def filled(template: JsonValue, words: str) -> JsonValue:
    """The template with the agent's words in it. ValueError: they are no JSON, and it wants some."""
    if isinstance(template, dict):
        return {name: filled(part, words) for name, part in template.items()}
    if isinstance(template, list):
        return [filled(part, words) for part in template]
    if template == VALUE:
        value: JsonValue = json_of(words)
        if value is None:
            raise ValueError("the words are no JSON")
        return value
    return template.replace(WORDS, words) if isinstance(template, str) else template


def _now(fields: Mapping[str, JsonValue], path: str) -> Any:
    try:
        return at(fields, path)
    except NoFieldError:  # it was there at first, or its place was empty
        return None


def _text(value: JsonValue) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _names(value: Mapping[str, Any], before: str) -> str:
    names = [f"{before}{name}" for name in sorted(value)]
    return ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "") or "none"


def _texts(template: JsonValue) -> Iterator[str]:
    if isinstance(template, str):
        yield template
    for part in template.values() if isinstance(template, dict) else template if isinstance(template, list) else ():
        yield from _texts(part)
