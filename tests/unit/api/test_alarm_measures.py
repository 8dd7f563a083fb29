"""The figures that alarms watch, as pure functions."""

from __future__ import annotations

import pytest

from services.api.insight.alarm_measures import FEW_GROUPS, Measure, disk_measure, equal_batches, ledger_measures
from services.ledger.records import Balance

DULL, USEFUL = {"trained_rows": 0, "success": 0.2}, {"trained_rows": 7, "success": 0.2}


def balance(opened: int, consumed: int, live: int, **dropped: int) -> Balance:
    return Balance(opened=opened, consumed=consumed, live=live, retried=0, dropped=dropped)


def over(measures: list[Measure]) -> set[str]:
    return {one.alarm for one in measures if one.is_over}


def test_a_ledger_that_balances_is_no_alarm_and_each_side_of_it_counts():
    assert over(ledger_measures(balance(10, 4, 5, infra=1))) == set()
    assert over(ledger_measures(balance(10, 4, 4, stale=1))) == {"ledger_imbalance"}
    assert over(ledger_measures(balance(10, 4, 7))) == {"ledger_imbalance"}


def test_what_infrastructure_dropped_counts_from_enough_groups_on():
    assert over(ledger_measures(balance(100, 95, 0, infra=5))) == set()
    assert over(ledger_measures(balance(100, 94, 0, infra=6))) == {"infra_share"}
    assert over(ledger_measures(balance(100, 0, 0, filtered=100))) == set()
    assert over(ledger_measures(balance(FEW_GROUPS - 1, 0, 0, infra=FEW_GROUPS - 1))) == set()


@pytest.mark.parametrize(
    ("rows", "streak"),
    [
        ([], 0),
        ([DULL] * 5, 5),
        ([USEFUL, *[DULL] * 9], 0),
        ([DULL, DULL, USEFUL, DULL], 2),
        ([{"trained_rows": 0, "success": 0.95}] * 9, 0),
        ([{"success": 0.2}] * 9, 0),
        ([{"trained_rows": 0}] * 6, 6),
    ],
)
def test_batches_that_teach_nothing_are_counted_from_the_newest_on(rows, streak):
    assert equal_batches(rows) == streak


def test_a_disk_is_nearly_full_above_95_percent():
    assert not disk_measure(1_000, 50).is_over
    assert disk_measure(1_000, 49).is_over
    assert not disk_measure(0, 0).is_over
