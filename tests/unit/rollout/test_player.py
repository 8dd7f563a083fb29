"""How a group is played. tests/integration/rollout runs the same tests on the real services."""

import pytest

from services.contracts.arrays import unpack_float32, unpack_int32
from services.contracts.ids import episode_id
from services.ledger import GroupState, MoveRefused
from tests.unit.rollout.stages import Stage


def words_of(stage: Stage, ids: bytes) -> str:
    return stage.playbook.tokens.reply_text(ids)


def item_id(stage: Stage, group_id: str, k: int, index: int, attempt: int = 1) -> str:
    return f"{stage.job_id}/{episode_id(group_id, k)}:{index}:{attempt}"


async def test_a_played_group_is_complete_with_n_episodes_of_its_attempt(stages):
    stage = stages()
    group = stage.group(n=4)
    episodes = await stage.play(group)
    assert await stage.state(group.group_id) is GroupState.COMPLETE
    assert [(episode.k, episode.attempt) for episode in episodes] == [(k, 1) for k in range(4)]
    assert [episode.episode_id for episode in episodes] == [f"{group.group_id}/{k}" for k in range(4)]
    for episode in episodes:
        assert [step.step_index for step in episode.steps] == list(range(len(episode.steps)))
        assert episode.terminated is not episode.truncated


async def test_all_episodes_of_a_group_start_in_one_state(stages):
    stage = stages()
    episodes = await stage.play(stage.group(n=4))
    assert len({(e.task, e.steps[0].state_key, e.steps[0].anchor, e.steps[0].prompt_ids) for e in episodes}) == 1


async def test_one_seed_plays_the_same_groups_in_two_jobs(stages):
    first, second = stages("job_1"), stages("job_2")
    for cursor in range(4):
        a, b = [await stage.play(stage.group(cursor)) for stage in (first, second)]
        assert [episode.episode_id for episode in a] == [episode.episode_id for episode in b]
        assert [episode.steps for episode in a] == [episode.steps for episode in b]
    starts = [(await first.episodes(first.group(cursor).group_id))[0].steps[0].state_key for cursor in range(4)]
    assert len(set(starts)) > 1


async def test_every_stored_token_is_the_one_the_replica_returned(stages):
    stage = stages()
    steps = 0
    for cursor in range(6):
        group = stage.group(cursor)
        for episode in await stage.play(group):
            for step in episode.steps:
                answer = stage.sampled[item_id(stage, group.group_id, episode.k, step.step_index)]
                stored = (step.response_ids, step.logprobs, step.versions, step.finish_reason)
                assert stored == (answer.response_ids, answer.logprobs, answer.versions, answer.finish_reason)
                steps += 1
    assert steps == len(stage.sampled)


async def test_a_reply_without_a_stop_token_reaches_the_environment_as_it_is(stages):
    stage = stages()
    steps = [step for cursor in range(6) for e in await stage.play(stage.group(cursor)) for step in e.steps]
    unfinished = [step for step in steps if unpack_int32(step.response_ids)[-1] not in stage.playbook.tokens.stop_ids]
    assert unfinished
    assert {step.action for step in unfinished} == {"act act act"}
    assert not any(step.action_valid for step in unfinished)


async def test_a_step_carries_the_state_that_was_acted_in(stages):
    stage = stages()
    for episode in await stage.play(stage.group(n=4)):
        for step in episode.steps:
            assert len(step.anchor_key) == len(step.state_key) == 16
            assert words_of(stage, step.prompt_ids) == f"{step.anchor} act"  # the anchor is what the prompt shows


async def test_the_horizon_truncates_and_the_group_may_shorten_it(stages):
    stage = stages()
    for changes, horizon in (({}, 6), ({"max_turns": 2}, 2)):
        group = stage.group(horizon, n=8, **changes)
        episodes = await stage.play(group)
        truncated = [episode for episode in episodes if episode.truncated]
        assert truncated
        assert {len(episode.steps) for episode in truncated} == {horizon}
        assert all(len(episode.steps) <= horizon for episode in episodes)


async def test_no_lease_outlives_its_group(stages):
    stage = stages()
    await stage.play(stage.group())
    assert await stage.live_leases() == 0


async def test_the_random_actor_takes_admissible_actions_only(stages):
    stage = stages()
    group = stage.group(actor="random", n=6)
    episodes = await stage.play(group)
    steps = [step for episode in episodes for step in episode.steps]
    assert all(step.action_valid for step in steps)
    assert {version for step in steps for version in unpack_int32(step.versions)} == {-1}
    assert {logprob for step in steps for logprob in unpack_float32(step.logprobs)} == {0.0}
    assert all(unpack_int32(step.response_ids)[-1] == stage.playbook.tokens.stop_ids[0] for step in steps)
    assert all(words_of(stage, step.response_ids) == step.action for step in steps)
    assert len({tuple(step.action for step in episode.steps) for episode in episodes}) > 1
    assert not stage.sampled


async def test_a_hidden_task_leaves_placeholders_in_the_prompt_and_the_task_in_the_record(stages):
    stage = stages()
    (shown,), (hidden,) = [
        await stage.play(stage.group(cursor, n=1, task_seed=5, task_view=view))
        for cursor, view in enumerate(("shown", "hidden"))
    ]
    assert hidden.task == shown.task
    task = shown.task.split()
    seen, unseen = [words_of(stage, episode.steps[0].prompt_ids).split() for episode in (shown, hidden)]
    assert seen[: len(task)] == task
    assert unseen[: len(task)] == ["<unk>"] * len(task)
    assert unseen[len(task) :] == seen[len(task) :]


async def test_a_shuffled_task_shows_another_worlds_sentence(stages):
    stage = stages()
    (other,) = await stage.play(stage.group(0, n=1, task_seed=8))
    (shuffled,) = await stage.play(stage.group(1, n=1, task_seed=5, task_view="shuffled", sentence_seed=8))
    (shown,) = await stage.play(stage.group(2, n=1, task_seed=5))
    assert shuffled.task == shown.task
    words = words_of(stage, shuffled.steps[0].prompt_ids)
    assert words.startswith(f"{other.task} . ")
    assert words.removeprefix(other.task) == words_of(stage, shown.steps[0].prompt_ids).removeprefix(shown.task)
    assert shuffled.steps[0].state_key == shown.steps[0].state_key
    assert await stage.live_leases() == 0


async def test_a_group_past_playing_is_refused_before_anything_is_opened(stages):
    stage = stages()
    group = stage.group()
    await stage.play(group)
    asked = len(stage.sampled)
    with pytest.raises(MoveRefused):
        await stage.player.play(group)
    assert len(stage.sampled) == asked


async def test_an_unknown_actor_fails_the_attempt_and_not_the_worker(stages):
    stage = stages()
    group = stage.group(actor="oracle")
    assert await stage.play(group) == []
    assert await stage.state(group.group_id) is GroupState.OPEN
    assert await stage.live_leases() == 0
