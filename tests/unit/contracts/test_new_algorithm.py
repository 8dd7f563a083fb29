"""A row is all that a new estimator or loss needs beside its function: the rest of the platform follows from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def toys() -> dict[str, Any]:
    """Result of two rows that `toy_rows` adds, in an interpreter of their own: classes are made at import."""
    here = Path(__file__)
    paths = os.pathsep.join(map(str, (here.parent, here.parents[3], here.parents[3] / "proto")))
    program = "import toy_rows; toy_rows.main()"
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}
    )
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def test_a_new_row_goes_from_the_spec_to_its_function_with_its_own_option(toys: dict[str, Any]) -> None:
    assert toys["advantage"] == [-3.0, 3.0]
    assert toys["gradient"] == [3.0, -3.0]  # -slope A / 2 tokens


def test_a_new_option_is_a_key_of_the_section_and_a_flag(toys: dict[str, Any]) -> None:
    assert toys["schema"] == {
        "default": 1.0,
        "description": "sign: the size of every advantage.",
        "exclusiveMinimum": 0,
        "maximum": 8,
        "title": "Sign Strength",
        "type": "number",
    }
    assert toys["flag"] == ["algorithm", "linear_slope"]


def test_a_new_option_is_checked_like_every_other(toys: dict[str, Any]) -> None:
    assert "sign_strength: want advantage_estimator: sign with it, got advantage_estimator: grpo" in toys["beside"]
    assert "linear_slope: want loss_type: linear with it, got loss_type: bnpo" in toys["loss_beside"]
    assert "gamma: want advantage_estimator: g2po, gagpo, gigpo, graphgpo or hgpo with it" in toys["unheeded"]
    assert "want a number <= 8, got 9.0" in toys["range"]


def test_a_new_option_stands_in_the_table_of_the_documentation(toys: dict[str, Any]) -> None:
    (line,) = toys["table"]
    assert line == "| `sign_strength` | number > 0 and <= 8 | 1.0 | sign | sign: the size of every advantage. |"
