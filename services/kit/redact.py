"""Removes secrets from log events: by the name of a field, and by patterns of secrets in a text."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping

HIDDEN = "[hidden]"
_NAMES = re.compile(r"(?i)(authorization|cookie|passw|secret|token$|api[_-]?key|^key$|credential)")
_TEXTS = (
    re.compile(r"(?i)(\bbearer\s+)[^\s\"',;]+"),
    re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://[^\s/:@\"']*:)[^\s/@\"']+(?=@)"),  # scheme://user:password@host
    re.compile(r"(\bgigpo_[0-9a-f]{12}_)[0-9a-f]{16,}"),
    re.compile(r"(?i)(\b(?:[a-z0-9]+_)*(?:api_?key|password|secret|session)\s*[=:]\s*)[^\s\"',;&]+"),
)


def redact_secrets(_logger: object, _method: str, event: MutableMapping[str, object]) -> dict[str, object]:
    """A structlog processor: the event without secrets, at any depth. It comes after `format_exc_info`."""
    return {name: _hidden(name, value) for name, value in event.items()}


def redacted(text: str) -> str:
    """The text without what looks like a secret."""
    for pattern in _TEXTS:
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return text


def _hidden(name: str, value: object) -> object:
    if _NAMES.search(name) and value is not None:
        return HIDDEN
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, bytes):
        return redacted(value.decode(errors="replace"))
    if isinstance(value, Mapping):
        return {str(inner): _hidden(str(inner), content) for inner, content in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden("", one) for one in value]
    return value if value is None or isinstance(value, bool | int | float) else redacted(repr(value))
