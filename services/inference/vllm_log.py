"""Finds the sentence in vLLM's log that says why it ended."""

from __future__ import annotations

import re

LONGEST_SENTENCE = 600
_PREFIX = re.compile(r"^(?:\([\w ]+ pid=\d+\) ?)?(?:[A-Z]+ \d\d-\d\d \d\d:\d\d:\d\d (?:\[[^\]]*\] ?)+)?")
_RAISED = re.compile(r"^(?P<kind>[\w.]*(?:Error|Exception|Exit))(?:: (?P<message>.*))?$")
_VALIDATION = re.compile(r"^\d+ validation errors? for ")
_DETAIL = re.compile(r"^\s+(?:Value error, |Assertion failed, )?(?P<message>.*?)(?: \[type=.*)?$")
_ECHO = "Engine core initialization failed"
"""Errors of the API server after its engine core has said why."""


def last_error(log: str) -> str:
    """The last exception with a message, without its stack trace; otherwise the last lines; "" for an empty log."""
    lines = [_PREFIX.sub("", line).rstrip() for line in log.splitlines()]
    for index in range(len(lines) - 1, -1, -1):
        raised = _RAISED.match(lines[index])
        if raised and _ECHO not in lines[index]:
            return _sentence(raised, lines[index + 1 :])[:LONGEST_SENTENCE]
    return " | ".join(line for line in lines[-3:] if line.strip())[:LONGEST_SENTENCE]


def _sentence(raised: re.Match[str], behind: list[str]) -> str:
    kind, message = raised["kind"].rpartition(".")[2], raised["message"] or ""
    if _VALIDATION.match(message):  # pydantic's: the words stand indented below
        details = [_DETAIL.match(line) for line in behind]
        message = next((found["message"] for found in details if found and found["message"]), message)
    return f"{kind}: {message}" if message else kind
