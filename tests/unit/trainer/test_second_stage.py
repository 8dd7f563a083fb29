"""Advantages whose scale spans the batch, or whose rewards hold the KL: hand-worked, against plain loops, and the same
bytes on a replay."""

from __future__ import annotations

import json
import random
import struct
from statistics import fmean, stdev
from typing import Any

import msgspec
import pytest
from trainer_payloads import payload, step

from services.advantage.service import advantage_config
from services.contracts.job import JobSpec, SpecError, parse_spec
from services.contracts.messages import Step
from services.trainer.batch import batches
from services.trainer.batch.batches import Batch
from services.trainer.batch.second_stage import scored_together as together
from services.trainer.errors import JobFailed
from services.trainer.groups.payloads import Payload, payload_of
from services.trainer.learner.port import Divergences
from services.trainer.learner.rows import rows_of
from services.trainer.learner.second_stage import rescored

EPSILON = 1e-6
RPP = {"advantage_estimator": "reinforce_plus_plus", "invalid_action_penalty": 0.0, "beta": 0.0}
BATCH = {"scale_rewards": "batch", "invalid_action_penalty": 0.0}
GDPO = {"scale_rewards": "gdpo"}


def scored_together(groups: list[Payload], spec: JobSpec, kl: Divergences | None = None) -> list[Payload]:
    return together(groups, spec, rescored, kl)


def as_trained(groups: list[Payload], spec: JobSpec, kl: Divergences | None = None) -> list[Payload]:
    return batches.as_trained(groups, spec, rescored, kl)


def spec_of(algorithm: dict[str, Any], functions: int = 0) -> JobSpec:
    rewards = {"reward_funcs": ["accuracy", "format"][:functions], "reward_weights": [1.0, 0.5][:functions]}
    single = {"environment": {"use_gym_env": False}, "rewards": rewards} if functions else {}
    return parse_spec({"model": {"model": "/m"}, "algorithm": algorithm, **single})


def groups_of(*returns: list[float], name: str = "g") -> list[Payload]:
    """Groups of episodes of two steps, the reward on the second one."""
    return [
        payload(f"{name}{i}", i, [[step(0), step(1, reward=reward)] for reward in group], {"abs_step_advantage_sum": 0})
        for i, group in enumerate(returns)
    ]


def advantages(groups: list[Payload]) -> list[list[float]]:
    """Advantages of the first step of each episode; both steps have one advantage."""
    found = []
    for group in groups:
        column = struct.unpack(f"<{len(group.scored.advantage) // 8}d", group.scored.advantage)
        assert column[::2] == column[1::2]
        found.append(list(column[::2]))
    return found


def test_two_groups_get_the_hand_worked_advantages():
    groups = groups_of([1.0, 0.0], [4.0, 0.0])
    centred = [0.5, -0.5, 2.0, -2.0]  # their deviation: sqrt((0.25 + 0.25 + 4 + 4) / 3)
    wanted = [value / ((8.5 / 3) ** 0.5 + EPSILON) for value in centred]
    first, second = advantages(scored_together(groups, spec_of(RPP)))
    assert [*first, *second] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_reinforce_plus_plus_and_the_batch_scale_equal_plain_loops(seed: int):
    rng = random.Random(seed)
    returns = [[rng.choice([0.0, 1.0, -2.0, 10.0]) for _ in range(rng.randrange(1, 6))] for _ in range(4)]
    centred = [[value - fmean(group) if len(group) > 1 else 0.0 for value in group] for group in returns]
    for algorithm, votes in ((RPP, centred), (BATCH, returns)):
        flat = [value for group in votes for value in group]
        divisor = stdev(flat) + EPSILON if len(set(flat)) > 1 else 1.0
        got = advantages(scored_together(groups_of(*returns), spec_of(algorithm)))
        for group, wanted in zip(got, centred, strict=True):
            assert group == pytest.approx([value / divisor for value in wanted], rel=1e-9, abs=1e-12)


def replies(*groups: list[tuple[float, float]]) -> list[Payload]:
    """Groups of single steps with two reward functions' values."""

    def reply(values: tuple[float, float]) -> Step:
        return msgspec.structs.replace(step(0, reward=99.0), rewards=values)

    return [payload(f"g{i}", i, [[reply(values)] for values in group]) for i, group in enumerate(groups)]


@pytest.mark.parametrize("seed", range(8))
def test_gdpo_equals_plain_loops(seed: int):
    rng = random.Random(seed)
    values = [[(rng.choice([0.0, 1.0]), rng.random()) for _ in range(4)] for _ in range(3)]
    mixed = []
    for group in values:
        columns = list(zip(*group, strict=True))
        for reply in group:
            terms = [
                weight * ((value - fmean(column)) / (stdev(column) + EPSILON) if len(set(column)) > 1 else 0.0)
                for value, column, weight in zip(reply, columns, (1.0, 0.5), strict=True)
            ]
            mixed.append(sum(terms))
    wanted = [(value - fmean(mixed)) / (stdev(mixed) + EPSILON) for value in mixed]
    scored = scored_together(replies(*values), spec_of(GDPO, functions=2))
    got = [row.advantage for group in scored for row in rows_of(group.episodes, group.scored)]
    assert got == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def test_a_replay_of_the_stored_groups_gives_the_bytes_of_the_manifest():
    groups, spec = groups_of([1.0, 0.0, 3.0], [4.0, 0.0]), spec_of(RPP)
    cut = Batch(3, as_trained(groups, spec))
    stored = [payload_of(group.group_id, group.scores, group.episode_payloads) for group in groups]
    assert Batch(3, as_trained(stored, spec)).manifest() == cut.manifest()
    assert [group.encoded for group in as_trained(stored, spec)] == [group.encoded for group in cut.groups]
    assert cut.manifest() != Batch(3, groups).manifest()


def test_a_group_has_other_advantages_in_other_company():
    (alone,) = advantages(scored_together(groups_of([1.0, 0.0]), spec_of(RPP)))
    beside, _ = advantages(scored_together(groups_of([1.0, 0.0], [9.0, 0.0]), spec_of(RPP)))
    assert alone != beside


@pytest.mark.parametrize(
    "algorithm", [{}, {"advantage_estimator": "gigpo"}, {"advantage_estimator": "rloo", "beta": 0.0}]
)
def test_groups_that_are_scored_alone_stay_as_they_are(algorithm: dict[str, Any]):
    groups = groups_of([1.0, 0.0], [4.0, 0.0])
    assert scored_together(groups, spec_of(algorithm)) == groups


KL = 0.25
"""beta of the jobs below."""


def divergences(groups: list[Payload], rng: random.Random) -> list[list[float]]:
    return [[rng.gauss(0.0, 1.0) for episode in group.episodes for _ in episode.steps] for group in groups]


def episodes_by_anchor(rng: random.Random, name: str, cursor: int) -> Payload:
    """A group of four episodes of one to four steps in three states."""

    def acted(index: int) -> Step:
        anchor = rng.choice("abc")
        key = anchor.encode() * 16
        one = step(index, reward=rng.choice([0.0, 1.0, -2.0]), valid=rng.random() < 0.8)
        return msgspec.structs.replace(one, anchor=anchor, anchor_key=key, state_key=key)

    return payload(name, cursor, [[acted(index) for index in range(rng.randrange(1, 5))] for _ in range(4)])


def by_hand(group: Payload, kl: list[float], estimator: str, penalty: float) -> list[float]:
    """The advantages of a group's rows, by loops over dictionaries, with gamma 0.9 and F_norm 1."""
    taken = iter(kl)
    rewards = [[one.reward - KL * next(taken) for one in episode.steps] for episode in group.episodes]
    lost = [[penalty * (not one.action_valid) for one in episode.steps] for episode in group.episodes]
    count = len(rewards)
    totals = [[sum(of) - fee for fee in fees] for of, fees in zip(rewards, lost, strict=True)]
    returns = [
        [sum(0.9**later * reward for later, reward in enumerate(of[at:])) - fees[at] for at in range(len(of))]
        for of, fees in zip(rewards, lost, strict=True)
    ]
    mean = fmean(own[0] for own in totals)
    episode_level = [[total - mean for total in own] for own in totals]
    if estimator == "rloo":
        return [count / (count - 1) * value for own in episode_level for value in own]
    if estimator == "grpo":
        return [value for own in episode_level for value in own]
    states: dict[str, list[float]] = {}
    for episode, own in zip(group.episodes, returns, strict=True):
        for one, value in zip(episode.steps, own, strict=True):
            states.setdefault(one.anchor, []).append(value)
    return [
        level + (value - fmean(states[one.anchor]) if len(states[one.anchor]) > 1 else 0.0)
        for episode, levels, own in zip(group.episodes, episode_level, returns, strict=True)
        for one, level, value in zip(episode.steps, levels, own, strict=True)
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("estimator", ["grpo", "rloo", "gigpo"])
def test_the_kl_is_taken_from_the_reward_before_every_baseline(estimator: str, seed: int):
    rng = random.Random(seed)
    groups = [episodes_by_anchor(rng, f"g{cursor}", cursor) for cursor in range(3)]
    kl = divergences(groups, rng)
    penalty = 0.1 if estimator == "gigpo" else 0.0
    section = {"advantage_estimator": estimator, "beta": KL, "kl_in_reward": True, "invalid_action_penalty": penalty}
    section |= {"gamma": 0.9} if estimator == "gigpo" else {}
    scored = scored_together(groups, spec_of(section), kl)
    for group, own, before in zip(scored, kl, groups, strict=True):
        got = [row.advantage for row in rows_of(group.episodes, group.scored)]
        assert got == pytest.approx(by_hand(before, own, estimator, penalty), rel=1e-9, abs=1e-12)


def test_reinforce_plus_plus_divides_by_the_deviation_of_rewards_that_hold_the_kl():
    groups, rng = groups_of([1.0, 0.0, 3.0], [4.0, 0.0, 0.5]), random.Random(0)
    kl = divergences(groups, rng)
    scored = scored_together(groups, spec_of({**RPP, "beta": KL}), kl)
    totals = [
        [sum(one.reward for one in episode.steps) - KL * sum(own[2 * k : 2 * k + 2])
         for k, episode in enumerate(group.episodes)]
        for group, own in zip(groups, kl, strict=True)
    ]  # fmt: skip
    centred = [total - fmean(own) for own in totals for total in own]
    wanted = [value / (stdev(centred) + EPSILON) for value in centred]
    assert [value for group in advantages(scored) for value in group] == pytest.approx(wanted, rel=1e-9)


def test_step_columns_and_their_sums_are_those_with_the_kl():
    rng = random.Random(1)
    groups = [episodes_by_anchor(rng, "g", 0)]
    section = {"advantage_estimator": "gigpo", "beta": KL, "kl_in_reward": True, "gigpo_step_advantage_weight": 2.0}
    (group,) = scored_together(groups, spec_of(section), divergences(groups, rng))
    rows = sum(len(episode.steps) for episode in group.episodes)
    whole, episode, level = (
        struct.unpack(f"<{rows}d", column)
        for column in (group.scored.advantage, group.scored.episode_advantage, group.scored.step_advantage)
    )
    assert whole == pytest.approx([one + 2.0 * other for one, other in zip(episode, level, strict=True)])
    assert group.scored.diagnostics["abs_step_advantage_sum"] == pytest.approx(2.0 * sum(map(abs, level)))
    assert group.scored.diagnostics["useful_anchor_rows"] == sum(value != 0 for value in level) > 0
    assert group.scored.step_return != groups[0].scored.step_return


@pytest.mark.parametrize(
    ("section", "subtracts"),
    [
        ({"advantage_estimator": "rloo"}, True),
        ({"advantage_estimator": "reinforce_plus_plus"}, True),
        ({"advantage_estimator": "rloo", "kl_in_reward": False}, False),
        ({"advantage_estimator": "rloo", "beta": 0.0}, False),
        ({"advantage_estimator": "gigpo"}, False),
        ({"advantage_estimator": "gigpo", "kl_in_reward": True}, True),
    ],
)
def test_the_kl_is_in_the_reward_where_the_estimator_has_it_there_or_the_job_says_so(
    section: dict[str, Any], subtracts: bool
):
    assert spec_of(section).algorithm.subtracts_kl is subtracts


def test_a_batch_without_the_kl_that_its_rewards_need_is_refused():
    with pytest.raises(JobFailed, match="kl_in_reward: the batch has no kl to subtract"):
        as_trained(groups_of([1.0, 0.0]), spec_of({"advantage_estimator": "rloo"}))


def test_the_manifest_holds_the_kl_to_the_last_bit():
    groups, spec = groups_of([1.0, 0.0], [4.0, 0.0]), spec_of({"advantage_estimator": "rloo"})
    kl = divergences(groups, random.Random(2))
    cut = Batch(3, as_trained(groups, spec, kl), kl)
    stored = json.loads(cut.manifest())["kl"]
    assert stored == kl
    assert Batch(3, as_trained(groups, spec, stored), stored).manifest() == cut.manifest()
    assert "kl" not in json.loads(Batch(3, groups).manifest())


def test_what_archives_and_metrics_show_is_what_is_trained():
    groups = scored_together(groups_of([1.0, 0.0], [4.0, 0.0]), spec_of(RPP))
    for group in groups:
        assert payload_of(group.group_id, group.scores, group.episode_payloads).scored == group.scored
        assert group.scored.episode_advantage == group.scored.advantage
        column = struct.unpack("<4d", group.scored.advantage)
        assert group.scored.diagnostics["abs_episode_advantage_sum"] == pytest.approx(sum(map(abs, column)))


@pytest.mark.parametrize(("algorithm", "functions"), [(RPP, 0), (BATCH, 0), (GDPO, 2)])
def test_a_group_alone_is_scored_without_the_scale_that_spans_the_batch(algorithm: dict[str, Any], functions: int):
    spec = spec_of(algorithm, functions)
    config = advantage_config(spec.algorithm, spec.rewards)
    assert (config.scale, config.spans_batch) == ("none", False)


@pytest.mark.parametrize(
    ("algorithm", "sentence"),
    [
        (
            {"advantage_estimator": "reinforce_plus_plus", "scale_rewards": "gdpo"},
            "wants batch, group or none, got gdpo",
        ),
        (GDPO, "want reward_funcs with it, got none"),
    ],
)
def test_a_scale_that_does_not_fit_is_refused_at_submission(algorithm: dict[str, Any], sentence: str):
    with pytest.raises(SpecError, match=sentence):
        spec_of(algorithm)
