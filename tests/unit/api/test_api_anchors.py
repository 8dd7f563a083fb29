"""The states where episodes met, from the archive: a hand-made group of two episodes."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import pytest

from services.api.artifacts.anchors import anchor_page
from services.api.artifacts.rollouts import RolloutArchive
from services.api.rest.problems import Problem
from services.contracts.messages import Episode, ScoredGroup
from tests.rollout_archives import episode, write

STEPS = [("start", "left"), ("hall", "right"), ("start", "right")], [("start", "left"), ("hall", "left")]
"""Each episode's states and actions."""
LABELS = [0, 1, 0, 0, 1]
RETURNS = [0.8, 0.9, 1.0, 0.0, 0.0]


def group(name: str = "tg", cursor: int = 0) -> tuple[ScoredGroup, list[Episode]]:
    import msgspec

    def numbers(values: list[float]) -> bytes:
        return array("d", values).tobytes()

    scored = ScoredGroup(
        group_id=name,
        purpose="train",
        cursor=cursor,
        advantage=numbers([value + 1 for value in RETURNS]),
        episode_advantage=numbers([1.0] * 5),
        step_advantage=numbers(RETURNS),
        step_return=numbers(RETURNS),
        step_group=array("q", LABELS).tobytes(),
        episodes_sha="",
    )
    episodes = []
    for k, places in enumerate(STEPS):
        made = episode(k, [0.0] * (len(places) - 1) + [1.0 - k])
        steps = [
            msgspec.structs.replace(step, anchor=place, action=action)
            for step, (place, action) in zip(made.steps, places, strict=True)
        ]
        episodes.append(msgspec.structs.replace(made, steps=steps))
    return scored, episodes


def page(folder: Path, batch: int | None = None, group_id: str | None = None, **more: Any) -> Any:
    options = {"min_visits": 1, "offset": 0, "limit": 10, **more}
    return anchor_page(RolloutArchive(), folder, batch, group_id, **options)


def test_a_state_shows_every_action_with_its_returns_advantages_and_where_it_led(tmp_path: Path) -> None:
    write(tmp_path, 3, [group()])
    found = page(tmp_path)
    assert (found.batch, found.total, found.next_offset) == (3, 2, None)
    start, hall = found.anchors
    assert (start.anchor, start.visits, start.episodes, start.step_group) == ("start", 3, 2, 0)
    assert start.return_mean == pytest.approx(0.6)
    assert [(one.action, one.return_mean) for one in start.actions] == [("right", 1.0), ("left", 0.4)]
    assert [(one.k, one.step_index, one.leads_to, one.won) for one in start.actions[1].visits] == [
        (0, 0, 1, True),
        (1, 0, 1, False),
    ]
    assert start.actions[0].visits[0].leads_to is None
    assert start.actions[0].visits[0].advantage == 2.0
    assert [(one.action, one.step_advantage_mean) for one in hall.actions] == [("right", 0.9), ("left", 0.0)]


def test_states_are_the_most_visited_first_by_pages_of_one_group_or_all(tmp_path: Path) -> None:
    write(tmp_path, 0, [group("ta")])
    write(tmp_path, 1, [group("tb", 0), group("tc", 1)])
    found = page(tmp_path)
    assert [(one.group_id, one.visits) for one in found.anchors] == [("tb", 3), ("tc", 3), ("tb", 2), ("tc", 2)]
    assert [one.group_id for one in page(tmp_path, 0).anchors] == ["ta", "ta"]
    assert page(tmp_path, 1, "tc", min_visits=3).total == 1
    first = page(tmp_path, limit=3)
    assert (first.next_offset, first.total) == (3, 4)
    assert [one.group_id for one in page(tmp_path, offset=3).anchors] == ["tc"]


def test_a_batch_that_is_not_archived_is_404(tmp_path: Path) -> None:
    for batch, words in ((None, "newest"), (7, "'7'")):
        with pytest.raises(Problem, match=words):
            page(tmp_path, batch)
