"""The prompt templates: Jinja files beside this one, `<name>.<version>.<form>.jinja`.

A template `<name>/<version>` never changes; a new layout gets a new version. It comes in forms:

    think   instructions, and a reply that encloses its action in tags: <think>...</think><action>...</action>
    plain   the observation without instructions, and a reply that is the action
    tools   the observation without instructions, and a reply that calls tools in the model's own format

An environment may bring its own templates: `brought` below holds its files by name; none may have the name of a
platform template. Where a template has no file for a form, the form of `plain/v1` is used. Templates get no turn
counter and no clock, so that equal states give equal prompts. The first line of a file may name the tags that enclose
an action: `{# tags: action #}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

FORMS = ("think", "plain", "tools")
TURN = "turn.v1.jinja"
"""The environment's words in a conversation that goes on, in the forms with a chat; no template by itself."""
FALLBACK = "plain/v1"
"""The template of environments that name none; its forms stand in for those that another template lacks."""
NONE: Mapping[str, str] = MappingProxyType({})
"""The template of an environment without templates of its own."""
SCENE = frozenset({"task", "observation", "history", "admissible_actions", "task_hidden"})
"""All that a template may show: fields of rollout's `Scene`."""
_FILE = re.compile(r"(?P<name>\w+)\.(?P<version>v\d+)\.(?P<form>\w+)\.jinja")
_TAGS = re.compile(r"{# tags: ([\w, ]+) #}")
_MARKUP = re.compile(r"{#.*?#}|{%.*?%}|{{.*?}}", re.DOTALL)


@cache
def template_files() -> dict[str, str]:
    """File name -> text of every file, those that templates are built from too."""
    folder = files(__package__)
    return {file.name: file.read_text("utf-8") for file in folder.iterdir() if file.name.endswith(".jinja")}


def template_of(file: str) -> str | None:
    """The `<name>/<version>` that a file writes in one of the `FORMS`; None: it is no such file."""
    match = _FILE.fullmatch(file)
    return f"{match['name']}/{match['version']}" if match and match["form"] in FORMS else None


def template_names(brought: Mapping[str, str] = NONE) -> tuple[str, ...]:
    """Every `<name>/<version>`, sorted."""
    return tuple(sorted({name for file in (*template_files(), *brought) if (name := template_of(file))}))


def unknown_template(template: str, brought: Mapping[str, str] = NONE) -> str:
    """The sentence about a template that nobody has."""
    return f"unknown prompt template {template!r}; want auto or one of {', '.join(template_names(brought))}"


def template_file(template: str, form: str, brought: Mapping[str, str] = NONE) -> str:
    """Name of the file that writes a known template in one of the `FORMS`."""
    own = f"{template.replace('/', '.')}.{form}.jinja"
    known = own in template_files() or own in brought
    return own if known else f"{FALLBACK.replace('/', '.')}.{form}.jinja"


def suited_template(named: str, brought: Mapping[str, str] = NONE) -> str:
    """The template for what an environment names: itself, `v1` where no version is named, else `plain/v1`."""
    names = template_names(brought)
    return next((name for name in (named, f"{named}/v1") if name in names), FALLBACK)


def reply_tags(template: str, form: str, brought: Mapping[str, str] = NONE) -> tuple[str, ...]:
    """The tags that enclose an action in a reply; none: the reply is the action."""
    first_line = _text(template, form, brought).partition("\n")[0]
    match = _TAGS.match(first_line)
    return tuple(tag.strip() for tag in match[1].split(",")) if match else ()


def plain_words(template: str, brought: Mapping[str, str] = NONE) -> list[str]:
    """Those of the plain form."""
    return own_words(template, "plain", brought)


def own_words(template: str, form: str, brought: Mapping[str, str] = NONE) -> list[str]:
    """Words that a form adds to a scene's own: a tokenizer made from an environment's words needs them too."""
    return _MARKUP.sub(" ", _text(template, form, brought)).split()


def template_text(file: str, brought: Mapping[str, str] = NONE) -> str:
    """The text of a known file."""
    return brought[file] if file in brought else template_files()[file]


def _text(template: str, form: str, brought: Mapping[str, str]) -> str:
    return template_text(template_file(template, form, brought), brought)
