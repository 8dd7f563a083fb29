"""`gigpo env list | show`; the service's own package adds `play`, `check`, `bench` and `new`."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from gigpo.client.completion import complete_environment
from gigpo.client.errors import BadAnswer, BadInput, NoStack
from gigpo.client.missing import how_to_install, missing_package
from gigpo.client.models import JsonObject
from gigpo.client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, connected, console, emit, says_errors
from gigpo.client.stack import running_stack
from services.contracts.plain_errors import in_words, one_of
from services.contracts.rest.catalogue import EnvironmentView
from services.presentation.schema_words import kwargs_in_words

app = typer.Typer(no_args_is_help=True, help="The environments that agents act in.")
for point in entry_points(group="gigpo.commands", name="env"):
    app.add_typer(point.load())


CAPABILITIES = {
    "deterministic": "deterministic",
    "gives_anchors": "anchors",
    "thread_safe": "threads",
}
"""Field of the listing -> what it is called in the table."""


@app.command("list")
@says_errors
def list_environments(runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Every environment that a job can name, with the keys its environment_kwargs take.

    Asks the API; where none is named and no stack is running in this folder, this installation itself.
    """
    found = _found(runs, api)
    if json_output:
        emit(found)
        return
    table = Table("id", "description", "kwargs", "splits", "able", "cost", box=None)
    for view in _views(found):
        info, keys = view.info, view.info.kwargs_schema.get("properties")
        what = Text(info.description)  # no markup: [extra] is to be read
        if view.unavailable_reason:
            what = Text(f"{view.unavailable_reason}. ", style="bold").append_text(what)
        kwargs = ", ".join(keys if isinstance(keys, dict) else ())
        able = ", ".join(word for name, word in CAPABILITIES.items() if getattr(info, name))
        table.add_row(info.id, what, kwargs, ", ".join(info.splits), able, info.cost_class or "")
    console(json_output).print(table)


@app.command("show")
@says_errors
def show_environment(
    environment: Annotated[
        str, typer.Argument(metavar="ID", help="See `gigpo env list`.", autocompletion=complete_environment)
    ],
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """One environment: what it is, and every key of its environment_kwargs with its values and default.

    Asks whom `gigpo env list` asks. With --json: the key's JSON schema too.
    """
    found = _found(runs, api)
    by_id = {view.info.id: (view, one) for view, one in zip(_views(found), found, strict=True)}
    if environment not in by_id:
        raise BadInput(f"ID: {one_of(by_id, environment)}")
    view, document = by_id[environment]
    if json_output:
        emit(document)
        return
    info, words = view.info, console(json_output)
    words.print(Text(f"{info.id}: {info.description}".rstrip(": ")))
    if view.unavailable_reason:
        words.print(Text(view.unavailable_reason))
    about = Table.grid(padding=(0, 2))
    about.add_row("splits", ", ".join(info.splits))
    about.add_row("anchors", "its states recur" if info.gives_anchors else "none: gigpo needs another environment")
    about.add_row("deterministic", "yes" if info.deterministic else "no: a lost session can't be replayed")
    about.add_row("turns", f"{info.default_max_turns} unless max_turns says otherwise")
    about.add_row("prompt template", info.prompt_template)
    if info.tools:
        about.add_row("tools", ", ".join(str(tool["name"]) for tool in info.tools))
    if info.templates:
        about.add_row("its own files", ", ".join(info.templates))
    words.print(about)
    table = Table("environment_kwargs", "values", "default", "", box=None)
    for key in kwargs_in_words(info.kwargs_schema):
        table.add_row(*(Text(text) for text in (key.name, key.values, key.default or "(required)", key.description)))
    words.print(table)


def environment_view(environment: str, runs: Path, api: str | None) -> EnvironmentView:
    """One environment, as `gigpo env list` finds it. Raises BadInput for an unknown one, with those that are known."""
    by_id = {view.info.id: view for view in _views(_found(runs, api))}
    if environment not in by_id:
        raise BadInput(f"--environment: {one_of(by_id, environment)}")
    return by_id[environment]


def _views(found: list[JsonObject]) -> list[EnvironmentView]:
    try:
        return [EnvironmentView.model_validate(one, extra="ignore") for one in found]
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadAnswer(f"the list of environments can't be read: {place}: {in_words(first)}") from error


def _found(runs: Path, api: str | None) -> list[JsonObject]:
    """The listing of the API, or of this installation."""
    if api is None and running_stack(runs) is None:
        try:
            for point in entry_points(group="gigpo.catalogue"):
                installed: list[JsonObject] = point.load()()
                return installed
        except ModuleNotFoundError as error:
            if missing_package(error) is None:
                raise
            here = f"{how_to_install('env')} for those of this machine"
            raise NoStack(f"no stack is running in {runs}; --api URL names an API elsewhere, {here}") from error
    with connected(runs, api) as client:
        return client.environments()
