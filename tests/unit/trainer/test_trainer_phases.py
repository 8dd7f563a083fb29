"""Evaluations, checkpoints and the mismatch warning on a session without processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from services.contracts.archive import read_archive
from services.contracts.ids import task_seed
from services.ledger import GroupState
from services.trainer.batch.batches import next_batch
from services.trainer.batch.mismatch import warn_of_mismatch
from services.trainer.errors import JobFailed, NothingPlayed
from services.trainer.phases.evaluation import Label, evaluate, panel, panel_groups
from services.trainer.session import writing
from services.trainer.session.saving import save_checkpoint, save_if_new
from services.trainer.storage.checkpoint import newest_complete
from tests.unit.trainer.trainer_loop import Answer, Loop, fake_loop


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return fake_loop(tmp_path)


def groups(loop: Loop, label: Label, version: int = 0):
    return panel_groups(loop.session, panel(label, version, loop.session.spec.environment.task_view))


def test_every_label_plays_the_same_tasks_in_groups_of_its_own(loop: Loop):
    labels: tuple[Label, ...] = ("before", "after", "during", "task_hidden", "task_shuffled", "random_actor")
    seed = loop.session.spec.evaluation.eval_seed
    for label in labels:
        assert [group.task_seed for group in groups(loop, label)] == [task_seed(seed, "eval", c) for c in range(10)]
        assert {(group.n, group.purpose, group.min_version) for group in groups(loop, label, 3)} == {(1, "eval", 3)}
    assert len({group.group_id for label in labels for group in groups(loop, label)}) == 10 * len(labels)


def test_shuffled_tasks_show_the_sentence_of_another_task_each_once(loop: Loop):
    shown = groups(loop, "task_shuffled")
    own, others = [group.task_seed for group in shown], [group.sentence_seed for group in shown]
    assert len(set(own)) == len(own), "the tasks differ, so this test means something"
    assert all(mine != other for mine, other in zip(own, others, strict=True))
    assert len(set(others)) == len(others)
    assert others[:-1] == own[1:], "a task's sentence is that of the next one"
    assert {group.task_view for group in shown} == {"shuffled"}


@pytest.mark.parametrize("label", ["before", "after", "task_hidden", "random_actor"])
def test_only_the_shuffled_panel_takes_sentences_from_elsewhere(loop: Loop, label: Label):
    assert {group.sentence_seed for group in groups(loop, label)} == {None}


async def test_an_evaluation_is_stored_then_freed_and_done_once(loop: Loop):
    result = await evaluate(loop.session, "before")
    assert (result.label, result.version, result.episodes, result.mismatch_kl) == ("before", 0, 10, 0.0)
    assert set(loop.ledger.states.values()) == {GroupState.CONSUMED}
    assert len(read_archive(loop.session.folder.evaluation_rollouts("before", 0))) == 10
    loop.script.default = Answer(silent=True)
    assert await evaluate(loop.session, "before") == result
    assert loop.session.evaluations == [result]


async def test_an_evaluation_counts_only_what_was_played_and_warns(loop: Loop):
    loop.script.answers["eval", 4] = Answer(cause="the world is gone")
    assert (await evaluate(loop.session, "before")).episodes == 9
    assert loop.session.events.warnings == [
        "evaluation before: 1 of 10 groups were dropped, the last one: the world is gone"
    ]


async def test_a_task_whose_environment_the_policy_crashes_counts_as_not_won(loop: Loop):
    loop.script.answers["eval", 4] = Answer(cause="environment env_bug: ValueError: no such key")
    result = await evaluate(loop.session, "before")
    assert (result.episodes, result.crashed) == (10, 1)


async def test_a_random_actor_that_cannot_play_the_first_task_is_not_asked_for_the_others(loop: Loop):
    loop.script.answers["eval", 0] = Answer(cause="no admissible actions are known")
    with pytest.raises(NothingPlayed, match=r"random_actor.*no admissible actions are known"):
        await evaluate(loop.session, "random_actor")
    assert len(loop.ledger.groups) == 1


async def test_groups_of_a_panel_that_all_fail_for_one_cause_end_the_job(loop: Loop):
    loop.script.default = Answer(cause="no such level")
    with pytest.raises(JobFailed, match=r"first 8 groups \(eval\)"):
        await evaluate(loop.session, "before")


async def test_a_difference_between_engine_and_trainer_is_told_once_and_a_large_one_ends_the_job(loop: Loop):
    for mismatch_kl in (None, 0.0, 1e-3, 2e-3):
        await warn_of_mismatch(loop.session, "batch 3", mismatch_kl)
    (warning,) = loop.session.events.warnings
    assert warning.startswith("batch 3: engine and trainer differ by 0.001 nats a token")
    with pytest.raises(JobFailed, match=r"batch 4: .* does not serve this version's weights"):
        await warn_of_mismatch(loop.session, "batch 4", 1.0)


async def train(loop: Loop, batches: int) -> None:
    for _ in range(batches):
        batch = await next_batch(loop.session)
        loop.session.consumption.trained(batch.number, batch.group_ids)
        loop.at_version(batch.number + 1)


def consumed_batches(loop: Loop) -> set[int]:
    ended = {name for name, state in loop.ledger.states.items() if state is GroupState.CONSUMED}
    return {batch for name, batch in loop.ledger.batches.items() if name in ended}


async def test_payloads_are_freed_when_the_checkpoint_before_the_newest_holds_their_effect(loop: Loop):
    freed = []
    for _ in range(3):
        await train(loop, 1)
        await save_checkpoint(loop.session)
        freed.append(consumed_batches(loop))
    assert freed == [set(), {0}, {0, 1}]
    assert sorted(loop.ledger.stored) == [2]
    assert loop.session.events.checkpoints == ["b000001", "b000002", "b000003"]


async def test_a_checkpoint_says_which_groups_are_under_way(loop: Loop):
    loop.script.train(1, Answer(cause="the world is gone"))
    await train(loop, 1)
    await save_if_new(loop.session)
    await save_if_new(loop.session)
    assert loop.session.events.checkpoints == ["b000001"]
    progress = newest_complete(loop.session.folder.checkpoints)[1]
    assert (progress.batch, progress.waiting, progress.next_cursor, progress.lost) == (1, [3, 4], 5, 1)


async def test_a_checkpoint_that_the_disk_refuses_is_skipped_and_told(loop: Loop):
    checkpoints = loop.session.folder.checkpoints
    checkpoints.parent.mkdir(parents=True, exist_ok=True)
    checkpoints.write_text("a file stands where the folder is to be made")
    await train(loop, 1)
    assert not await save_checkpoint(loop.session)
    assert "checkpoint b000001 is skipped" in loop.session.events.warnings[-1]
    assert loop.session.events.checkpoints == []
    assert not loop.session.consumption.is_saved(1)
    checkpoints.unlink()
    assert await save_checkpoint(loop.session)
    assert loop.session.events.checkpoints == ["b000001"]


async def test_a_write_that_the_job_needs_is_tried_until_the_disk_takes_it(loop: Loop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writing, "FIRST_PAUSE_S", 0.001)
    answers: list[OSError | int] = [OSError(28, "No space left", "x"), OSError(28, "No space left", "x"), 7]

    def write() -> int:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert await writing.written(loop.session, "metrics.jsonl", write) == 7
    assert [text for text in loop.session.events.warnings if "metrics.jsonl" in text] == [
        "metrics.jsonl cannot be written: No space left: x; the job retries until it works"
    ]


def test_a_copied_folder_s_error_names_its_first_cause():
    error = shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'"), ("c", "d", "other")])
    assert writing.disk_cause(error) == "[Errno 28] No space left on device: 'b'"
