"""The pages show what can be done: each block is parsed by what will read it, and each link leads somewhere."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from gigpo.client.document import default_document, with_flags
from gigpo.client.errors import BadInput
from gigpo.client.main import app
from services.api.jobs.checks import installed_problems
from services.contracts.environment import COST_CLASSES
from services.contracts.job import JobSpec, flags, parse_spec
from services.env.tools.scaffold import make_package
from services.env.workers.registry import Registry, known_environments
from tests.documents import LANGUAGES, ROOT, CodeBlock, code_blocks, indented_code, pages, shell_calls

PAGES = pages()
BLOCKS = [block for page, text in PAGES.items() for block in code_blocks(page, text)]
OF_READERS = {"corridor", "lift"}
"""Environments that pages have their reader write."""
MAKE = re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def blocks(*languages: str) -> list[Any]:
    return [pytest.param(block, id=str(block)) for block in BLOCKS if block.language in languages]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package that `gigpo env new` writes."""
    folder = tmp_path_factory.mktemp("new")
    make_package("lift", folder)
    return folder / "lift"


@cache
def gigpo() -> Any:
    """The whole command line."""
    return typer.main.get_command(app)


@cache
def catalogue() -> list[dict[str, Any]]:
    """The platform's environments, as the check at the door wants them; what an extra brings counts as installed."""
    entries = Registry(known_environments({})).entries()
    return [
        {
            "info": {
                "id": entry.id,
                "kwargs_schema": json.loads(entry.kwargs_schema_json),
                "gives_anchors": entry.gives_anchors,
                "cost_class": COST_CLASSES[entry.cost_class],
                "splits": list(entry.splits),
                "templates": entry.templates,
            },
            "unavailable_reason": "",
        }
        for entry in entries
    ]


def check_job(document: Any) -> None:
    """Raises SpecError or AssertionError: no such job can run, whatever the rest of it is."""
    spec = parse_spec({"model": {"model": "FOLDER"}, **document})
    if spec.environment.environment not in OF_READERS:
        assert installed_problems(spec, catalogue()) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_says_its_language(page: str) -> None:
    assert indented_code(PAGES[page]) == []
    assert {block.language for block in BLOCKS if block.page == page} <= {*LANGUAGES}


@pytest.mark.parametrize("block", blocks("yaml", "json"))
def test_a_job_in_a_page_can_be_submitted(block: CodeBlock) -> None:
    document = yaml.safe_load(block.code) if block.language == "yaml" else json.loads(block.code)
    assert {*document} <= {*JobSpec.model_fields}, "want a job, or a part of one"
    check_job(document)


@pytest.mark.parametrize("block", blocks("toml"))
def test_toml_in_a_page_names_groups_that_are_read(block: CodeBlock) -> None:
    import tomllib

    points = tomllib.loads(block.code)["project"]["entry-points"]
    assert {*points} <= {"gigpo.environments", "gigpo.rewards", "gigpo.commands"}


@pytest.mark.parametrize("block", blocks("sh"))
def test_every_command_of_a_page_is_one(block: CodeBlock) -> None:
    for words in shell_calls(block.code, "gigpo"):
        check_call(words)
    for words in shell_calls(block.code, "make"):
        assert {word for word in words if "=" not in word} <= {*MAKE}


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_sentence_names_is_one(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`(gigpo [a-z][^`]*)`", text):
        command = gigpo()
        for word in code.split()[1:]:
            if not hasattr(command, "commands") or not re.fullmatch(r"[a-z]+", word):
                break
            assert word in command.commands, f"{page}: {code}"
            command = command.commands[word]


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_a_sentence_names_is_one(page: str) -> None:
    for target in re.findall(r"`make ([a-z-]+)", PAGES[page]):
        assert target in MAKE


def check_call(words: list[str]) -> None:
    """Parse a call of `gigpo` as the command does. Raises typer's error with its sentence."""
    command, context, name, rest = gigpo(), None, "gigpo", list(words)
    while True:
        context = command.make_context(name, rest, parent=context)
        if not hasattr(command, "commands"):
            break
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        name, command, rest = command.resolve_command(context, rest)
    if name == "train" and context.params.get("file") is None:
        values = {key.removeprefix("flag_"): value for key, value in context.params.items() if key.startswith("flag_")}
        try:
            parse_spec(with_flags(default_document(), {key: one for key, one in values.items() if one is not None}))
        except BadInput as error:
            if "no such file" not in str(error):  # a file of the reader's own
                raise


@pytest.mark.parametrize("block", blocks("python"))
def test_python_in_a_page_compiles_and_imports_what_is_there(block: CodeBlock) -> None:
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] not in OF_READERS:
            module = import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_the_environment_of_the_readme_is_the_one_that_the_quickstart_trains_in() -> None:
    shown = [block.code for block in BLOCKS if block.language == "python" and "class Corridor" in block.code]
    assert len(shown) == 2
    assert shown[0] == shown[1]


def test_the_template_of_a_new_package_shows_what_can_be_done(package: Path) -> None:
    check_job(yaml.safe_load((package / "job.yaml").read_text("utf-8")))
    shown = list(code_blocks("README.md", (package / "README.md").read_text("utf-8")))
    assert {block.language for block in shown} == {"sh", "yaml"}
    for block in shown:
        if block.language == "yaml":
            check_job(yaml.safe_load(block.code))
        else:
            calls = list(shell_calls(block.code, "gigpo"))
            assert calls
            for words in calls:
                check_call(words)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file_and_heading(page: str) -> None:
    for target, anchor in re.findall(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)", PAGES[page]):
        if "://" in target:
            continue
        there = (ROOT / page).parent / target if target else ROOT / page
        assert there.exists(), f"{page} -> {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.endswith("/README.md") and page.startswith("services")]
)
def test_every_file_that_the_page_of_a_service_names_is_there(page: str) -> None:
    home = (ROOT / page).parent
    for name in re.findall(r"`([\w/]+\.py)`", PAGES[page]):
        assert (ROOT / name).is_file() or list(home.rglob(name)), f"{page}: {name}"


def test_every_test_that_the_page_of_models_names_is_there() -> None:
    named = re.findall(r"`((?:unit|integration|e2e)/[\w/]+\.py)`: ((?:`test_\w+`(?:, )?)+)", PAGES["docs/models.md"])
    assert len(named) > 20
    for file, tests in named:
        text = (ROOT / "tests" / file).read_text("utf-8")
        for name in re.findall(r"`(test_\w+)`", tests):
            assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), f"{file}: {name}"


@pytest.mark.parametrize("page", PAGES)
def test_every_key_of_a_job_that_a_page_shows_as_a_flag_is_one(page: str) -> None:
    shown = {flag for flag in re.findall(r"`--([a-z]+_[a-z_]+)", PAGES[page])}
    assert shown <= {*flags()} or page == "docs/migrating.md"


@pytest.mark.parametrize(
    ("code", "calls"),
    [
        ("gigpo up -d   # a comment\n", [["up", "-d"]]),
        ("KEY=$(gigpo keys create 'a b') | cut\n", [["keys", "create", "a b"]]),
        ("for a in b; do gigpo jobs cancel $a; done", [["jobs", "cancel", "$a"]]),
        ("X='{\"a\": 1}' .venv/bin/gigpo env check \\\n  --all && true", [["env", "check", "--all"]]),
        ("cat > a.json <<'END'\ngigpo nonsense\nEND\ngigpo down", [["down"]]),
    ],
)
def test_calls_in_shell_code_are_found(code: str, calls: list[list[str]]) -> None:
    assert list(shell_calls(code, "gigpo")) == calls


@pytest.mark.parametrize(
    "words", [["tain"], ["train", "--no_such_key", "1"], ["jobs", "shwo", "a"], ["train", "--gamma", "2"]]
)
def test_a_call_that_is_none_is_noticed(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"(?i)no such|gamma: want"):
        check_call(words)
