"""Finds the training command of a shell script, and fills in the script's own variables.

Nothing is run. Expressions that a shell would have to compute stay as they are written.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_ASSIGNED = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+)|[@*])")


@dataclass(frozen=True)
class Command:
    """A command with its arguments."""

    words: list[str]
    """The arguments after the name of the program, in order."""
    variables: dict[str, str] = field(default_factory=dict)
    """The script's own, and those that were set for the command."""


def find_command(script: str, begins: Callable[[list[str]], int | None]) -> Command | None:
    """The first command for which `begins` answers with the number of words of its name; None: there is none."""
    variables: dict[str, str] = {}
    for words in _commands(script):
        local = list(words)
        while local and (local[0] == "export" or _ASSIGNED.fullmatch(local[0])):
            if found := _ASSIGNED.fullmatch(local.pop(0)):
                variables[found[1]] = _filled(found[2], variables)
        filled = [one for one in (_filled(word, variables) for word in local) if one]
        if (length := begins(filled)) is not None:
            return Command(filled[length:], variables)
    return None


def _commands(script: str) -> Iterator[list[str]]:
    """The words of each simple command. Raises ValueError for a quote that is never closed."""
    lexer = shlex.shlex(
        _without_comments(script.replace("\r", "").replace("\\\n", " ")), posix=True, punctuation_chars=";&|<>\n"
    )
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    words: list[str] = []
    for word in lexer:
        if set(word) <= set(";&|<>\n"):
            if set(word) & set("<>") and words and words[-1].isdigit():
                words.pop()  # the 2 of 2>&1
            yield words
            words = []
        else:
            words.append(word)
    yield words


def _without_comments(text: str) -> str:
    kept, quote, before, skipping = [], "", "\n", False
    for character in text:
        if character == "\n":
            skipping = False
        elif not quote and character == "#" and before.isspace():
            skipping = True
        elif not skipping and character in "'\"" and quote in ("", character):
            quote = "" if quote else character
        if not skipping:
            kept.append(character)
        before = character
    return "".join(kept)


def _filled(word: str, variables: dict[str, str]) -> str:
    """The word with variables whose value is known; a default stands for what the caller would have given."""

    def value(found: re.Match[str]) -> str:
        name, default = found[1] or found[3], found[2]
        if name is None:
            return ""  # $@: what the caller adds
        return variables.get(name, found[0] if default is None else _filled(default, variables))

    return _VARIABLE.sub(value, word)
