"""The checks hold on a sound job and fail on each way of spoiling it: a check that cannot fail is worth nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from services.contracts.messages import Episode, Step
from services.ledger.records import Balance
from tests.chaos.checks import Remains, Shape, TrainedGroup, all_checks

SHAPE = Shape(batches=2, groups=2, episodes=2)
STEP = Step(
    response_ids=b"\1\0\0\0", logprobs=b"\0\0\0\0", versions=b"\0\0\0\0", step_index=0, prompt_ids=b"\2\0\0\0",
    reward=0.5, anchor_key=b"k" * 16, state_key=b"s" * 16, anchor="here", action="go", action_valid=True,
)  # fmt: skip


def episode(group: str, k: int) -> Episode:
    return Episode(
        group_id=group, episode_id=f"{group}/{k}", k=k, attempt=1, task="go", steps=[STEP], won=True, score=0.5,
        terminated=True, truncated=False, worker="w",
    )  # fmt: skip


def sound() -> Remains:
    groups = [
        TrainedGroup(number // 2, f"g{number}", [episode(f"g{number}", k) for k in range(2)]) for number in range(4)
    ]
    return Remains(
        state="SUCCEEDED",
        balance=Balance(opened=5, consumed=5, live=0, retried=0),
        always_balanced=True,
        groups=groups,
        states={group.group_id: "CONSUMED" for group in groups},
        metrics=[{"batch": 0, "loss": 0.25, "wait_s": 3.0}, {"batch": 1, "loss": 0.125, "wait_s": 1.0}],
        evaluations=[{"label": "after", "success": 0.5}],
        weights="abc",
    )


def with_episode(job: Remains, **changed: object) -> Remains:
    """The job with other values in the very last episode."""
    last = job.groups[-1]
    spoiled = msgspec.structs.replace(last.episodes[-1], **changed)
    return replace(job, groups=[*job.groups[:-1], replace(last, episodes=[*last.episodes[:-1], spoiled])])


def with_step(job: Remains, **changed: object) -> Remains:
    """The job with other values in the only step of the very last episode."""
    return with_episode(job, steps=[msgspec.structs.replace(STEP, **changed)])


def failed(struck: Remains) -> set[str]:
    return {check.name for check in all_checks(struck, sound(), SHAPE) if not check.holds}


STATE, LEDGER = "the job succeeded", "the ledger balances, and did at every look"
GROUPS, REWARDS = (
    "every trained group once, unique and whole",
    "no infrastructure fault became a reward or cost a group",
)
EPISODES, LOSSES = "the same episodes were played as in the quiet run", "losses and metrics are equal to the bit"
EVALUATIONS, WEIGHTS = "evaluations are equal to the bit", "the trained weights are equal to the bit"
LEFT = "nothing is left over"


def test_a_sound_job_passes_every_check_though_clock_worker_and_attempts_differ():
    job = with_episode(sound(), attempt=3, worker="another", generate_s=9.0)
    rows = [{**row, "wait_s": 70.0, "failed_attempts": 2} for row in job.metrics]
    dropped = Balance(opened=6, consumed=5, live=0, retried=4, dropped={"filtered": 1, "infra": 0})
    assert failed(replace(job, metrics=rows, balance=dropped)) == set()


SPOILED: list[tuple[str, Callable[[Remains], Remains], str]] = [
    ("it failed", lambda job: replace(job, state="FAILED"), STATE),
    ("a counter is off", lambda job: replace(job, balance=replace(job.balance, opened=6)), LEDGER),
    ("a look was off", lambda job: replace(job, always_balanced=False), LEDGER),
    ("a group is live", lambda job: replace(job, balance=replace(job.balance, opened=6, live=1)), LEDGER),
    ("a group twice", lambda job: replace(job, groups=[*job.groups[:-1], job.groups[0]]), GROUPS),
    ("a group too few", lambda job: replace(job, groups=job.groups[:-1]), GROUPS),
    ("an episode too few", lambda job: replace(job, groups=[replace(job.groups[0], episodes=job.groups[0].episodes[:1]),
                                                            *job.groups[1:]]), GROUPS),
    ("a trained group is dropped", lambda job: replace(job, states={**job.states, "g3": "DROPPED"}), GROUPS),
    ("a trained group is unknown", lambda job: replace(job, states={"g0": "CONSUMED"}), GROUPS),
    ("fewer consumed than trained", lambda job: replace(job, balance=Balance(3, 3, 0, 0)), GROUPS),
    ("another beginning", lambda job: with_step(job, state_key=b"x" * 16), GROUPS),
    ("another group's episode", lambda job: with_episode(job, group_id="g0"), GROUPS),
    ("a group dropped for a fault", lambda job: replace(job, balance=Balance(6, 5, 0, 0, {"infra": 1})), REWARDS),
    ("a group cancelled", lambda job: replace(job, balance=Balance(6, 5, 0, 0, {"cancelled": 1})), REWARDS),
    ("an episode without an end", lambda job: with_episode(job, terminated=False), REWARDS),
    ("a step is missing", lambda job: with_step(job, step_index=1), REWARDS),
    ("a reward is no number", lambda job: with_step(job, reward=math.nan), REWARDS),
    ("a step without tokens", lambda job: with_step(job, response_ids=b""), REWARDS),
    ("a zero reward", lambda job: with_step(job, reward=0.0), EPISODES),
    ("other tokens", lambda job: with_step(job, response_ids=b"\3\0\0\0"), EPISODES),
    ("another loss", lambda job: replace(job, metrics=[job.metrics[0], {**job.metrics[1], "loss": 0.1250001}]), LOSSES),
    ("a batch too few", lambda job: replace(job, metrics=job.metrics[:1]), LOSSES),
    ("another evaluation", lambda job: replace(job, evaluations=[]), EVALUATIONS),
    ("other weights", lambda job: replace(job, weights="abd"), WEIGHTS),
    ("something is left", lambda job: replace(job, left_over=["process 7 is left"]), LEFT),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "name"), [case[1:] for case in SPOILED], ids=[case[0] for case in SPOILED])
def test_a_spoiled_job_fails_the_check_that_is_for_it(spoil: Callable[[Remains], Remains], name: str):
    assert name in failed(spoil(sound()))


def test_a_failed_check_names_the_batch_and_the_metrics():
    rows = [{**sound().metrics[0], "loss": 1.0}, sound().metrics[1]]
    (check,) = [one for one in all_checks(replace(sound(), metrics=rows), sound(), SHAPE) if not one.holds]
    assert check.found == "batch 0: loss (1 of 2 metrics)"
