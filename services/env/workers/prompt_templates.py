"""The prompt templates of an environment class: files in a folder beside its module, each rendered once as a check."""

import sys
from pathlib import Path

from gigpo.env.environment import Environment
from services.contracts.templates import FORMS, SCENE, template_files, template_names, template_of
from services.env.workers.wanted import ContractError, named, text

BASE = "base"
"""How the name of a file ends, before `.jinja`, that other files extend and no job can name."""
_SCENE = {
    "task": "find the key",
    "observation": "a door, a lamp",
    "history": (("a hall", "go north"),),
    "admissible_actions": ("go south", "take lamp"),
    "task_hidden": False,
}


def brought_templates(found: type[Environment]) -> dict[str, str]:
    """File name -> text, in order of the names; empty where the class names no folder.

    Raises:
        ContractError: there is no such folder or no template in it, or a file of it is not what it must be.
    """
    home = next(base for base in found.__mro__ if "templates" in vars(base))
    wanted = text("templates", found.templates)
    if not wanted:
        return {}
    folder = _folder(home, wanted)
    files = {file.name: _content(file) for file in sorted(folder.glob("*.jinja"))}
    if not any(map(template_of, files)):
        raise ContractError(f"templates: want NAME.v1.think.jinja or NAME.v1.plain.jinja in {folder}, got no such file")
    for name in files:
        _check_name(name)
    _check_texts(files)
    return files


def _folder(home: type, wanted: str) -> Path:
    module = getattr(sys.modules.get(home.__module__), "__file__", None)
    if module is None:
        raise ContractError(f"templates: want a module that is a file, {home.__module__} is none")
    beside = Path(module).resolve().parent
    folder = (beside / wanted).resolve()
    if folder == beside or not folder.is_relative_to(beside) or not folder.is_dir():
        raise ContractError(f"templates: want a folder in {beside}, got {wanted!r}")
    return folder


def _content(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"templates: {file.name}: want a text in UTF-8, but {named(error)}") from error


def _check_name(name: str) -> None:
    template = template_of(name)
    if template is None and not name.endswith(f".{BASE}.jinja"):
        forms = " or ".join((*FORMS, BASE))
        raise ContractError(f"templates: {name}: want NAME.v1.FORM.jinja, FORM being {forms}")
    if name in template_files() or template in template_names():
        raise ContractError(f"templates: {name}: the platform has {template or name} already; want another name")


def _check_texts(files: dict[str, str]) -> None:
    from jinja2 import TemplateError, meta  # only those who bring templates need it

    from services.contracts.templates.sandbox import scene_sandbox

    sandbox = scene_sandbox(files)
    for name, source in files.items():
        try:
            unknown = sorted(meta.find_undeclared_variables(sandbox.parse(source)) - SCENE)
            if not unknown:
                sandbox.get_template(name).render(_SCENE)
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            place = name if line is None else f"{name}, line {line}"
            raise ContractError(f"templates: {place}: {named(error)}") from error
        except Exception as error:  # a template is a program: it may divide by zero
            raise ContractError(f"templates: {name}: it cannot be rendered: {named(error)}") from error
        if unknown:
            raise ContractError(f"templates: {name}: want {', '.join(sorted(SCENE))}, got {unknown[0]!r}")
