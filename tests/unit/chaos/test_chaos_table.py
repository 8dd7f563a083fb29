"""The table's verdicts and the document for machines."""

from __future__ import annotations

import json
from io import StringIO

from rich.console import Console

from tests.chaos.checks import Check
from tests.chaos.faults import Fault
from tests.chaos.recovery import Look, Struck
from tests.chaos.table import HELD, LATE, LOST, Machine, document, drawn, rows_of, succeeded

GOOD = [Check("one")]


def struck(kind: str, service: str, recovered_in_s: float | None) -> Struck:
    return Struck(Fault(0, kind, service, at_batch=1, after_s=0.0), Look(), 0.0, recovered_in_s)


def test_faults_of_one_kind_and_service_share_a_row():
    rows = rows_of([struck("kill", "api", 1.0), struck("stop", "api", 0.5), struck("kill", "api", 3.0)])
    assert [(row.kind, row.service, row.count, row.recovered) for row in rows] == [
        ("kill", "api", 2, (1.0, 3.0)),
        ("stop", "api", 1, (0.5,)),
    ]


def test_a_row_is_held_late_or_lost():
    rows = rows_of([struck("kill", "api", 5.0), struck("kill", "advantage", 10.1), struck("kill", "env", None)])
    assert [row.verdict for row in rows] == [HELD, LATE, LOST]


def test_a_late_recovery_fails_only_where_bars_count_and_a_lost_one_always():
    late, lost = rows_of([struck("kill", "advantage", 10.1)]), rows_of([struck("kill", "env", None)])
    assert not succeeded(late, GOOD, bars_count=True)
    assert succeeded(late, GOOD, bars_count=False)
    assert not succeeded(lost, GOOD, bars_count=False)


def test_a_failed_check_fails_the_run_though_every_fault_was_recovered_from():
    held = rows_of([struck("kill", "api", 1.0)])
    assert succeeded(held, GOOD, bars_count=True)
    assert not succeeded(held, [*GOOD, Check("two", "something is wrong")], bars_count=True)


def test_the_table_shows_bar_median_longest_and_never():
    rows = rows_of([*(struck("kill", "rollout", took) for took in (2.0, 4.0, 9.0)), struck("cut", "env", None)])
    console = Console(width=100, record=True, file=StringIO())
    console.print(drawn(rows))
    lines = [line.split("│")[1:-1] for line in console.export_text().splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["kill", "rollout", "3", "4.0 s", "9.0 s", "15 s", "held"],
        ["cut", "env", "1", "never", "never", "-", "lost"],
    ]


def test_the_document_holds_everything_that_the_table_does():
    faults = [struck("kill", "rollout", 2.0), struck("poison", "groups", None)]
    machine = Machine(cpus=2, load_before=1.0, load_after=2.0, engine="transformers", quiet_batch_s=1.5)
    told = json.loads(json.dumps(document(4, faults, [Check("one", "wrong")], machine, ok=False)))
    assert (told["ok"], told["seed"], told["machine"]["cpus"]) == (False, 4, 2)
    assert [(row["service"], row["bar"], row["verdict"]) for row in told["rows"]] == [
        ("rollout", 15, HELD),
        ("groups", None, LOST),
    ]
    assert told["checks"] == [{"name": "one", "holds": False, "found": "wrong"}]
    assert [fault["recovered_in_s"] for fault in told["faults"]] == [2.0, None]
