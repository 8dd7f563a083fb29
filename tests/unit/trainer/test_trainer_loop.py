"""Opening, waiting, replacing and cutting, in milliseconds. `tests/integration` runs the same on the real ledger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.contracts.job import WarmStart
from services.contracts.messages import OpenedGroup
from services.ledger import DropReason, GroupState, StaleEpoch
from services.trainer.batch.batches import load_manifest, next_batch, open_due_groups, training_group
from services.trainer.batch.train_step import manifests_to_replay
from services.trainer.errors import JobFailed, PauseRequested
from services.trainer.groups.playability import FIRST_GROUPS, TooManyBroken
from services.trainer.groups.settlement import Settlement, SettlementKind
from services.trainer.job.restore import catch_up, consume_leftovers
from services.trainer.learner.rows import rows_of
from services.trainer.phases.one_off_groups import consume_gathered, gather
from services.trainer.phases.warmstart import random_group
from services.trainer.session.saving import save_checkpoint
from tests.unit.trainer.trainer_loop import Answer, Loop, fake_loop, loop_spec


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return fake_loop(tmp_path)


def name_of(loop: Loop, cursor: int) -> str:
    return training_group(loop.session, cursor).group_id


async def states(loop: Loop, *cursors: int) -> list[GroupState | None]:
    records = [await loop.ledger.record_of(name_of(loop, cursor)) for cursor in cursors]
    return [record.state if record else None for record in records]


async def cursors_of_next_batch(loop: Loop) -> list[int]:
    """Cut the next batch and pretend that it was trained and published."""
    batch = await next_batch(loop.session)
    assert batch.number == loop.session.progress.batch
    loop.at_version(batch.number + 1)
    return [group.scored.cursor for group in batch.groups]


async def test_batches_are_cut_in_order_of_cursor_and_end_with_the_job(loop: Loop):
    assert [await cursors_of_next_batch(loop) for _ in range(4)] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert loop.session.queue.cursors == []
    await open_due_groups(loop.session)
    assert loop.session.queue.next_cursor == 8


@pytest.mark.parametrize(("staleness", "opened"), [(0, 2), (1, 4), (2, 6), (9, 8)])
async def test_groups_are_opened_as_far_ahead_as_they_stay_fresh(loop: Loop, staleness: int, opened: int):
    loop.with_spec(loop_spec(staleness=staleness))
    await open_due_groups(loop.session)
    assert loop.session.queue.cursors == list(range(opened))
    assert await states(loop, opened - 1, opened) == [GroupState.OPEN, None]


async def test_a_batch_is_assigned_with_the_kl_of_its_rewards_and_trained_again_with_the_same(tmp_path: Path):
    loop = fake_loop(tmp_path, loop_spec(advantage_estimator="rloo", beta=2.0))
    batch = await next_batch(loop.session)
    rows = 2 * 8  # groups of eight episodes of one step
    learner: Any = loop.session.learner
    assert [value for group in batch.kl or [] for value in group] == pytest.approx([0.1 * row for row in range(rows)])
    advantages = [row.advantage for group in batch.groups for row in rows_of(group.episodes, group.scored)]
    centred = [8 / 7 * -2.0 * 0.1 * (row % 8 - 3.5) for row in range(rows)]  # all returns are equal but for the KL
    assert advantages == pytest.approx(centred)
    assert batch.scoring_s > 0
    again = await load_manifest(loop.session, 0, loop.ledger.stored[0])
    assert again.manifest() == batch.manifest()
    assert [group.scores for group in again.groups] == [group.scores for group in batch.groups]
    assert learner.scored_rows == rows  # the second time they were not asked for


@pytest.mark.parametrize("garbage", ["x", "[]", "{}", "7", '{"batch": 1, "groups": []}', '{"batch": 9, "groups": [7]}'])
async def test_what_is_no_manifest_is_told_and_taken_away(loop: Loop, garbage: str):
    batch = await next_batch(loop.session)
    for number in (1, 9):
        await loop.ledger.plant(number, garbage)
    assert await manifests_to_replay(loop.session) == {0: batch.manifest()}
    assert await loop.ledger.manifests() == {0: batch.manifest()}


async def test_a_batch_is_assigned_with_its_manifest(loop: Loop):
    batch = await next_batch(loop.session)
    assert batch.group_ids == [name_of(loop, 0), name_of(loop, 1)]
    assert await states(loop, 0, 1) == [GroupState.ASSIGNED] * 2
    assert await loop.ledger.manifests() == {0: batch.manifest()}


async def test_a_group_that_cannot_be_played_is_replaced_by_the_next_cursor(loop: Loop):
    loop.script.train(1, Answer(cause="the world is gone"))
    assert await cursors_of_next_batch(loop) == [0, 2]
    assert [await cursors_of_next_batch(loop) for _ in range(3)] == [[3, 4], [5, 6], [7, 8]]
    assert loop.session.queue.lost == 1
    assert loop.session.playability.last_cause == "the world is gone"


async def test_a_batch_knows_how_often_the_environments_of_dropped_groups_crashed(loop: Loop):
    loop.script.train(1, Answer(cause="environment env_bug: KeyError: 'door'", reason=DropReason.ENV_BUG))
    assert [(await next_batch(loop.session)).crashes for _ in range(2)] == [3, 0]


async def test_a_group_older_than_max_staleness_is_dropped_and_replaced(loop: Loop):
    loop.at_version(2)
    loop.script.train(0, Answer(version=0))
    loop.script.train(1, Answer(version=1))  # 1 version old, as max_staleness allows
    assert await cursors_of_next_batch(loop) == [1, 2]
    record = await loop.ledger.record_of(name_of(loop, 0))
    assert (record.state, record.reason) == (GroupState.DROPPED, DropReason.STALE.value)


ARRIVAL = {"batch_order": "arrival", "extra_groups": 1}


async def test_a_batch_by_arrival_waits_for_no_slow_group_and_trains_it_later(loop: Loop):
    loop.with_spec(loop_spec(rollout=ARRIVAL))
    for slow in (0, 3):
        loop.script.train(slow, Answer(silent=True))
    first = await next_batch(loop.session)
    assert ([group.scored.cursor for group in first.groups], first.passed_over) == ([1, 2], 1)
    assert loop.session.queue.cursors == [0, 3, 4], "of two batches of two, and one group more"
    again = await load_manifest(loop.session, 0, (await loop.ledger.manifests())[0])
    assert (again.manifest(), again.passed_over) == (first.manifest(), 1)
    loop.at_version(1)
    loop.script.train(0, Answer(version=0))
    assert await cursors_of_next_batch(loop) == [0, 4]


async def test_a_group_that_was_passed_over_for_too_long_is_dropped_as_stale(loop: Loop):
    loop.with_spec(loop_spec(rollout=ARRIVAL))
    loop.script.train(0, Answer(silent=True))
    assert [await cursors_of_next_batch(loop) for _ in range(2)] == [[1, 2], [3, 4]]
    loop.script.train(0, Answer(version=0))
    assert await cursors_of_next_batch(loop) == [5, 6]
    record = await loop.ledger.record_of(name_of(loop, 0))
    assert (record.state, record.reason) == (GroupState.DROPPED, DropReason.STALE.value)


async def test_a_batch_of_slow_groups_alone_says_which_it_waits_for(loop: Loop):
    loop.with_spec(loop_spec(rollout=ARRIVAL))
    loop.script.default = Answer(silent=True)
    await open_due_groups(loop.session)
    loop.session.queue.scored([name_of(loop, 3)])
    assert loop.session.queue.missing() == [name_of(loop, 0)]


async def test_dynamic_sampling_replaces_groups_without_spread(loop: Loop):
    loop.with_spec(loop_spec(dynamic_sample=True, max_resample_times=3))
    loop.script.train(0, Answer(spread=0.0))
    loop.script.train(2, Answer(spread=0.0))
    assert await cursors_of_next_batch(loop) == [1, 3]
    record = await loop.ledger.record_of(name_of(loop, 2))
    assert (record.state, record.reason) == (GroupState.DROPPED, DropReason.FILTERED.value)


async def test_dynamic_sampling_gives_up_after_max_resample_times(loop: Loop):
    loop.with_spec(loop_spec(dynamic_sample=True, max_resample_times=2))
    loop.script.default = Answer(spread=0.0)
    assert await cursors_of_next_batch(loop) == [4, 5]
    assert loop.session.queue.lost == 4


async def test_without_dynamic_sampling_flat_groups_are_trained(loop: Loop):
    loop.script.default = Answer(spread=0.0)
    assert await cursors_of_next_batch(loop) == [0, 1]


async def test_a_stale_flat_group_is_stale(loop: Loop):
    loop.with_spec(loop_spec(dynamic_sample=True))
    loop.at_version(3)
    loop.script.train(0, Answer(version=0, spread=0.0))
    await cursors_of_next_batch(loop)
    record = await loop.ledger.record_of(name_of(loop, 0))
    assert record.reason == DropReason.STALE.value
    assert loop.session.queue.lost == 1


async def test_a_job_ends_when_its_first_groups_fail_for_one_cause(loop: Loop):
    loop.script.default = Answer(cause="no such level")
    with pytest.raises(JobFailed, match=rf"first {FIRST_GROUPS} groups \(train\).*no such level"):
        await next_batch(loop.session)


async def test_first_groups_that_fail_do_not_end_a_job_that_has_trained(loop: Loop):
    loop.with_spec(loop_spec(batches=20))
    loop.at_version(1)
    for cursor in range(2 * FIRST_GROUPS):  # more than one wave
        loop.script.train(cursor, Answer(cause="no such level"))
    assert await cursors_of_next_batch(loop) == [2 * FIRST_GROUPS, 2 * FIRST_GROUPS + 1]


BUG = Answer(cause="environment env_bug: KeyError: 'door' (house.py, line 7, in step)", reason=DropReason.ENV_BUG)


async def test_a_job_ends_when_the_environments_code_fails_in_many_groups(loop: Loop):
    loop.with_spec(loop_spec(batches=100))
    for cursor in range(20, 200, 8):  # one of eight, after a good beginning
        loop.script.train(cursor, BUG)
    told = r"own code failed in 8 of \d\d training groups \(1\d\.\d%.*KeyError: 'door' \(house"
    with pytest.raises(JobFailed, match=told):
        await all_batches(loop)


@pytest.mark.parametrize("reason", [DropReason.ENV_BUG, DropReason.INFRA])
async def test_a_small_share_or_infrastructure_does_not_end_a_job(loop: Loop, reason: DropReason):
    every = {DropReason.ENV_BUG: 11, DropReason.INFRA: 2}[reason]
    loop.with_spec(loop_spec(batches=100))
    for cursor in range(1, 1_000, every):
        loop.script.train(cursor, replace(BUG, reason=reason))
    await all_batches(loop)
    assert loop.session.queue.lost > 15
    assert any(f"is replaced ({reason}): environment env_bug" in told for told in loop.session.events.counted)


async def test_an_evaluation_that_loses_many_episodes_to_the_environments_code_fails(loop: Loop):
    for cursor in range(0, 40, 4):
        loop.script.answers["warmstart", cursor] = BUG
    with pytest.raises(TooManyBroken, match=r"failed in 8 of 40 episodes \(evaluation after\) \(20\.0%.*KeyError"):
        await gather(loop.session, practice(loop, 40), "evaluation after")


async def test_a_command_ends_the_wait(loop: Loop):
    loop.script.default = Answer(silent=True)
    loop.session.commands.stop = PauseRequested("job")
    with pytest.raises(PauseRequested):
        await next_batch(loop.session)
    assert loop.session.queue.cursors == [0, 1, 2, 3]


async def test_a_wait_without_a_score_ends_with_the_missing_groups(loop: Loop):
    spec = loop_spec()
    limits = spec.limits.model_copy(update={"batch_timeout_s": 0.01})
    loop.with_spec(spec.model_copy(update={"limits": limits}))
    loop.script.train(1, Answer(silent=True))
    with pytest.raises(JobFailed, match=rf"batch 0: 1 of 2 groups.*{name_of(loop, 1)} \(OPEN, attempt \d+\)"):
        await next_batch(loop.session)


async def test_a_trainer_that_was_replaced_opens_nothing(loop: Loop):
    await loop.ledger.claim_epoch()
    with pytest.raises(StaleEpoch):
        await next_batch(loop.session)
    assert await states(loop, 0) == [None]


async def test_one_off_groups_come_in_the_order_given_without_those_that_were_dropped(loop: Loop):
    groups = practice(loop, 3)
    loop.script.answers["warmstart", 1] = Answer(cause="the world is gone")
    found = await gather(loop.session, groups, "warm start")
    assert [payload.group_id for payload in found] == [groups[0].group_id, groups[2].group_id]


async def test_one_off_groups_are_settled_and_settling_again_changes_nothing(loop: Loop):
    groups = practice(loop, 3)
    names = [group.group_id for group in groups]
    await gather(loop.session, groups, "warm start")
    for _ in range(2):
        await consume_gathered(loop.session, Settlement(SettlementKind.WARM_START), names)
    assert [(await loop.ledger.record_of(name)).state for name in names] == [GroupState.CONSUMED] * 3
    assert await loop.ledger.live() == []
    assert await loop.ledger.manifests() == {}


async def test_leftovers_of_a_checkpointed_warm_start_are_freed_and_training_groups_stay(loop: Loop):
    practised = practice(loop, 2)
    await gather(loop.session, practised, "warm start")
    await next_batch(loop.session)
    loop.session.progress.warmstarted = True
    await consume_leftovers(loop.session)
    consumed = [(await loop.ledger.record_of(group.group_id)).state for group in practised]
    assert consumed == [GroupState.CONSUMED] * 2
    assert await states(loop, 0, 1) == [GroupState.ASSIGNED] * 2


async def test_a_successor_goes_on_with_the_groups_under_way_and_frees_the_trained_ones_later(loop: Loop):
    loop.script.train(1, Answer(cause="the world is gone"))
    assert await cursors_of_next_batch(loop) == [0, 2]
    await save_checkpoint(loop.session)
    loop.succeed()
    await consume_leftovers(loop.session)  # as it is restored
    await catch_up(loop.session)
    queue = loop.session.queue
    assert (queue.cursors, queue.next_cursor, queue.lost) == ([3, 4], 5, 1)
    assert await states(loop, 0, 2) == [GroupState.ASSIGNED] * 2, "the checkpoint may turn out broken"
    assert await cursors_of_next_batch(loop) == [3, 4]
    await loop.session.consumption.finished()
    assert await states(loop, 0, 2) == [GroupState.CONSUMED] * 2


async def all_batches(loop: Loop) -> None:
    for number in range(loop.session.spec.training.total_batches):
        loop.at_version(number)
        await next_batch(loop.session)


def practice(loop: Loop, count: int) -> list[OpenedGroup]:
    return [random_group(loop.session, WarmStart(), cursor) for cursor in range(count)]
