"""Paragraphs of help: a docstring's line ends are its author's, not the reader's terminal's."""

from __future__ import annotations

import inspect
from typing import Any


def paragraphs(text: str) -> list[str]:
    """Paragraphs of a help text on one line each; lines of examples stay as they are."""
    return [
        paragraph if is_example(paragraph) else " ".join(paragraph.split())
        for paragraph in inspect.cleandoc(text).split("\n\n")
    ]


def unwrap(command: Any) -> None:
    """Put the help of a command, and of every command below it, on one line a paragraph."""
    if command.help:
        command.help = "\n\n".join(paragraphs(command.help))
    for below in getattr(command, "commands", {}).values():
        unwrap(below)


def is_example(paragraph: str) -> bool:
    """Whether its lines show calls of the command."""
    return any(line.startswith((" ", "gigpo ")) for line in paragraph.splitlines())
