"""Messages for wrong command lines: all unknown flags in one message, each with the right flag."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import typer
from pydantic import ValidationError

from gigpo.client.flags import PREFIX
from services.contracts.foreign import foreign_name
from services.contracts.job import flags
from services.contracts.plain_errors import in_words, meant

_FOREIGN_COMMANDS = {
    "rlhf": "`gigpo train`; `gigpo train --from ms-swift SCRIPT` makes a job file of a `swift rlhf` script",
    "grpo": "`gigpo train`",
    "sft": "`gigpo warmstart`, which teaches a new policy the form of a reply; there is no other supervised training",
    "pt": "`gigpo train` with --model, a pretrained model",
    "rollout": "`gigpo up`; the stack runs the engine itself",
    "deploy": "`gigpo up`; the stack runs the engine itself",
    "vllm-serve": "`gigpo up`; the stack runs the engine itself",
    "infer": "`gigpo eval` and `gigpo rollouts`",
    "export": "`gigpo checkpoints download JOB`",
    "sample": "`gigpo rollouts`",
    "run": "`gigpo train`",
    "submit": "`gigpo train --no-follow`",
    "ps": "`gigpo status`",
    "ls": "`gigpo jobs list`",
    "list": "`gigpo jobs list`",
    "follow": "`gigpo jobs follow JOB`",
    "cancel": "`gigpo jobs cancel JOB`",
    "rm": "`gigpo jobs delete JOB`",
    "delete": "`gigpo jobs delete JOB`",
    "stop": "`gigpo down` for the stack, `gigpo jobs cancel JOB` for a job",
    "start": "`gigpo up`",
    "download": "`gigpo checkpoints download JOB`",
    "envs": "`gigpo env list`",
    "help": "`gigpo --help`",
}
"""A word that people type in the place of a command -> the command that they want."""


def sentence(error: typer.TyperException, app: Any, arguments: Sequence[str]) -> str:
    """The fault of the call, what is wanted, and where the right one is explained.

    Args:
        app: the click command of `gigpo`.
        arguments: those of the call.
    """
    path, command, rest = _called(app, arguments)
    unknown = _unknown_flags(command, rest) if type(error).__name__ == "NoSuchOption" else {}
    if unknown and path == "gigpo" and all(name[2:].replace("-", "_") in flags() for name in unknown):
        names = ", ".join(unknown)
        return f"{names}: want a command before it, such as `gigpo train`; `gigpo train --help` lists its flags"
    lists = f"`{path} --help` lists what there is"
    if not unknown:
        said = _told(error)
        return f"{said}{' ' if said.endswith('?') else '; '}{lists}"
    from_whole = any(PREFIX in (one.name or "") for one in command.params) and any(map(foreign_name, unknown))
    whole = "`gigpo train --from ms-swift SCRIPT` makes a job file of a whole script; " if from_whole else ""
    if len(unknown) == 1:
        ((name, words),) = unknown.items()
        return f"{name}: {words}{' ' if words.endswith('?') else '; '}{lists}"
    lines = "".join(f"\n  {name}: {words}" for name, words in unknown.items())
    return f"{len(unknown)} flags are unknown here:{lines}\n{whole}{lists}"


def _called(app: Any, arguments: Sequence[str]) -> tuple[str, Any, list[str]]:
    """The command that was meant, as it is typed, and what was given to it."""
    path, command, rest = "gigpo", app, list(arguments)
    while hasattr(command, "commands") and rest:
        word = next((one for one in rest if not one.startswith("-")), None)
        if word is None or word not in command.commands:
            break
        rest.remove(word)
        path, command = f"{path} {word}", command.commands[word]
    return path, command, rest


def _unknown_flags(command: Any, arguments: Sequence[str]) -> dict[str, str]:
    """Flag as it was typed -> what to do, in the order of the call."""
    spelt = {name.lstrip("-").replace("-", "_"): name for one in command.params for name in _names(one)}
    takes_job = any((one.name or "").startswith(PREFIX) for one in command.params)
    given = [one.partition("=")[0] for one in arguments if one.startswith("--") and len(one) > 2]
    normal = {name: name[2:].replace("-", "_") for name in given}
    return {name: _instead(key, spelt, takes_job) for name, key in normal.items() if key not in spelt and key != "help"}


def _names(parameter: Any) -> list[str]:
    return [name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--")]


def _instead(name: str, spelt: dict[str, str], takes_job: bool) -> str:
    if takes_job and (row := foreign_name(name)) is not None:
        return row.sentence
    close = [spelt[one] for one in get_close_matches(name, spelt, n=1, cutoff=0.7)]
    if close:
        return f"unknown flag; did you mean {close[0]}?"
    return "unknown flag"


def _told(error: typer.TyperException) -> str:
    """One sentence for what click says in its own way."""
    kind, message = type(error).__name__, error.format_message()
    parameter: Any = getattr(error, "param", None)
    if isinstance(error.__cause__, ValidationError):
        return f"{_hint(parameter)}: {in_words(error.__cause__.errors()[0])}"
    if kind == "MissingParameter":
        return f"{_hint(parameter)}: want a value, none is given"
    if kind == "BadOptionUsage":
        return f"{getattr(error, 'option_name', 'the last option')}: want a value after it, none is given"
    if found := re.match(r"No such command '([^']*)'", message):
        return _no_command(found[1], getattr(getattr(error, "ctx", None), "command", None))
    if found := re.match(r"Got unexpected extra argument(?:s|\(s\))? \((.*)\)", message):
        return f"want no further arguments, got {found[1]}"
    if kind == "BadParameter" and parameter is not None:
        return f"{_hint(parameter)}: {error.message.rstrip('.')}"
    said = message.rstrip(".")
    return said[:1].lower() + said[1:]


def _no_command(name: str, group: Any) -> str:
    known = sorted(getattr(group, "commands", {}))
    at_top = "train" in known
    if at_top and name in _FOREIGN_COMMANDS:
        return f"{name} is not a command; want {_FOREIGN_COMMANDS[name]}"
    return f"{name} is not a command; want one of {', '.join(known)}{meant(name, known)}"


def _hint(parameter: Any) -> str:
    """How the parameter is called where it is typed: `--seed`, `JOB`."""
    if parameter is None:
        return "an argument"
    longest = max((name for name in parameter.opts if name.startswith("-")), key=len, default="")
    return longest or str(parameter.metavar or (parameter.name or "an argument").upper())
