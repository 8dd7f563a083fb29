"""`gigpo env`."""

from __future__ import annotations

import typer
from rich.table import Table

from client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, connected, console, emit, says_errors

app = typer.Typer(no_args_is_help=True, help="What agents can act in.")


@app.command("list")
@says_errors
def list_environments(runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Every environment that a job can name, with the keys its environment_kwargs take."""
    with connected(runs, api) as client:
        found = client.environments()
    if json_output:
        emit(found)
        return
    table = Table("id", "description", "kwargs", "splits", "anchors", box=None)
    for view in found:
        info = view["info"]
        what = view["unavailable_reason"] or info["description"]
        kwargs = ", ".join(info["kwargs_schema"].get("properties", {}))
        table.add_row(info["id"], what, kwargs, ", ".join(info["splits"]), "yes" if info["gives_anchors"] else "no")
    console(json_output).print(table)
