"""Translates a script into a job file: the source of each value, and the settings without a counterpart."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from gigpo.client.errors import BadInput
from services.contracts.foreign import Source, foreign_name
from services.contracts.job import JobSpec, SpecError, flags, parse_spec

_DECISIVE = ("advantage_estimator", "loss_type", "environment")
"""A job without one of these is another job."""


@dataclass
class Setting:
    """A value of the job file and the words behind it."""

    value: Any
    comment: str
    asked: bool = True
    """The script has it; False: it keeps the job as the other trainer would run it."""


@dataclass
class Translation:
    """The translation of a script."""

    source: Source
    settings: dict[str, Setting] = field(default_factory=dict)
    """Our key -> its value."""
    left: list[tuple[str, str]] = field(default_factory=list)
    """(as it was written, why it is not in the job file)."""
    todo: list[str] = field(default_factory=list)
    """Decisions that the user must make before the job can run."""

    def put(self, key: str, value: Any, comment: str) -> None:
        """Take a setting of the script, also one inside a mapping (`MAPPING.KEY`); a later one of the same key wins."""
        comment = comment.replace("\n", " ")
        key, _, inner = key.partition(".")
        if inner:
            earlier = self.settings.get(key)
            value = {**(earlier.value if earlier else {}), inner: value}
            comment = f"{earlier.comment}; {comment}" if earlier else comment
        self.settings[key] = Setting(value, comment)

    def keep(self, key: str, value: Any, comment: str) -> None:
        """Write a value out that the script does not have, unless it has it."""
        self.settings.setdefault(key, Setting(value, comment, asked=False))

    def leave(self, written: str, name: str) -> None:
        """Note a setting that has no counterpart, with the reason of the table."""
        row = foreign_name(name)
        self.left.append((written.replace("\n", " "), row.sentence if row else "unknown here"))

    def settle(self, key: str, sentence: str) -> None:
        """Mark a setting as the user's to settle."""
        self.settings[key].comment = f"TO SETTLE: {sentence}"
        self.todo.append(f"{key}: {sentence}")

    def number(self, key: str, default: float, *, least: float = 1) -> float:
        """The value of a numeric key, or the default. Raises BadInput for another value than a number >= `least`."""
        if key not in self.settings:
            return default
        setting = self.settings[key]
        return _numeric(setting.comment, setting.value, least)

    def with_defaults(self) -> None:
        """Write out what the other trainer's defaults are, where ours differ."""
        ours = JobSpec.model_validate({"model": {"model": "/"}}).model_dump(mode="json")
        for key, value in self.source.defaults.items():
            here = ours[flags()[key][0]][key]
            self.keep(key, value, f"{self.source.title}'s default; ours is {plain(here)}")

    def valid(self) -> None:
        """Leave out what the spec refuses beside the rest, such as a setting of another loss."""
        for _ in range(len(self.settings)):
            try:
                parse_spec(document(self.settings))
            except SpecError as error:
                refused = self._refused(error)
                if refused is None:
                    self.todo.append(str(error))
                    return
                key, sentence = refused
                dropped = self.settings.pop(key)
                if dropped.asked:
                    self.left.append((f"{key} {plain(dropped.value)}", sentence))
                if key in _DECISIVE:
                    self.todo.append(f"{key}: {sentence}")
            else:
                return

    def _refused(self, error: SpecError) -> tuple[str, str] | None:
        for place, sentence in error.problems:
            named = re.match(r"(\w+)(?:, \w+)*:", sentence)
            for key in (named[1] if named else "", place.rsplit(".", 1)[-1]):
                if key in self.settings:
                    return key, sentence.removeprefix(f"{key}: ")
        return None


def document(settings: Mapping[str, Setting]) -> dict[str, Any]:
    """The settings as a job's document, sections and keys in the order of the spec."""
    made: dict[str, Any] = {}
    for key, path in flags().items():
        if key in settings:
            inner = made
            for part in path[:-1]:
                inner = inner.setdefault(part, {})
            inner[path[-1]] = settings[key].value
    return made


def job_file(translation: Translation, command: str) -> str:
    """The job file: every value with its comment, then what has no counterpart."""
    title = translation.source.title
    lines = [f"# From a script of {title}: {command}"]
    if translation.todo:
        lines.append("# Lines that say TO SETTLE are yours to settle before it runs.")
    section: tuple[str, ...] = ()
    for key, path in flags().items():
        if key not in translation.settings:
            continue
        if path[:-1] != section:
            section = path[:-1]
            lines += ["", *(f"{'  ' * depth}{part}:" for depth, part in enumerate(section))]
        setting = translation.settings[key]
        lines.append(f"{'  ' * len(section)}{key}: {plain(setting.value)}  # {setting.comment}")
    if translation.left:
        lines += ["", "# Without a counterpart here:"]
        lines += [f"#   {written}: {why}" for written, why in translation.left]
    return "\n".join(lines) + "\n"


def no_folder(model: object) -> str:
    """Advice for a model that is no folder on this machine."""
    return (
        f"`hf download {model} --local-dir FOLDER` and FOLDER here, unless the operator lets jobs fetch it "
        "(API_HUB_MODELS)"
    )


def plain(value: Any) -> str:
    """The value as it stands behind a key in YAML, on one line."""
    if isinstance(value, float):
        return f"{value:g}" if "e" not in f"{value:g}" else f"{value:.1e}"
    if isinstance(value, str) and not value.isprintable():
        return json.dumps(value, ensure_ascii=False)  # YAML's own form would take several lines
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def number_of(written: str, text: str, *, least: float = 0) -> float:
    """The number that a setting of the script has, which is written like that. Raises BadInput for anything else."""
    return _numeric(written, typed(text), least)


def _numeric(written: str, value: object, least: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and least <= value < math.inf:
        return value
    raise BadInput(f"{written}: want a number >= {least:g}, got {plain(value)}")


def typed(text: str) -> Any:
    """A word of a command line as YAML reads it, and 1e-6 as a number."""
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        return float(text) if re.search(r"[.eE]", text) else int(text)
    if text in ("True", "False", "None", "null"):
        return {"True": True, "False": False}.get(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
