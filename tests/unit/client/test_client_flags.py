"""Every leaf of the spec is a flag, and a command is told those that were given."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from gigpo.client.flags import takes_job_flags
from services.contracts.job import flags


@pytest.fixture
def told() -> dict[str, Any]:
    return {}


@pytest.fixture
def app(told: dict[str, Any]) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @takes_job_flags
    def command(file: str, values: dict[str, Any], own: Annotated[int, typer.Option()] = 7) -> None:
        """What it does."""
        told.update(file=file, own=own, values=values)

    return app


def test_a_command_is_told_the_flags_that_were_given_as_they_were_typed(app: typer.Typer, told: dict[str, Any]) -> None:
    answer = CliRunner().invoke(app, ["job.yaml", "--gamma", "0.90", "--own", "8", "--reward_funcs", "a,b"])
    assert answer.exit_code == 0, answer.output
    assert told == {"file": "job.yaml", "own": 8, "values": {"gamma": "0.90", "reward_funcs": "a,b"}}


def test_a_flag_that_was_not_given_is_not_told(app: typer.Typer, told: dict[str, Any]) -> None:
    assert CliRunner().invoke(app, ["job.yaml"]).exit_code == 0
    assert told == {"file": "job.yaml", "own": 7, "values": {}}


def test_every_leaf_is_a_flag_of_the_command_and_no_other(app: typer.Typer) -> None:
    options = {name for parameter in typer.main.get_command(app).params for name in parameter.opts}
    assert {f"--{name}" for name in flags()} <= options
    assert "--values" not in options
    assert CliRunner().invoke(app, ["job.yaml", "--unknown", "1"]).exit_code == 2


def test_a_flag_s_help_names_its_values_and_its_default(app: typer.Typer) -> None:
    shown = {parameter.opts[0]: parameter for parameter in typer.main.get_command(app).params}
    assert shown["--loss_type"].metavar == "grpo|bnpo|dr_grpo|dapo|cispo|sapo|real|fipo"
    assert shown["--kl_in_reward"].metavar == "true|false"
    assert shown["--gamma"].help.endswith("(default 0.95)")  # type: ignore[attr-defined]
