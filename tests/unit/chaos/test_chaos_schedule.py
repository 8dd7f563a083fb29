"""The schedule of faults follows from the seed, and has what it should have."""

from __future__ import annotations

import pytest

from tests.chaos.faults import BATCHES_AN_UPGRADE, KINDS, PLACES, ROWS, SERVICES, STACK, STREAMS, batches_for, schedule


def test_a_seed_gives_the_same_faults_again_and_another_seed_others():
    assert schedule(3, 20) == schedule(3, 20)
    assert schedule(3, 20) != schedule(4, 20)


def test_the_standard_mix_has_every_row_of_the_fault_table():
    for seed in range(20):
        assert set(ROWS) <= {(fault.kind, fault.service) for fault in schedule(seed, 20)}


def test_many_faults_have_every_kind_of_the_standard_mix_on_everything():
    faults = schedule(0, 200)
    assert {fault.kind for fault in faults} == set(KINDS) - {"freeze", "pair", "stranger", "type", "upgrade"}
    assert {fault.service for fault in faults} == {*SERVICES, *STREAMS, STACK}


def test_every_fault_strikes_while_the_job_runs_and_in_order():
    faults = schedule(7, 20)
    at = [fault.at_batch for fault in faults]
    assert at == sorted(at)
    assert at[0] >= 1
    assert at[-1] < batches_for(faults) - 1
    assert [fault.number for fault in faults] == list(range(20))


def test_an_upgrade_comes_last_and_the_job_trains_on_meanwhile():
    faults = schedule(366, 4, ["rollout", "stack"], ["kill", "upgrade"])
    assert [fault.kind for fault in faults] == ["kill", "kill", "upgrade", "upgrade"]
    assert batches_for(faults[:3]) == batches_for(faults[:2] + faults[:1]) + BATCHES_AN_UPGRADE


def test_what_lasts_has_a_duration_and_what_does_not_has_none():
    for fault in schedule(1, 200):
        assert (fault.lasts_s > 0) == (fault.kind in ("stop", "slow", "disk"))


@pytest.mark.parametrize(
    ("only", "struck"),
    [
        ("rollout", {"rollout", "groups", "replies"}),
        ("env", {"env", "env-worker"}),
        ("env-worker", {"env-worker"}),
        ("trainer", {"trainer", "trainer-child", "scored", "queue"}),
        ("valkey", {"valkey"}),
        (STACK, {STACK}),
    ],
)
def test_only_one_service_means_its_processes_and_the_streams_that_it_reads(only: str, struck: set[str]):
    assert {fault.service for fault in schedule(2, 60, [only])} == struck


def test_kinds_narrow_the_mix():
    assert {fault.kind for fault in schedule(2, 30, kinds=["kill", "cut"])} == {"kill", "cut"}
    assert {fault.service for fault in schedule(2, 6, kinds=["freeze"])} == {"trainer-child", "rollout", "inference"}
    assert {fault.service for fault in schedule(2, 20, kinds=["stranger"])} == set(PLACES)
    assert {(fault.kind, fault.service) for fault in schedule(2, 2, kinds=["upgrade"])} == {("upgrade", STACK)}


def test_a_pair_belongs_to_both_of_its_services():
    assert {fault.service for fault in schedule(2, 9, ["rollout"], ["pair"])} == {"env+rollout", "inference+rollout"}
    assert {fault.service for fault in schedule(2, 9, ["api"], ["pair"])} == {"api+trainer"}


def test_no_fault_that_fits_is_refused_with_a_sentence():
    with pytest.raises(ValueError, match="want a fault that exists, got kinds power of services api"):
        schedule(1, 5, ["api"], ["power"])
