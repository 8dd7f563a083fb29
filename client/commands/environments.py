"""`gigpo env list`; the service's own package adds `play`, `check`, `bench` and `new`."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, connected, console, emit, says_errors
from client.stack import running_stack

app = typer.Typer(no_args_is_help=True, help="What agents can act in.")
for point in entry_points(group="gigpo.commands", name="env"):
    app.add_typer(point.load())


CAPABILITIES = {
    "deterministic": "deterministic",
    "gives_anchors": "anchors",
    "snapshot": "snapshot",
    "thread_safe": "threads",
}
"""Field of the listing -> what it is called in the table."""


@app.command("list")
@says_errors
def list_environments(runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Every environment that a job can name, with the keys its environment_kwargs take.

    Asks the API; where none is named and no stack is up in this folder, this installation itself.
    """
    found = _found(runs, api)
    if json_output:
        emit(found)
        return
    table = Table("id", "description", "kwargs", "splits", "able", "cost", box=None)
    for view in found:
        info = view["info"]
        what = Text(info["description"])  # no markup: [extra] is to be read
        if view["unavailable_reason"]:
            what = Text(f"{view['unavailable_reason']}. ", style="bold").append_text(what)
        kwargs = ", ".join(info["kwargs_schema"].get("properties", {}))
        able = ", ".join(word for name, word in CAPABILITIES.items() if info[name])
        table.add_row(info["id"], what, kwargs, ", ".join(info["splits"]), able, info["cost_class"] or "")
    console(json_output).print(table)


def _found(runs: Path, api: str | None) -> list[dict[str, Any]]:
    if api is None and running_stack(runs) is None:
        for point in entry_points(group="gigpo.catalogue"):
            installed: list[dict[str, Any]] = point.load()()
            return installed
    with connected(runs, api) as client:
        return client.environments()
