"""The prompt templates: Jinja files beside this one, `<name>.<version>.<form>.jinja`.

A template `<name>/<version>` never changes; a new layout gets a new version. It comes in forms:

    think   instructions, and a reply that encloses its action in tags: <think>...</think><action>...</action>
    plain   words as they are, and a reply that is the action

A form that a template has no file of is that of `plain/v1`. Templates know no turn counter and no clock, so that equal
states give equal prompts. The first line of a file may name the tags that enclose an action: `{# tags: action #}`.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

FORMS = ("think", "plain")
FALLBACK = "plain/v1"
"""The template of environments that name none; its forms stand in for those that another template lacks."""
_FILE = re.compile(r"(?P<name>\w+)\.(?P<version>v\d+)\.(?P<form>\w+)\.jinja")
_TAGS = re.compile(r"{# tags: ([\w, ]+) #}")
_MARKUP = re.compile(r"{#.*?#}|{%.*?%}|{{.*?}}", re.DOTALL)


@cache
def template_files() -> dict[str, str]:
    """File name -> text of every file, those that templates are built from too."""
    folder = files(__package__)
    return {file.name: file.read_text("utf-8") for file in folder.iterdir() if file.name.endswith(".jinja")}


@cache
def template_names() -> tuple[str, ...]:
    """Every `<name>/<version>`, sorted."""
    matches = filter(None, map(_FILE.fullmatch, template_files()))
    return tuple(sorted({f"{match['name']}/{match['version']}" for match in matches}))


def template_file(template: str, form: str) -> str:
    """Name of the file that writes a known template in one of the `FORMS`."""
    own = f"{template.replace('/', '.')}.{form}.jinja"
    return own if own in template_files() else f"{FALLBACK.replace('/', '.')}.{form}.jinja"


def suited_template(named: str) -> str:
    """The template for what an environment names: itself, `v1` where no version is named, else `plain/v1`."""
    return next((name for name in (named, f"{named}/v1") if name in template_names()), FALLBACK)


def reply_tags(template: str, form: str) -> tuple[str, ...]:
    """The tags that enclose an action in a reply; none: the reply is the action."""
    first_line = template_files()[template_file(template, form)].partition("\n")[0]
    match = _TAGS.match(first_line)
    return tuple(tag.strip() for tag in match[1].split(",")) if match else ()


def plain_words(template: str) -> list[str]:
    """What the plain form adds to a scene's own words: a tokenizer made from an environment's words needs them too."""
    return _MARKUP.sub(" ", template_files()[template_file(template, "plain")]).split()
