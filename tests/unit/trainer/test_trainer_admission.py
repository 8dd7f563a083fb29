"""Which groups may be opened: figures by hand, and what holds whatever is dropped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.job import JobSpec, parse_spec
from services.trainer.groups.admission import cursors_to_open, groups_admitted


def spec(staleness: int, size: int = 4, batches: int = 10) -> JobSpec:
    return parse_spec(
        {
            "model": {"scratch": {}},
            "rollout": {"max_staleness": staleness, "groups_per_batch": size, "max_completion_length": 8},
            "training": {"total_batches": batches},
        }
    )


@pytest.mark.parametrize(
    ("staleness", "version", "admitted"),
    [(0, 0, 4), (0, 1, 8), (0, 9, 40), (1, 0, 8), (1, 1, 12), (1, 8, 40), (1, 9, 40), (2, 0, 12), (2, 3, 24)],
)
def test_groups_of_the_batches_up_to_the_staleness_ahead_are_admitted(staleness: int, version: int, admitted: int):
    found = groups_admitted(version=version, max_staleness=staleness, groups_per_batch=4, total_batches=10)
    assert found == admitted
    assert cursors_to_open(spec(staleness), version=version, next_cursor=0, lost=0) == range(admitted)


def test_a_dropped_group_makes_room_for_the_next_cursor():
    assert list(cursors_to_open(spec(1), version=0, next_cursor=8, lost=0)) == []
    assert list(cursors_to_open(spec(1), version=0, next_cursor=8, lost=2)) == [8, 9]
    assert list(cursors_to_open(spec(1), version=0, next_cursor=10, lost=2)) == []


def test_nothing_is_opened_past_the_last_batch_except_replacements():
    assert list(cursors_to_open(spec(2), version=9, next_cursor=40, lost=0)) == []
    assert list(cursors_to_open(spec(2), version=9, next_cursor=40, lost=1)) == [40]


def test_extra_groups_are_under_way_beside_those_that_batches_need():
    assert groups_admitted(version=0, max_staleness=1, groups_per_batch=4, total_batches=10, extra_groups=3) == 11
    assert groups_admitted(version=0, max_staleness=1, groups_per_batch=4, total_batches=0, extra_groups=3) == 0


def test_a_job_without_training_opens_nothing():
    assert list(cursors_to_open(spec(1, batches=0), version=0, next_cursor=0, lost=0)) == []


@given(
    staleness=st.integers(0, 3),
    size=st.integers(1, 5),
    batches=st.integers(1, 6),
    drops=st.lists(st.integers(0, 3), min_size=6, max_size=6),
)
def test_every_batch_can_be_filled_and_no_group_waits_longer_than_the_staleness(
    staleness: int, size: int, batches: int, drops: list[int]
):
    """Plays a job in which some groups under way are dropped before each batch."""
    job, waiting = spec(staleness, size, batches), []
    next_cursor = lost = 0
    for version in range(batches):
        for dropped in [drops[version], 0]:  # first some are dropped, then what replaces them
            opened = cursors_to_open(job, version=version, next_cursor=next_cursor, lost=lost)
            waiting += [(cursor, version) for cursor in opened]
            next_cursor = max(next_cursor, opened.stop)
            gone = min(dropped, len(waiting))
            waiting, lost = waiting[gone:], lost + gone
        assert len(waiting) >= size
        batch, waiting = waiting[:size], waiting[size:]
        assert all(version - opened_at <= staleness for _, opened_at in batch)
    assert waiting == []
