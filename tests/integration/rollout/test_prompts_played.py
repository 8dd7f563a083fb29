"""Single-turn prompts on the real environment service, ledger and streams: only the policy is a fake."""

from services.contracts.arrays import unpack_int32

SUMS = {"operations": ["plus"], "max_operand": 3}
SINGLE_TURN = {
    "environment": "prompts",
    "use_gym_env": False,
    "max_turns": 1,
    "environment_kwargs": {"arithmetic": SUMS, "split_dataset_ratio": 0},
}
REWARDS = {"reward_funcs": ["accuracy", "soft_overlong"], "reward_weights": [1.0, 0.5], "soft_cache_length": 4}


async def test_each_reply_is_scored_by_every_function_with_the_length_that_was_sampled(stages):
    stage = stages(rewards=REWARDS, **SINGLE_TURN)
    episodes = [episode for cursor in range(4) for episode in await stage.play(stage.group(cursor, task_seed=cursor))]
    assert len(episodes) == 12
    for episode in episodes:
        (step,) = episode.steps
        tokens = len(unpack_int32(step.response_ids))
        assert step.rewards == (float(episode.won), -min(tokens / 4, 1.0))  # max_completion_length is 4
        assert step.reward == step.rewards[0] + 0.5 * step.rewards[1]
        assert (episode.terminated, step.anchor) == (True, episode.task)
        assert step.action == stage.playbook.tokens.reply_text(step.response_ids).strip()
    assert len({episode.steps[0].rewards[1] for episode in episodes}) > 1
    assert await stage.live_leases() == 0


async def test_a_random_actor_answers_at_random_and_is_right_now_and_then(stages):
    stage = stages(rewards=REWARDS, **SINGLE_TURN)
    groups = [stage.group(cursor, task_seed=cursor, actor="random", n=8) for cursor in range(4)]
    episodes = [episode for group in groups for episode in await stage.play(group)]
    assert all(episode.steps[0].action_valid for episode in episodes)
    assert {episode.won for episode in episodes} == {True, False}
