"""The table of recoveries in docs/reliability.md has every row of the fault table, and holds its bars."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.chaos.faults import ROWS
from tests.chaos.record import BEGIN, END, NO_FIGURE, PAGE, table, written


def document(seed: int, **took: float | None) -> dict[str, Any]:
    faults = [{"kind": "kill", "service": service, "recovered_in_s": seconds} for service, seconds in took.items()]
    machine = {"cpus": 2, "load_before": 0.5 * seed, "load_after": 2.0, "engine": "transformers"}
    return {"seed": seed, "machine": machine, "faults": faults}


def test_runs_become_one_table():
    made = table([document(1, rollout=3.0, valkey=2.0), document(2, rollout=10.94)])
    assert "| kill rollout | 15 s | 3.0 to 10.9 s |" in made
    assert "| kill valkey | 30 s | 2.0 s |" in made
    assert f"| power stack | - | {NO_FIGURE} |" in made
    assert "Seeds 1, 2, 3 faults, 2 CPUs at a load of 0.5 to 2.0, engine `transformers`." in made
    assert written(f"a\n{BEGIN}old\n{END}b\n", made) == f"a\n{BEGIN}{made}{END}b\n"


def test_a_run_that_lost_something_is_no_record():
    with pytest.raises(ValueError, match="got kill rollout that did not"):
        table([document(1, rollout=None)])


def test_the_page_has_every_row_within_its_bar():
    page = PAGE.read_text()
    found = re.findall(
        r"^\| (\w+) ([\w-]+) \| (.+) \| (.+) \|$", page.partition(BEGIN)[2].partition(END)[0], re.MULTILINE
    )
    rows = {(kind, service): (within, took) for kind, service, within, took in found if kind != "fault"}
    assert rows.keys() == ROWS.keys()
    for row, (within, took) in rows.items():
        bar = ROWS[row]
        assert within == (bar.wording if bar else "-")
        if bar:
            assert float(re.findall(r"([\d.]+) s", took)[-1]) <= bar.seconds, row
