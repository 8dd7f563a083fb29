"""The prompt templates that an environment brings beside its class."""

import importlib
import sys
from pathlib import Path

import pytest

from services.api.jobs.checks import installed_problems
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec
from services.env.edge.translation import environment_message
from services.env.workers.description import described
from services.env.workers.prompt_templates import brought_templates
from services.env.workers.registry import Registry
from services.env.workers.wanted import ContractError
from tests.env_plugins import plugin

THINK = "maze.v1.think.jinja"
OWN = {
    THINK: '{# tags: action #}\n{% extends "maze.base.jinja" %}{% block intro %}You are in a maze.{% endblock %}',
    "maze.base.jinja": '{% extends "base.v1.jinja" %}',
    "notes.txt": "no template",
}


def bringing(folder: Path, files: dict[str, str], named: str = "templates") -> type:
    """A plugin's class in a package of its own, with files in its folder `templates`."""
    package = f"brings_{folder.name}"
    (folder / package / "templates").mkdir(parents=True)
    for name, text in files.items():
        (folder / package / "templates" / name).write_text(text)
    source = plugin(f'templates = "{named}"\nprompt_template = "maze"')
    (folder / package / "environment.py").write_text(source)
    sys.path.insert(0, str(folder))
    try:
        found: type = importlib.import_module(f"{package}.environment").Mine
    finally:
        sys.path.remove(str(folder))
    return found


def test_the_description_carries_the_texts_and_the_job_gets_the_environments_own_template(tmp_path):
    entry = described("maze", bringing(tmp_path, OWN))
    assert entry.unavailable_reason == ""
    assert entry.templates == {name: text for name, text in OWN.items() if name.endswith(".jinja")}
    info = EnvironmentInfo.listed(environment_message(entry))
    assert info.templates == entry.templates
    assert info.template(JobSpec.model_validate({"model": {"model": "/m"}})) == "maze/v1"


def test_a_subclass_elsewhere_brings_what_its_parent_names(tmp_path):
    parent = bringing(tmp_path, OWN)
    assert brought_templates(type("Child", (parent,), {"__module__": __name__})) == brought_templates(parent)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "templates: want NAME.v1.think.jinja or NAME.v1.plain.jinja in "),
        ({THINK: "{% if task %}"}, "templates: maze.v1.think.jinja, line 1: TemplateSyntaxError: Unexpected end"),
        ({THINK: "a\n{{ task | no_such_filter }}"}, "templates: maze.v1.think.jinja, line 2: TemplateAssertionError: "),
        ({THINK: "{{ turn }}"}, "templates: maze.v1.think.jinja: want admissible_actions, history, "),
        ({THINK: '{% extends "no.base.jinja" %}'}, "templates: maze.v1.think.jinja: TemplateNotFound: no.base.jinja"),
        ({THINK: "{{ 1 / 0 }}"}, "templates: maze.v1.think.jinja: it cannot be rendered: ZeroDivisionError: "),
        ({THINK: "{{ task.x.y }}"}, "templates: maze.v1.think.jinja: UndefinedError: "),
        ({THINK: "{{ task.__class__.mro() }}"}, "templates: maze.v1.think.jinja: SecurityError: "),
        ({"maze.v1.loud.jinja": ""}, "templates: want NAME.v1.think.jinja or NAME.v1.plain.jinja in "),
        ({THINK: "", "maze.v1.loud.jinja": ""}, "templates: maze.v1.loud.jinja: want NAME.v1.FORM.jinja, FORM being "),
        ({"grid.v1.plain.jinja": "x"}, "templates: grid.v1.plain.jinja: the platform has grid/v1 already; "),
        ({THINK: "", "base.v1.jinja": ""}, "templates: base.v1.jinja: "),
    ],
)
def test_a_broken_template_is_refused_with_a_sentence(tmp_path, files, sentence):
    with pytest.raises(ContractError) as caught:
        described("maze", bringing(tmp_path, files))
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("named", ["gone", "..", ".", "/"])
def test_a_folder_that_is_not_beside_the_module_is_refused(tmp_path, named):
    with pytest.raises(ContractError, match="templates: want a folder in "):
        described("maze", bringing(tmp_path, OWN, named))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    found = bringing(tmp_path, OWN)
    (Path(sys.modules[found.__module__].__file__ or "").parent / "templates" / THINK).write_bytes(b"\xff\xfe")
    with pytest.raises(ContractError, match=r"maze\.v1\.think\.jinja: want a text in UTF-8"):
        described("maze", found)


def test_a_job_may_name_a_template_of_its_environment_and_no_other_ones(tmp_path):
    here = {"maze": f"{bringing(tmp_path, OWN).__module__}:Mine", "grid": "services.env.environments.grid:Grid"}
    infos = [EnvironmentInfo.listed(environment_message(entry)) for entry in Registry(here).entries()]
    views = [{"info": info.model_dump(mode="json"), "unavailable_reason": ""} for info in infos]

    def problems(template: str, environment: str = "maze") -> list[str]:
        named = {"environment": environment, "prompt_template": template}
        spec = {"model": {"model": "/m"}, "environment": named, "algorithm": {"advantage_estimator": "grpo"}}
        return installed_problems(JobSpec.model_validate(spec), views)

    assert problems("maze/v1") == problems("plain/v1") == problems("auto") == []
    for template, environment in (("maze/v2", "maze"), ("maze/v1", "grid")):
        (sentence,) = problems(template, environment)
        assert sentence.startswith(f"environment.prompt_template: unknown prompt template '{template}'; want auto or ")
