"""Where a batch's wall time went, from the moments of its episodes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs
from trainer_payloads import payload, step

from services.contracts.arrays import pack_float64
from services.trainer.batch.batches import Batch
from services.trainer.batch.metrics import Timing, batch_record
from services.trainer.batch.moments import Window

TURNS = {
    (3, 0): [100.0, 101.0, 102.0, 104.0, 105.0, 106.0],
    (3, 1): [100.5, 101.5, 103.0, 103.5],
    (4, 0): [101.0, 105.5, 110.0, 112.0, 118.0, 120.0],
    (4, 1): [101.0, 102.0, 103.0, 104.0],
}
"""(cursor, k) -> moments; engines were asked from 101 to 103, 104 to 105, 105.5 to 110 and 112 to 118."""


def batch(changes: dict[tuple[int, int], list[float]] | None = None) -> Batch:
    groups = []
    for cursor in (3, 4):
        moments = [(TURNS | (changes or {}))[cursor, k] for k in range(2)]
        group = payload(f"g{cursor}", cursor, [[step(at) for at in range(len(one) // 2 - 1)] for one in moments])
        episodes = [
            structs.replace(one, moments=pack_float64(own), generate_s=1.0, env_s=3.0)
            for one, own in zip(group.episodes, moments, strict=True)
        ]
        groups.append(replace(group, episodes=episodes))
    return Batch(0, groups)


def figures(
    wait_s: float, arrived: float, changes: dict[tuple[int, int], list[float]] | None = None
) -> dict[str, float]:
    one = batch(changes)
    zeros = dict.fromkeys(
        ("episodes", "steps", "won", "return_sum", "invalid_steps", "abs_episode_advantage_sum", "step_groups",
         "abs_step_advantage_sum", "useful_anchor_rows", "shared_anchor_rows", "step_group_largest"), 0.0
    )  # fmt: skip
    for group in one.groups:
        group.scored.diagnostics.update(zeros)
    return batch_record(one, {}, Timing(wait_s, 4.0, 1.0, arrived_unix_s=arrived))


def test_the_wait_is_before_between_and_behind_the_episodes() -> None:
    found = figures(25.0, 122.0)  # from 97 on
    parts = [found[f"wait_{name}_s"] for name in ("place", "env", "generate", "scoring")]
    assert parts == pytest.approx([3.0, 15.0, 5.0, 2.0])
    assert found["wait_last_s"] == pytest.approx(14.0)  # from 106 to 120
    assert found["idle_share"] == pytest.approx((25 - 2 - 1 - 4.5 - 6) / 30)
    named = [found[f"slowest_{name}"] for name in ("cursor", "k", "turns", "s")]
    assert named == [4, 0, 2, pytest.approx(19.0)]


def test_work_before_the_wait_is_no_part_of_it() -> None:
    """The episodes were played while the trainer trained the batch before."""
    found = figures(4.0, 121.0)  # from 117 on
    assert [found[f"wait_{name}_s"] for name in ("place", "last", "scoring")] == pytest.approx([0.0, 3.0, 1.0])
    assert found["idle_share"] == pytest.approx(3 / 9)
    replayed = figures(0.0, 500.0)
    assert [replayed[name] for name in ("wait_place_s", "wait_last_s", "wait_scoring_s", "idle_share")] == [0.0] * 4


def test_episodes_of_an_earlier_release_have_no_moments() -> None:
    assert "idle_share" not in figures(25.0, 122.0, changes={(3, 1): []})


def test_stretches_that_overlap_are_counted_once() -> None:
    window = Window(10.0, 20.0)
    assert window.covered([]) == 0
    assert window.covered([(0.0, 12.0), (11.0, 13.0), (11.5, 12.5), (19.0, 30.0), (40.0, 50.0)]) == pytest.approx(4.0)
