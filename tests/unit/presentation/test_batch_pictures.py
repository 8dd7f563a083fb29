"""The picture of a batch: shares, the slowest episode's name, and a sentence."""

from __future__ import annotations

import pytest

from gigpo.client.report import batches_table
from services.presentation.batch_pictures import ADVICE, PARTS, pictures

RECORD: dict[str, object] = {
    "batch": 7,
    "wait_s": 8.0,
    "wait_place_s": 1.0,
    "wait_env_s": 2.0,
    "wait_generate_s": 4.5,
    "wait_scoring_s": 0.5,
    "train_s": 1.5,
    "publish_s": 0.5,
    "wait_last_s": 6.2,
    "idle_share": 0.25,
    "slowest_s": 6.5,
    "slowest_turns": 40,
    "slowest_cursor": 112,
    "slowest_k": 3,
}


def test_a_batch_waited_for_one_episode() -> None:
    (found,) = pictures([RECORD])
    assert (found.number, found.seconds, found.idle_share) == (7, 10.0, 0.25)
    assert [(part.key, part.share) for part in found.parts] == [
        ("place", 0.1), ("environment", 0.2), ("sampling", 0.45), ("scoring", 0.05), ("training", 0.15),
        ("publishing", 0.05),
    ]  # fmt: skip
    assert found.slowest == "group 112, episode 3: 40 turns in 6.5 s"
    assert found.advice.startswith(
        "62% of the time one episode was waited for, the slowest took 40 turns: set batch_order"
    )


@pytest.mark.parametrize("metric", PARTS)
def test_the_largest_part_has_an_advice_of_its_own(metric: str) -> None:
    (found,) = pictures([{**RECORD, "wait_last_s": 0.0, metric: 90.0}])
    key, words = PARTS[metric]
    assert f"% of the time went into {words}: {ADVICE[key]}." in found.advice


def test_records_of_earlier_releases_and_of_replays_have_what_they_have() -> None:
    old = {name: RECORD[name] for name in ("batch", "wait_env_s", "wait_generate_s", "train_s", "publish_s")}
    empty = {**old, **dict.fromkeys(PARTS, 0.0)}
    (found,) = pictures([old, empty, {"batch": 9}, {**empty, "train_s": float("nan")}])
    assert (found.idle_share, found.slowest) == (None, "")
    assert found.advice.startswith("53% of the time went into prefill and decode")


def test_a_report_shows_each_batch() -> None:
    shown = batches_table(pictures([RECORD, {**RECORD, "batch": 8, "idle_share": None}]))
    assert shown.count("<rect") == 12
    for text in ("group 112, episode 3: 40 turns in 6.5 s", "<td>25%</td>", "<td>–</td>", "scoring: 0.5 s, 5%"):
        assert text in shown
    assert batches_table([]) == ""
