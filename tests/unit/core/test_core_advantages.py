import math

import pytest
import torch
from core_samples import assert_values, episodes_of

from gigpo_core import (
    AdvantageConfig,
    ConfigError,
    DtypeError,
    DuplicateStepError,
    EpisodeGroupError,
    GigpoError,
    MissingStepError,
    NegativeIdError,
    NonFiniteRewardError,
    RowError,
    ShapeError,
    StepBatch,
    compute_advantages,
)


def one_step_episodes(*rewards, group=None, **columns):
    return episodes_of(*[[("s", reward)] for reward in rewards], group=group, **columns)


def advantages(batch, estimator="grpo", **settings):
    return compute_advantages(batch, AdvantageConfig(estimator, **settings))


def test_the_worked_example_of_the_documentation():
    # Two episodes of three steps in one group; docs/gigpo.md walks through these numbers.
    batch = episodes_of([("hall", 0), ("kitchen", 0), ("hall", 1)], [("hall", 0), ("hall", 0), ("cellar", 0)])
    got = advantages(batch, "gigpo", gamma=0.5)
    assert_values(got.step_return, 0.25, 0.5, 1.0, 0.0, 0.0, 0.0)
    assert got.step_group.tolist() == [0, 1, 0, 0, 0, 2]
    assert_values(got.episode_advantage, 0.5, 0.5, 0.5, -0.5, -0.5, -0.5)
    assert_values(got.step_advantage, -0.0625, 0.0, 0.6875, -0.3125, -0.3125, 0.0)
    assert_values(got.advantage, 0.4375, 0.5, 1.1875, -0.8125, -0.8125, -0.5)


def test_discounting_starts_at_the_step_itself_and_ends_with_the_episode():
    batch = episodes_of([("a", 1), ("b", 2), ("c", 4), ("d", 8), ("e", 16)], [("a", 32)])
    assert_values(advantages(batch, "gigpo", gamma=0.5).step_return, 5.0, 8.0, 12.0, 16.0, 16.0, 32.0)
    assert_values(advantages(batch, "gigpo", gamma=0.0).step_return, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    assert_values(advantages(batch, "gigpo", gamma=1.0).step_return, 31.0, 30.0, 28.0, 24.0, 16.0, 32.0)


def test_long_episodes_equal_the_plain_recursion():
    made = torch.Generator().manual_seed(0)
    reward = torch.randn(1000, generator=made, dtype=torch.float64)
    batch = episodes_of([("a", value) for value in reward.tolist()])
    total, wanted = 0.0, []
    for value in reversed(reward.tolist()):
        total = value + 0.97 * total
        wanted.append(total)
    got = advantages(batch, "gigpo", gamma=0.97).step_return
    torch.testing.assert_close(got, torch.tensor(wanted[::-1], dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_std_is_that_of_a_sample_plus_epsilon():
    deviation = math.sqrt(((0 - 3) ** 2 + (1 - 3) ** 2 + (8 - 3) ** 2) / 2)
    got = advantages(one_step_episodes(0, 1, 8), norm="mean_std", epsilon=0.5).advantage
    assert_values(got, *[(r - 3) / (deviation + 0.5) for r in (0, 1, 8)])


@pytest.mark.parametrize("estimator", ["grpo", "rloo", "gigpo", "reinforce_plus_plus"])
@pytest.mark.parametrize("norm", ["mean", "mean_std"])
@pytest.mark.parametrize("statistics", ["per_episode", "per_step"])
def test_group_of_one_episode_gets_zero(estimator, norm, statistics):
    batch = episodes_of([("a", 1), ("b", 2)], [("a", 5)], group=[0, 1])
    valid = torch.tensor([True, False, True])
    batch = StepBatch(**(vars(batch) | {"action_valid": valid}))
    got = advantages(batch, estimator, norm=norm, episode_statistics=statistics, invalid_action_penalty=0.5)
    assert torch.equal(got.episode_advantage, torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("estimator", ["grpo", "rloo", "gigpo", "hgpo", "graphgpo", "reinforce_plus_plus"])
@pytest.mark.parametrize("norm", ["mean", "mean_std"])
def test_equal_returns_give_exactly_zero(estimator, norm):
    # The return that gives a phantom advantage of 0.32 per level when computed in float32.
    batch = one_step_episodes(*[10 * 0.95**6] * 8)
    got = advantages(batch, estimator, norm=norm)
    assert torch.equal(got.advantage, torch.zeros(8, dtype=torch.float64))


def test_equal_futures_of_different_episodes_have_equal_bits():
    tail = [("x", 0.1), ("y", 0.7), ("z", 1e-3)]
    batch = episodes_of(tail, [("p", 5.0), ("q", 0.3), *tail])
    returns = advantages(batch, "gigpo", gamma=0.9).step_return
    assert torch.equal(returns[:3], returns[5:])


def test_rloo_compares_with_the_mean_of_the_others():
    got = advantages(one_step_episodes(1, 2, 6), "rloo", norm="mean_std").advantage
    assert_values(got, 1 - 8 / 2, 2 - 7 / 2, 6 - 3 / 2)


def test_reinforce_plus_plus_scales_by_the_centred_batch():
    batch = one_step_episodes(0, 2, 10, 14, group=[0, 0, 1, 1])
    deviation = math.sqrt((1 + 1 + 4 + 4) / 3)
    got = advantages(batch, "reinforce_plus_plus").advantage
    assert_values(got, *[value / (deviation + 1e-6) for value in (-1, 1, -2, 2)])
    assert_values(advantages(batch, "reinforce_plus_plus", scale_rewards="none").advantage, -1, 1, -2, 2)


def test_reinforce_plus_plus_with_group_scale_divides_by_the_deviation_of_each_group():
    batch = one_step_episodes(0, 2, 10, 14, group=[0, 0, 1, 1])
    near, far = 1 / (math.sqrt(2) + 1e-6), 2 / (math.sqrt(8) + 1e-6)
    assert_values(advantages(batch, "reinforce_plus_plus", scale_rewards="group").advantage, -near, near, -far, far)


def test_batch_scale_divides_by_the_deviation_of_the_raw_returns():
    batch = one_step_episodes(0, 2, 10, 14, group=[0, 0, 1, 1])
    deviation = torch.tensor([0.0, 2.0, 10.0, 14.0]).double().std().item()
    got = advantages(batch, scale_rewards="batch").advantage
    assert_values(got, *[value / (deviation + 1e-6) for value in (-1, 1, -2, 2)])
    assert_values(advantages(one_step_episodes(3), scale_rewards="batch").advantage, 0.0)
    assert_values(advantages(one_step_episodes(3, 3), scale_rewards="batch").advantage, 0.0, 0.0)


def test_votes_per_step_weigh_an_episode_by_its_length():
    batch = episodes_of([("a", 0), ("b", 0), ("c", 4)], [("a", 0)])
    assert_values(advantages(batch).advantage, 2.0, 2.0, 2.0, -2.0)
    assert_values(advantages(batch, episode_statistics="per_step").advantage, 1.0, 1.0, 1.0, -3.0)


def test_invalid_action_pays_on_its_own_step_and_no_other():
    batch = episodes_of([("a", 0), ("b", 1)], [("a", 0), ("b", 0)])
    batch = StepBatch(**(vars(batch) | {"action_valid": torch.tensor([True, False, True, True])}))
    got = advantages(batch, "gigpo", gamma=0.5, invalid_action_penalty=0.25)
    assert_values(got.step_return, 0.5, 1.0, 0.0, 0.0)
    assert_values(got.episode_advantage, 0.5, 0.25, -0.5, -0.5)
    assert_values(got.step_advantage, 0.25, 0.375, -0.25, -0.375)


@pytest.mark.parametrize("norm", ["mean", "mean_std"])
def test_penalty_in_a_group_without_spread_is_not_blown_up(norm):
    batch = episodes_of([("a", 0), ("b", 0)], [("c", 0), ("d", 0)])
    batch = StepBatch(**(vars(batch) | {"action_valid": torch.tensor([True, False, True, True])}))
    got = advantages(batch, norm=norm, invalid_action_penalty=0.1)
    assert_values(got.advantage, 0.0, -0.1, 0.0, 0.0)


def test_step_groups_stay_inside_a_group_and_take_repeats_in():
    batch = episodes_of([("a", 1), ("a", 2)], [("a", 4)], group=[0, 1])
    got = advantages(batch, "gigpo", gamma=1.0)
    assert got.step_group.tolist() == [0, 0, 1]
    assert_values(got.step_advantage, 0.5, -0.5, 0.0)


def test_labels_are_numbered_by_first_appearance_in_row_order():
    batch = episodes_of([("a", 0), ("b", 0), ("a", 0)], [("c", 0), ("b", 0)])
    order = torch.tensor([3, 1, 0, 4, 2])
    shuffled = StepBatch(*(getattr(batch, name)[order] for name in list(vars(batch))[:5]))
    assert advantages(shuffled, "gigpo").step_group.tolist() == [0, 1, 2, 1, 2]


def test_keys_that_collide_in_the_mix_are_still_told_apart():
    # (high ^ 0) * m1 + low * m2 is the same for both keys: high moves by m2 and low by -m1.
    from gigpo_core.anchors import _MIX, exact_step_groups

    keys = torch.tensor([[0, 0], [_MIX[2], -_MIX[1]], [0, 0], [_MIX[2], -_MIX[1]]])
    grouping = exact_step_groups(torch.zeros(4, dtype=torch.int64), keys)
    assert grouping.order.tolist() in ([0, 2, 1, 3], [1, 3, 0, 2])
    assert grouping.groups.count.tolist() == [2, 2]


def test_huge_ids_are_sorted_without_overflow():
    batch = episodes_of([("a", 1), ("b", 2)], [("a", 3), ("b", 5)])
    order = torch.tensor([3, 0, 2, 1])
    columns = {name: getattr(batch, name)[order] for name in ("group_id", "step_index", "anchor_key", "reward")}
    far = StepBatch(episode_id=batch.episode_id[order] + 2**63 - 2, **columns)
    near = advantages(batch, "gigpo")
    assert torch.equal(advantages(far, "gigpo").advantage, near.advantage[order])


def test_reward_functions_are_weighed_and_added():
    components = torch.tensor([[1.0, 10.0], [3.0, 0.0]])
    batch = one_step_episodes(0.5, 0.5, reward_components=components)
    assert_values(advantages(batch, reward_weights=(2.0, 0.1)).advantage, -1.5, 1.5)
    assert_values(advantages(batch).advantage, 4.0, -4.0)
    for weights in ((1.0,), (1.0, 2.0, 3.0)):
        with pytest.raises(ConfigError, match="reward_weights: want 2"):
            advantages(batch, reward_weights=weights)
    with pytest.raises(ConfigError, match="no reward_components"):
        advantages(one_step_episodes(1, 2), reward_weights=(1.0,))


def test_gdpo_keeps_rewards_apart_that_a_sum_would_merge():
    # Sums of both functions are equal within the first group, their normalised values are not.
    components = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 5.0]])
    batch = one_step_episodes(0, 0, 0, 0, group=[0, 0, 1, 1], reward_components=components)
    unit = math.sqrt(0.5)
    parts = [[s * d / (sd + 1e-6) for s in (1, -1)] for d, sd in ((0.5, unit), (0.5, unit), (2.0, math.sqrt(8)))]
    mixed = torch.tensor(
        [
            parts[0][0] - 3 * parts[1][0],
            3 * parts[1][0] - parts[0][0],
            -parts[0][0] - 3 * parts[2][0],
            parts[0][0] + 3 * parts[2][0],
        ],
        dtype=torch.float64,
    )
    got = advantages(batch, scale_rewards="gdpo", reward_weights=(1.0, 3.0)).advantage
    torch.testing.assert_close(got, (mixed - mixed.mean()) / (mixed.std() + 1e-6), rtol=1e-12, atol=1e-12)
    with pytest.raises(ConfigError, match="gdpo wants reward_components"):
        advantages(one_step_episodes(1, 2), scale_rewards="gdpo")


def test_gdpo_counts_the_environment_reward_as_one_function():
    batch = one_step_episodes(0, 4, reward_components=torch.zeros(2, 1))
    got = advantages(batch, scale_rewards="gdpo").advantage
    assert got.tolist() == pytest.approx([-math.sqrt(0.5), math.sqrt(0.5)], rel=1e-5)


def test_kl_goes_into_the_reward_before_the_baseline():
    batch = one_step_episodes(1, 1, kl=torch.tensor([0.0, 2.0]))
    assert_values(advantages(batch, "rloo", beta=0.5).advantage, 1.0, -1.0)
    assert_values(advantages(batch, "grpo", beta=0.5).advantage, 0.0, 0.0)
    assert_values(advantages(batch, "grpo", beta=0.5, kl_in_reward=True).advantage, 0.5, -0.5)
    assert_values(advantages(batch, "rloo", beta=0.5, kl_in_reward=False).advantage, 0.0, 0.0)
    assert_values(advantages(one_step_episodes(1, 1), "rloo", beta=0.5).advantage, 0.0, 0.0)
    with pytest.raises(ConfigError, match="no kl to subtract"):
        advantages(one_step_episodes(1, 1), "rloo", beta=0.5, kl_in_reward=True)


def test_zero_weight_of_the_step_level_is_grpo_without_scaling():
    batch = episodes_of([("a", 1), ("b", 0)], [("a", 0), ("a", 0)], [("b", 3)])
    plain = advantages(batch, "gigpo", gigpo_step_advantage_weight=0.0).advantage
    assert torch.equal(plain, advantages(batch, "grpo", scale_rewards="none").advantage)


def test_no_rows_give_empty_columns():
    got = advantages(episodes_of(), "gigpo")
    assert [len(column) for column in vars(got).values()] == [0] * 5


def test_results_are_float64_whatever_the_reward_is():
    batch = one_step_episodes(1, 2)
    batch = StepBatch(**(vars(batch) | {"reward": batch.reward.to(torch.bfloat16)}))
    assert advantages(batch, "gigpo").advantage.dtype == torch.float64


GOOD = {
    "group_id": torch.tensor([0, 0, 0]),
    "episode_id": torch.tensor([4, 4, 5]),
    "step_index": torch.tensor([0, 1, 0]),
    "anchor_key": torch.zeros(3, 2, dtype=torch.int64),
    "reward": torch.zeros(3),
}


@pytest.mark.parametrize(
    ("changes", "error", "row"),
    [
        ({"group_id": torch.tensor([0, -1, 0])}, NegativeIdError, 1),
        ({"episode_id": torch.tensor([4, 4, -5])}, NegativeIdError, 2),
        ({"step_index": torch.tensor([-1, 1, 0])}, NegativeIdError, 0),
        ({"reward": torch.tensor([0.0, 1.0, math.nan])}, NonFiniteRewardError, 2),
        ({"reward": torch.tensor([0.0, math.inf, -math.inf])}, NonFiniteRewardError, 1),
        ({"kl": torch.tensor([math.nan, 0.0, 0.0])}, NonFiniteRewardError, 0),
        ({"reward_components": torch.tensor([[0.0], [math.inf], [0.0]])}, NonFiniteRewardError, 1),
        ({"step_index": torch.tensor([0, 0, 0])}, DuplicateStepError, 1),
        ({"episode_id": torch.tensor([5, 4, 5]), "step_index": torch.tensor([0, 0, 0])}, DuplicateStepError, 2),
        ({"step_index": torch.tensor([0, 2, 0])}, MissingStepError, 1),
        ({"step_index": torch.tensor([0, 1, 1])}, MissingStepError, 2),
        ({"episode_id": torch.tensor([5, 4, 5]), "step_index": torch.tensor([2, 0, 0])}, MissingStepError, 0),
        ({"group_id": torch.tensor([0, 7, 0])}, EpisodeGroupError, 1),
    ],
)
def test_a_wrong_row_is_refused_by_name(changes, error, row):
    with pytest.raises(error, match=f"row {row}: ") as caught:
        advantages(StepBatch(**(GOOD | changes)), "gigpo")
    assert caught.value.row == row
    assert isinstance(caught.value, RowError)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"group_id": torch.zeros(3, 1, dtype=torch.int64)}, ShapeError, r"group_id: want shape \[N\]"),
        ({"reward": torch.zeros(2)}, ShapeError, r"reward: want shape \[3\], got \[2\]"),
        ({"anchor_key": torch.zeros(3, dtype=torch.int64)}, ShapeError, r"anchor_key: want shape \[3, 2\]"),
        ({"reward_components": torch.zeros(2, 4)}, ShapeError, "reward_components"),
        ({"anchor_text": ["a"]}, ShapeError, "anchor_text: want 3 texts, got 1"),
        ({"group_id": torch.zeros(3)}, DtypeError, "group_id: want int64"),
        ({"reward": torch.zeros(3, dtype=torch.int64)}, DtypeError, "reward: want a floating dtype"),
        ({"action_valid": torch.ones(3)}, DtypeError, "action_valid: want bool"),
        ({"reward": torch.zeros(3, device="meta")}, DtypeError, "reward: want it on cpu"),
    ],
)
def test_a_malformed_column_is_refused(changes, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        advantages(StepBatch(**(GOOD | changes)), "gigpo")
    assert isinstance(caught.value, GigpoError | ValueError)


@pytest.mark.parametrize("norm", ["mean", "mean_std"])
@pytest.mark.parametrize("estimator", ["grpo", "rloo", "reinforce_plus_plus", "gigpo", "hgpo", "graphgpo"])
def test_rewards_as_large_as_they_may_be_give_finite_advantages(estimator, norm):
    batch = episodes_of([("a", 1e100), ("b", 1e100)], [("a", -1e100), ("b", -1e100)], [("a", 1.0), ("c", 1e100)])
    got = advantages(batch, estimator, norm=norm)
    assert all(bool(column.isfinite().all()) for column in vars(got).values())
    assert bool((got.advantage != 0).any())


def test_rewards_whose_squares_would_overflow_are_refused_by_name():
    reward = torch.tensor([1e100, 0.0, -1.1e100], dtype=torch.float64)
    with pytest.raises(
        NonFiniteRewardError, match=r"row 2: reward is -1.1e\+100, want a finite number of at most 1e\+100"
    ):
        advantages(StepBatch(**(GOOD | {"reward": reward})), "gigpo")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_infinite_rewards_are_refused_in_every_dtype(dtype):
    reward = torch.tensor([0.0, math.inf, 0.0], dtype=dtype)
    with pytest.raises(NonFiniteRewardError, match="row 1"):
        advantages(StepBatch(**(GOOD | {"reward": reward})), "gigpo")
    largest = torch.full((3,), torch.finfo(dtype).max, dtype=dtype)
    assert bool(advantages(StepBatch(**(GOOD | {"reward": largest})), "gigpo").advantage.isfinite().all())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"advantage_estimator": "ppo"}, "advantage_estimator: want one of grpo, rloo"),
        ({"norm": "std"}, "norm: want one of mean, mean_std, got 'std'"),
        ({"episode_statistics": "per_token"}, "episode_statistics"),
        ({"gigpo_step_advantage_weight": -0.1}, "gigpo_step_advantage_weight: want a finite number >= 0, got -0.1"),
        ({"gamma": 1.01}, r"gamma: want a finite number in \[0, 1\], got 1.01"),
        ({"gamma": math.nan}, "gamma"),
        ({"invalid_action_penalty": -1.0}, "invalid_action_penalty"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"beta": math.inf}, "beta"),
        ({"anchor_similarity": 1.0}, "anchor_similarity: want None or a finite number strictly between 0 and 1"),
        ({"anchor_similarity": 0.0}, "anchor_similarity"),
        ({"reward_weights": (1.0, math.nan)}, "reward_weights: want finite numbers"),
        ({"hgpo_history": -1}, "hgpo_history"),
        ({"scale_rewards": "max"}, "scale_rewards: want one of group"),
        ({"advantage_estimator": "gigpo", "scale_rewards": "group"}, "gigpo is scaled by `norm`"),
        ({"advantage_estimator": "rloo", "scale_rewards": "group"}, "rloo has no scale"),
        ({"advantage_estimator": "reinforce_plus_plus", "scale_rewards": "gdpo"}, "gdpo is a form of grpo"),
        ({"scale_rewards": "gdpo", "kl_in_reward": True}, "gdpo scales each reward function separately"),
        ({"scale_rewards": "gdpo", "invalid_action_penalty": 0.1}, "gdpo scales each reward function separately"),
    ],
)
def test_a_config_out_of_range_is_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        AdvantageConfig(**settings)


def test_similarity_without_texts_is_refused():
    with pytest.raises(ConfigError, match="no anchor_text"):
        advantages(StepBatch(**GOOD), "gigpo", anchor_similarity=0.9)


def test_exact_states_are_compared_where_the_config_says_so_and_the_batch_has_them():
    batch = episodes_of([("a", 1)], [("a", 3)], state_key=torch.tensor([[1, 1], [2, 2]]))
    assert_values(advantages(batch, "gigpo").step_advantage, -1.0, 1.0)
    assert_values(advantages(batch, "gigpo", anchor_state="exact").step_advantage, 0.0, 0.0)
    with pytest.raises(ConfigError, match="anchor_state: the batch has no state_key"):
        advantages(episodes_of([("a", 1)]), "gigpo", anchor_state="exact")
