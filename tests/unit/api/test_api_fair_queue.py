"""The order in which trainers take queued jobs of several projects."""

from __future__ import annotations

from collections.abc import Sequence, Set

import pytest

from services.api.sync.fair_queue import Turn, fair_order
from services.contracts.states import JobState


def order(
    waiting: Sequence[str | None],
    *,
    held: Set[str] = frozenset(),
    running: Set[str] = frozenset(),
    unwanted: Set[str] = frozenset(),
    served: dict[str, float] | None = None,
) -> list[str | None]:
    """Jobs are named by the letter of their project and a number."""
    named = {job for job in (*waiting, *held) if job is not None and job != "unknown"}
    turns = {
        job: Turn(job[0], JobState.RUNNING if job in running else JobState.QUEUED, job not in unwanted) for job in named
    }
    return [waiting[index] for index in fair_order(waiting, turns, held, served or {})]


def test_one_project_keeps_the_order_in_which_it_submitted():
    assert order(["a2", "a1", "a3"]) == ["a2", "a1", "a3"]


def test_the_first_job_of_another_project_comes_before_the_second_of_the_first():
    assert order([*(f"a{n}" for n in range(50)), "b0", "b1"])[:5] == ["a0", "b0", "a1", "b1", "a2"]


def test_what_a_trainer_holds_counts_as_a_projects_turn():
    assert order(["a1", "a2", "b0"], held={"a0"}) == ["b0", "a1", "a2"]
    assert order(["a2", "b1", "b2"], held={"a0", "a1", "b0"}) == ["b1", "a2", "b2"]


def test_of_projects_with_as_many_jobs_the_one_that_began_longest_ago_comes_first():
    waiting = ["a1", "a2", "b1", "c0", "c1"]
    assert order(waiting, served={"a": 5.0, "b": 9.0}) == ["c0", "a1", "b1", "c1", "a2"]


def test_with_one_trainer_three_projects_take_turns():
    waiting: list[str | None] = ["a0", "a1", "a2", "b0", "b1", "c0", "c1"]
    served: dict[str, float] = {}
    taken = []
    for now in range(7):
        waiting = order(waiting, served=served)
        job = waiting.pop(0)
        assert job is not None
        served[job[0]] = float(now)
        taken.append(job)
    assert taken == ["a0", "b0", "c0", "a1", "b1", "c1", "a2"]


def test_a_job_whose_trainer_died_and_what_nobody_can_read_go_first():
    assert order(["a1", "a2", "b0", "a0", None, "unknown"], running={"a0"}) == ["a0", None, "unknown", "b0", "a1", "a2"]


def test_jobs_that_their_owners_cancelled_count_against_nobody():
    assert order(["a0", "a1", "a2", "b0", "b1"], unwanted={"a0", "a1"})[:4] == ["a0", "a1", "a2", "b0"]


@pytest.mark.parametrize("held", [set(), {"a9"}, {"b9", "b8"}])
def test_an_order_that_is_fair_stays(held: set[str]):
    once = order(["a0", "a1", "a2", "b0", "c0", "b1", "a3"], held=held, served={"b": 1.0})
    assert order(once, held=held, served={"b": 1.0}) == once
