"""A fault counts as recovered from once everything it touched is done."""

from __future__ import annotations

import pytest

from services.ledger.states import GroupState
from tests.chaos.faults import Fault
from tests.chaos.recovery import Look, Struck, recovered

PLAYING = Look(batch=3, live={"a": GroupState.GENERATING, "b": GroupState.OPEN, "c": GroupState.SCORED})


def fault(kind: str, service: str) -> Fault:
    return Fault(0, kind, service, at_batch=1, after_s=0.0)


@pytest.mark.parametrize("service", ["env", "env-worker", "rollout", "inference"])
def test_what_episodes_need_has_recovered_when_every_group_under_way_is_played(service: str):
    struck = fault("kill", service)
    one = Look(batch=3, live={"a": GroupState.COMPLETE, "b": GroupState.OPEN})
    both = Look(batch=3, live={"a": GroupState.COMPLETE, "b": GroupState.SCORED, "d": GroupState.OPEN})
    assert not recovered(struck, PLAYING, PLAYING)
    assert not recovered(struck, PLAYING, one)
    assert recovered(struck, PLAYING, both)
    assert recovered(struck, PLAYING, Look(batch=4, live={}))


def test_a_look_without_the_ledger_shows_no_recovery():
    assert not recovered(fault("kill", "rollout"), PLAYING, Look(batch=4, live=None))


def test_with_nothing_under_way_the_next_batch_counts():
    before = Look(batch=3, live={"c": GroupState.SCORED})
    assert not recovered(fault("kill", "rollout"), before, Look(batch=3, live={}))
    assert recovered(fault("kill", "rollout"), before, Look(batch=4, live={"d": GroupState.OPEN}))


def test_the_advantage_service_has_recovered_when_the_groups_are_scored():
    complete = Look(batch=3, live={"a": GroupState.COMPLETE, "b": GroupState.COMPLETE})
    scored = Look(batch=3, live={"a": GroupState.SCORED, "b": GroupState.SCORED})
    assert not recovered(fault("kill", "advantage"), PLAYING, complete)
    assert recovered(fault("kill", "advantage"), PLAYING, scored)


@pytest.mark.parametrize(
    ("kind", "service"), [("kill", "trainer"), ("kill", "valkey"), ("disk", "stack"), ("power", "stack")]
)
def test_trainer_redis_and_the_whole_stack_have_recovered_at_the_next_batch(kind: str, service: str):
    assert not recovered(fault(kind, service), PLAYING, Look(batch=3, live={}))
    assert recovered(fault(kind, service), PLAYING, Look(batch=4, live={}))


def test_the_api_has_recovered_when_it_answers_also_after_the_jobs_end():
    assert not recovered(fault("kill", "api"), PLAYING, Look(batch=9, api=False, ended=True))
    assert recovered(fault("kill", "api"), PLAYING, Look(batch=3, api=True))


def test_poison_is_over_when_it_is_taken_away_and_the_job_goes_on():
    assert not recovered(fault("poison", "groups"), PLAYING, Look(batch=4, live={}, poison=2))
    assert not recovered(fault("poison", "groups"), PLAYING, Look(batch=3, live={}, poison=0))
    assert not recovered(fault("poison", "groups"), PLAYING, Look(batch=9, live={}, poison=2, ended=True))
    assert recovered(fault("poison", "groups"), PLAYING, Look(batch=4, live={}, poison=0))


def test_poison_that_came_with_the_last_batch_is_over_when_the_job_ends():
    for batch in (3, 4):
        assert recovered(fault("poison", "groups"), PLAYING, Look(batch=batch, live={}, poison=2, ended=True))
        assert not recovered(fault("poison", "groups"), PLAYING, Look(batch=batch, live={}, poison=2))


def test_of_a_pair_both_have_to_recover():
    struck = fault("pair", "advantage+trainer-child")
    assert not recovered(struck, PLAYING, Look(batch=3, live={"d": GroupState.OPEN}))
    assert not recovered(struck, PLAYING, Look(batch=4, live={"a": GroupState.COMPLETE}))
    assert recovered(struck, PLAYING, Look(batch=4, live={"d": GroupState.OPEN}))


def test_the_time_counts_from_the_end_of_the_fault_and_once():
    struck = Struck(fault("stop", "trainer"), PLAYING, ended_s=100.0)
    assert not struck.see(Look(batch=3), 101.0)
    assert struck.see(Look(batch=4), 104.5)
    assert not struck.see(Look(batch=5), 200.0)
    assert struck.recovered_in_s == 4.5
