"""The `gigpo` command."""

from __future__ import annotations

import typer

from client.commands import comparing, contract, environments, jobs, stack, training

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Train LLM agents with GiGPO. `gigpo train` alone runs the default job on this machine.",
    epilog="Exit codes: 0 done, 1 a job failed, 2 something you gave is wrong, 3 no API answers.",
)
app.command()(training.train)
app.command()(training.warmstart)
app.command()(comparing.compare)
app.command()(stack.up)
app.command()(stack.down)
app.command()(contract.openapi)
app.add_typer(jobs.app, name="jobs")
app.add_typer(environments.app, name="env")


if __name__ == "__main__":
    app()
