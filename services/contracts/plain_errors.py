"""Translates pydantic's errors into our sentences: the wanted value and the one that came."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping
from datetime import date
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
"""Names of jobs."""
MEMBER_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,31}$"
"""Names of a mixture's members."""

_PATTERNS = {
    NAME_PATTERN: "a name of 1 to 63 small letters a-z, digits, dots, underscores and hyphens, the first one a letter "
    "or a digit",
    MEMBER_PATTERN: "a name of 1 to 32 small letters a-z, digits, underscores and hyphens, the first one a letter or a "
    "digit",
    r"^[^\x00]*$": "text without NUL",
}
_WANTED = {
    "missing": "a value",
    "string_type": "text",
    "string_too_short": "at least {min_length} character(s)",
    "string_too_long": "at most {max_length} characters",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "greater_than": "a number > {gt}",
    "greater_than_equal": "a number >= {ge}",
    "less_than": "a number < {lt}",
    "less_than_equal": "a number <= {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "list_type": "a list such as [a, b]",
    "tuple_type": "a list such as [a, b]",
    "too_short": "at least {min_length} value(s)",
    "too_long": "at most {max_length} values",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "invalid-json-value": "a JSON value",
    "none_required": "null",
}
"""pydantic's type of an error -> the wanted value; names in braces are of the error's context."""
_SHOWN = 60
"""Characters of a value in a sentence."""


def settings_in_words(error: ValidationError, prefix: str) -> str:
    """A sentence for each wrong environment variable of a service's settings. Not for settings that hold secrets."""
    return "; ".join(f"{prefix}{str(one['loc'][0]).upper()}: {in_words(one)}" for one in error.errors())


def in_words(problem: Mapping[str, Any]) -> str:
    """The sentence for one of `ValidationError.errors()`: `want a whole number, got 'many'`.

    A validator's own ValueError speaks for itself; an error that is not known here keeps pydantic's words.
    """
    kind, context = str(problem["type"]), problem.get("ctx", {})
    message = str(problem["msg"]).removeprefix("Value error, ")
    if kind == "value_error":
        return message
    if kind == "missing":
        return "want a value, none is given"
    if kind in ("literal_error", "enum"):
        return one_of(re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]], problem["input"])
    if kind == "string_pattern_mismatch":
        wanted = _PATTERNS.get(context["pattern"], "text of another form")  # nobody should have to read the pattern
    elif kind in _WANTED:
        wanted = _WANTED[kind].format(**{name: _number(bound) for name, bound in context.items()})
    else:
        wanted = message.removeprefix("Input should be ")
    return f"want {wanted}, got {shown(problem['input'])}"


def _number(bound: object) -> object:
    return f"{bound:.10g}" if isinstance(bound, float) else bound


def one_of(names: Iterable[str], got: object) -> str:
    """`want one of a, b and c, got 'd'`, with the name that was probably meant."""
    known = list(names)
    wanted = known[0] if len(known) == 1 else f"one of {', '.join(known)}"
    return f"want {wanted}, got {shown(got)}{meant(str(got), known, cutoff=0.75)}"


def meant(got: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean NAME?` for the name that is most like `got`, empty where none is."""
    spelt = {name.lower(): name for name in known}
    close = get_close_matches(got.lower(), spelt, n=1, cutoff=cutoff)
    return f"; did you mean {spelt[close[0]]}?" if close else ""


def kind_of(document: object) -> str:
    """Which kind of JSON value a whole document is, such as `a list`."""
    kinds = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return "nothing" if document is None else kinds.get(type(document), type(document).__name__)


def shown(value: object) -> str:
    """The value as a job file has it, text in quotes; cut in the middle where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, date):
        return value.isoformat()
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = _SHOWN
    return short.repr(value)
