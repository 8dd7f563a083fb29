"""A group's score is a pure function of its episodes: hand-worked values, and the same bytes in any company."""

from __future__ import annotations

import math
import random
import struct
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gigpo_core import AdvantageConfig
from services.advantage.service import (
    FinishedGroup,
    advantage_config,
    finished_group,
    score_groups,
)
from services.contracts.arrays import pack_float32, pack_int32
from services.contracts.job import Algorithm
from services.contracts.messages import Episode, ScoredGroup, Step, encode
from services.contracts.rewards import Rewards
from services.step_batch import GroupFault

GIGPO = AdvantageConfig(advantage_estimator="gigpo", gamma=0.5, norm="mean", invalid_action_penalty=0.1)


ESTIMATORS = ["grpo", "rloo", "gigpo", "hgpo", "graphgpo", "gagpo", "g2po"]


def step(
    index: int, anchor: int, reward: float, valid: bool = True, *, state: int = 0, rewards: tuple[float, ...] = ()
) -> Step:
    return Step(
        step_index=index, prompt_ids=pack_int32([1, 2]), response_ids=pack_int32([3]), logprobs=pack_float32([-0.5]),
        versions=pack_int32([0]), reward=reward, anchor_key=bytes([anchor] * 16), state_key=bytes([state] * 16),
        anchor=str(anchor), action="go", action_valid=valid, rewards=rewards,
    )  # fmt: skip


def episode(group: str, k: int, steps: list[Step], won: bool = False) -> Episode:
    return Episode(
        group_id=group, episode_id=f"{group}/{k}", k=k, attempt=1, task="t", steps=steps, won=won, score=0.0,
        terminated=won, truncated=not won, worker="w",
    )  # fmt: skip


def group_of(name: str, episodes: list[list[Step]]) -> FinishedGroup:
    payloads = [encode(episode(name, k, steps)) for k, steps in enumerate(episodes)]
    return finished_group(name, "train", 0, payloads)


def random_group(name: str, rng: random.Random) -> FinishedGroup:
    return group_of(
        name,
        [
            [step(i, rng.randrange(4), rng.choice([0.0, 0.0, 1.0, rng.random()]), rng.random() < 0.8) for i in range(n)]
            for n in [rng.randrange(1, 12) for _ in range(rng.randrange(1, 9))]
        ],
    )


def doubles(column: bytes) -> list[float]:
    return [value for (value,) in struct.iter_unpack("<d", column)]


def test_two_episodes_from_one_state_get_the_hand_worked_advantages():
    first = [step(0, 7, 0.0), step(1, 8, 1.0)]
    second = [step(0, 7, 0.0), step(1, 9, 0.0)]
    (scored,) = score_groups([group_of("g", [first, second])], GIGPO)
    assert doubles(scored.episode_advantage) == [0.5, 0.5, -0.5, -0.5]
    assert doubles(scored.step_return) == [0.5, 1.0, 0.0, 0.0]
    assert doubles(scored.step_advantage) == [0.25, 0.0, -0.25, 0.0]
    assert doubles(scored.advantage) == [0.75, 0.5, -0.75, -0.5]
    assert struct.unpack("<4q", scored.step_group) == (0, 1, 0, 2)
    assert scored.diagnostics["useful_anchor_rows"] == 2
    assert scored.diagnostics["shared_anchor_rows"] == 2
    assert scored.diagnostics["abs_episode_advantage_sum"] == 2.0
    assert scored.diagnostics["abs_step_advantage_sum"] == 0.5
    rows_by_size = [scored.diagnostics[f"step_group_rows_{least}"] for least in (1, 2, 4, 8, 16)]
    assert rows_by_size == [2, 2, 0, 0, 0]


def test_rows_follow_k_and_step_index_even_when_an_episode_stores_them_otherwise():
    tidy = group_of("g", [[step(0, 1, 0.0), step(1, 2, 1.0)], [step(0, 1, 0.0)]])
    untidy = group_of("g", [[step(1, 2, 1.0), step(0, 1, 0.0)], [step(0, 1, 0.0)]])
    (first,), (second,) = score_groups([tidy], GIGPO), score_groups([untidy], GIGPO)
    assert first.advantage == second.advantage
    assert first.episodes_sha != second.episodes_sha


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), estimator=st.sampled_from(ESTIMATORS), std=st.booleans())
def test_a_group_gets_the_same_bytes_alone_and_in_any_company(seed: int, estimator: str, std: bool):
    rng = random.Random(seed)
    config = AdvantageConfig(
        advantage_estimator=estimator,  # type: ignore[arg-type]
        norm="mean_std" if std else "mean",
        invalid_action_penalty=0.1,
        anchor_state="exact" if std else "text",
    )
    groups = [random_group(f"g{i}", rng) for i in range(rng.randrange(2, 8))]
    alone = {group.group_id: encode(score_groups([group], config)[0]) for group in groups}
    rng.shuffle(groups)
    together = {scored.group_id: encode(scored) for scored in score_groups(groups, config)}
    assert together == alone


def test_a_job_may_compare_exact_states_instead_of_texts():
    """One text seen in two states: compared as text it is one step group, as states two."""
    episodes = [[step(0, 7, 1.0, state=1)], [step(0, 7, 0.0, state=2)]]
    (as_text,) = score_groups([group_of("g", episodes)], GIGPO)
    (exact,) = score_groups([group_of("g", episodes)], replace(GIGPO, anchor_state="exact"))
    assert doubles(as_text.step_advantage) == [0.5, -0.5]
    assert doubles(exact.step_advantage) == [0.0, 0.0]
    assert [one.diagnostics["aliased_anchor_rows"] for one in (as_text, exact)] == [2, 0]


def test_similar_texts_are_one_state_when_the_job_says_so():
    episodes = [[step(0, 100, 1.0)], [step(0, 101, 0.0)]]  # anchors "100" and "101": ratio 2/3
    for threshold, wanted in ((0.6, [0.5, -0.5]), (0.7, [0.0, 0.0])):
        scoring = AdvantageConfig("gigpo", anchor_similarity=threshold)
        (scored,) = score_groups([group_of("g", episodes)], scoring)
        assert doubles(scored.step_advantage) == wanted


def test_graphgpo_hears_of_success_from_the_environment_and_not_from_the_sign_of_the_return():
    losing_but_won = finished_group(
        "g",
        "train",
        0,
        [encode(episode("g", 0, [step(0, 1, -1.0)], won=True)), encode(episode("g", 1, [step(0, 1, 2.0)]))],
    )
    (scored,) = score_groups([losing_but_won], AdvantageConfig("graphgpo", gamma=0.5))
    better, worse = doubles(scored.step_advantage)
    assert better > 0 > worse


def test_the_spread_of_returns_tells_groups_that_teach_nothing():
    (flat,) = score_groups([group_of("g", [[step(0, 1, 1.0)], [step(0, 1, 0.5), step(1, 2, 0.5)]])], GIGPO)
    (uneven,) = score_groups([group_of("g", [[step(0, 1, 1.0)], [step(0, 1, 0.25)]])], GIGPO)
    assert (flat.diagnostics["return_spread"], uneven.diagnostics["return_spread"]) == (0.0, 0.75)


def test_a_group_whose_returns_are_all_equal_gets_exactly_zero():
    episodes = [[step(0, 1, 10 * 0.95**6), step(1, 20 + k, 0.0)] for k in range(8)]
    (scored,) = score_groups([group_of("g", episodes)], AdvantageConfig("gigpo", norm="mean_std"))
    assert doubles(scored.advantage) == [0.0] * 16


def test_an_evaluation_group_of_one_episode_gets_zero_and_its_counts():
    (scored,) = score_groups([group_of("g", [[step(0, 1, 0.0, valid=False), step(1, 2, 1.0)]])], GIGPO)
    assert scored.diagnostics["episodes"] == 1
    assert scored.diagnostics["invalid_steps"] == 1
    assert doubles(scored.step_advantage) == [0.0, 0.0]


def test_cut_prompts_of_a_group_are_added_up():
    episodes = [msgspec.structs.replace(episode("g", k, [step(0, 1, 0.0)]), cut_prompts=k + 1) for k in range(2)]
    (scored,) = score_groups([finished_group("g", "train", 0, [encode(one) for one in episodes])], GIGPO)
    assert scored.diagnostics["cut_prompts"] == 3


def test_a_group_without_steps_gets_empty_columns():
    empty, full = group_of("g0", [[], []]), group_of("g1", [[step(0, 1, 1.0)]])
    scored = score_groups([empty, full], GIGPO)
    assert [len(one.advantage) for one in scored] == [0, 8]
    assert scored[0].diagnostics == {**dict.fromkeys(scored[1].diagnostics, 0.0), "episodes": 2.0}
    assert isinstance(scored[0], ScoredGroup)


@pytest.mark.parametrize(
    ("payloads", "sentence"),
    [
        ([], "no episodes"),
        ([b"\xc1"], "cannot be decoded"),
        ([encode(episode("other", 0, []))], "of group other"),
        ([encode(episode("g", 1, [])), encode(episode("g", 1, []))], "comes after"),
    ],
)
def test_contradicting_episodes_are_refused(payloads: list[bytes], sentence: str):
    with pytest.raises(GroupFault, match=sentence):
        finished_group("g", "train", 0, payloads)


def test_a_group_alone_is_scored_without_the_kl_whatever_its_weight():
    """So jobs that differ in it alone are scored together."""
    configs = [advantage_config(Algorithm(advantage_estimator="rloo", beta=beta)) for beta in (0.1, 0.2)]
    assert configs[0] == configs[1]
    (scored,) = score_groups([group_of("g", [[step(0, 1, 1.0)], [step(0, 1, 0.0)]])], configs[0])
    assert doubles(scored.advantage) == [1.0, -1.0]


def test_the_algorithm_section_arrives_whole_and_the_kl_stays_in_the_loss():
    algorithm = Algorithm(
        advantage_estimator="gigpo", gigpo_step_advantage_weight=0.7, gamma=0.9, norm="mean_std",
        episode_statistics="per_step", invalid_action_penalty=0.2, beta=0.1,
    )  # fmt: skip
    config = advantage_config(algorithm)
    assert config.gigpo_step_advantage_weight == 0.7
    assert (config.gamma, config.norm, config.episode_statistics) == (0.9, "mean_std", "per_step")
    assert (config.invalid_action_penalty, config.subtracts_kl) == (0.2, False)
    assert config.reward_weights is None


def test_reward_functions_are_weighed_and_their_values_stand_for_the_reward():
    scoring = advantage_config(Algorithm(), Rewards(reward_funcs=["accuracy", "format"], reward_weights=[1.0, 0.5]))
    replies = [[step(0, 1, 99.0, rewards=values)] for values in ((1.0, 1.0), (0.0, 1.0), (0.0, 0.0), (1.0, 0.0))]
    (scored,) = score_groups([group_of("g", replies)], scoring)
    assert doubles(scored.episode_advantage) == [0.75, -0.25, -0.75, 0.25]
    assert doubles(scored.step_return) == [1.5, 0.5, 0.0, 1.0]


@pytest.mark.parametrize("rewards", [None, Rewards(reward_funcs=["accuracy", "format"])])
def test_a_step_without_a_value_for_each_reward_function_is_refused(rewards: Rewards | None):
    wanted = 2 if rewards else 0
    with pytest.raises(GroupFault, match=f"want one for each of {wanted} reward functions, got 1"):
        score_groups([group_of("g", [[step(0, 1, 1.0, rewards=(1.0,))]])], advantage_config(Algorithm(), rewards))


def test_a_reward_function_that_abstains_on_a_row_has_no_vote_on_it():
    def scores(*values: tuple[float, float]) -> list[float]:
        group = group_of("g", [[step(0, 0, 0.0, rewards=one)] for one in values])
        config = AdvantageConfig("grpo", scale_rewards="gdpo", reward_weights=(1.0, 1.0))
        found = score_groups([group], config)[0].advantage
        return list(struct.unpack(f"<{len(found) // 8}d", found))

    abstained = scores((0.0, 1.0), (2.0, 1.0), (math.nan, 1.0))
    assert abstained == pytest.approx([-1.0, 1.0, 0.0], abs=1e-5)
    assert scores((0.0, 1.0), (2.0, 1.0), (0.0, 1.0))[2] < -0.5


def test_steps_of_one_action_are_compared_together_by_what_the_environment_executed():
    def one(action: str, reward: float, key: bytes = b"") -> Step:
        return msgspec.structs.replace(step(0, 1, reward), action=action, action_key=key)

    said = [("go  north", 1.0, b""), ("go north", 0.0, b""), ("wait", 3.0, b"n" * 16), ("stay", 2.0, b"n" * 16)]
    group = group_of("g", [[one(*row)] for row in said])
    (scored,) = score_groups([group], AdvantageConfig("gigpo", step_shrinkage=0.0))
    assert doubles(scored.step_advantage) == [-1.0, -1.0, 1.0, 1.0]
