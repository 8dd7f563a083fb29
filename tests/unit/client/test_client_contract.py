"""`gigpo openapi`."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from client.main import app


def test_the_command_prints_the_document_of_the_api() -> None:
    printed = CliRunner().invoke(app, ["openapi"])
    assert printed.exit_code == 0, printed.output
    assert "/v1/jobs" in json.loads(printed.stdout)["paths"]
