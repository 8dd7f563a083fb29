"""Advantages whose scale spans the batch: hand-worked, against plain loops, and the same bytes on a replay."""

from __future__ import annotations

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
from services.trainer.batch.batches import Batch, as_trained
from services.trainer.batch.second_stage import scored_together
from services.trainer.groups.payloads import Payload, payload_of
from services.trainer.learner.rows import rows_of

EPSILON = 1e-6
RPP = {"advantage_estimator": "reinforce_plus_plus", "invalid_action_penalty": 0.0}
BATCH = {"scale_rewards": "batch", "invalid_action_penalty": 0.0}
GDPO = {"scale_rewards": "gdpo"}


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
    """Of the first step of each episode; both steps have one advantage."""
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


@pytest.mark.parametrize("algorithm", [{}, {"advantage_estimator": "gigpo"}, {"advantage_estimator": "rloo"}])
def test_groups_that_are_scored_alone_stay_as_they_are(algorithm: dict[str, Any]):
    groups = groups_of([1.0, 0.0], [4.0, 0.0])
    assert scored_together(groups, spec_of(algorithm)) == groups


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
