"""The class of commands that take a job's keys as flags: it knows flags of other trainers, and never truncates help."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from gigpo.client.errors import BadInput
from gigpo.client.flags import INSIDE, list_flags, mapping_flags, switch_flags
from gigpo.client.help_text import is_example, paragraphs
from services.contracts.foreign import foreign_name, synonyms
from services.contracts.job import flags

_ASSIGNMENT = re.compile(r"[+~]*([A-Za-z_]\w*(?:\.\w+)*)=(.*)", re.DOTALL)
_INNER = re.compile(r"--([\w-]+)\.([\w.-]+)(?:=(.*))?", re.DOTALL)
_NUMBER = re.compile(r"-\.?\d")
_FILE_ENDINGS = (".yaml", ".yml", ".json", ".sh")
_WIDEST = 100
"""Columns of a help text on a wide terminal."""


class JobCommand(TyperCommand):
    """A command with a flag for each key of a job file.

    Understood beside `--key value`: several values after a list's flag, a switch without a value, one key inside a
    mapping (`--environment_kwargs.size 3`), and names of other trainers that mean the same (`synonyms`).
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            _refuse_assignments(args, ctx.command_path)
        args, inner = _without_inner(list(_with_inner_names(args)))
        return super().parse_args(ctx, [*inner, *_rewritten(args)])

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(_help_text(self, ctx))


def _with_inner_names(args: list[str]) -> Iterator[str]:
    """Names of other trainers for one key inside a mapping (`--enable_thinking`) as ours; without a value it's true."""
    for argument, following in pairwise([*args, "--"]):
        given, equals, value = argument.partition("=")
        ours = synonyms().get(given.removeprefix("--").replace("-", "_"), "")
        if not given.startswith("--") or "." not in ours:
            yield argument
        elif equals or not following.startswith("--"):
            yield f"--{ours}{equals}{value}"
        else:
            yield f"--{ours}=true"


def _without_inner(args: list[str]) -> tuple[list[str], list[str]]:
    """The other arguments, and those for one key inside a mapping (`--environment_kwargs.size 3`) in the form that
    `flags` takes. Raises BadInput."""
    kept, inner, waiting = list[str](), list[str](), list(args)
    while waiting:
        argument = waiting.pop(0)
        found = _INNER.fullmatch(argument)
        mapping = found[1].replace("-", "_") if found else ""
        if found is None or mapping not in mapping_flags():
            kept.append(argument)
        elif found[3] is None and not waiting:
            raise BadInput(f"{argument}: want a value after it, none is given")
        else:
            value = waiting.pop(0) if found[3] is None else found[3]
            inner += [INSIDE, f"{mapping}.{found[2]}={value}"]
    return kept, inner


def _rewritten(args: list[str]) -> Iterator[str]:
    """The arguments in the one form that click knows."""
    waiting = list(args)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--" or not argument.startswith("--"):
            yield argument
            if argument == "--":
                yield from waiting
                return
            continue
        given, equals, value = argument[2:].partition("=")
        name = given.replace("-", "_")
        name = synonyms().get(name, name)
        spelt = f"--{name}" if name in flags() else f"--{given}"
        if equals:
            yield f"{spelt}={value}"
        elif name in list_flags():
            values = _taken(waiting)
            yield from (spelt, *([values[0]] if len(values) == 1 else [json.dumps(values)] if values else []))
        else:
            yield spelt
            if name in switch_flags() and (not waiting or waiting[0].startswith("--")):
                yield "true"


def _taken(waiting: list[str]) -> list[str]:
    """The values of a list's flag, which are removed from what is waiting; a file name ends them."""
    values: list[str] = []
    while waiting and (not waiting[0].startswith("-") or _NUMBER.match(waiting[0])):
        if values and (waiting[0].endswith(_FILE_ENDINGS) or Path(waiting[0]).is_file()):
            break
        values.append(waiting.pop(0))
    return values


def _refuse_assignments(args: list[str], command: str) -> None:
    """Say how `key=value`, as hydra takes it, is written here. Raises BadInput."""
    said = []
    for before, argument in zip(["", *args], args, strict=False):
        found = _ASSIGNMENT.fullmatch(argument)
        if found is None or before.startswith("--") or Path(argument).exists():
            continue
        key, value = found.groups()
        own = next((name for name, path in flags().items() if key in (name, ".".join(path))), None)
        row = foreign_name(key)
        if own is not None:
            said.append(f"{argument}: want --{own} {value}")
        else:
            said.append(f"{argument}: {row.sentence if row else 'unknown key; flags are written --KEY VALUE'}")
    if said:
        whole = "; `gigpo train --from verl-agent SCRIPT` makes a job file of a whole script" if len(said) > 1 else ""
        raise BadInput(f"{'; '.join(said)}{whole}; `{command} --help` lists the keys")


def _help_text(command: JobCommand, ctx: Any) -> str:
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    blocks = [f"Usage: {usage}", *_filled_paragraphs(command.help or "", width)]
    panels: dict[str, list[str]] = {}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            panel = getattr(parameter, "rich_help_panel", None) or "Arguments and options"
            panels.setdefault(panel, []).append(_entry(*record, width))
    blocks += [f"{panel}\n" + "\n".join(entries) for panel, entries in panels.items()]
    return "\n\n".join(blocks) + "\n"


def _filled_paragraphs(text: str, width: int) -> Iterator[str]:
    for paragraph in paragraphs(text):
        yield textwrap.indent(paragraph if is_example(paragraph) else _filled(paragraph, width - 2), "  ")


def _entry(name: str, text: str, width: int) -> str:
    """A flag and, below it, its help; choices that don't fit beside the flag go on in the next lines."""
    head = re.sub(r" <(\w+)>", lambda kind: f" {kind[1].upper()}" if name.startswith("-") else "", name.strip())
    if len(head) > width - 2:
        flag, _, values = head.partition(" ")
        head = f"{flag} one of:\n" + textwrap.indent(_filled(values.replace("|", " | "), width - 6), " " * 6)
    lines = [f"  {head}"]
    return "\n".join([*lines, textwrap.indent(_filled(text, width - 6), " " * 6)] if text.strip() else lines)


def _filled(text: str, width: int) -> str:
    return textwrap.fill(" ".join(text.split()), max(width, 20), break_long_words=False, break_on_hyphens=False)
