"""Reading the trainer's archive: every figure of a step comes from the row that belongs to it."""

from __future__ import annotations

import zlib
from array import array
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.api.problems import Problem
from services.api.rollouts import RolloutArchive
from services.contracts.arrays import pack_float32, pack_int32
from services.contracts.messages import Episode, ScoredGroup, Step, encode


def step(index: int, reward: float) -> Step:
    return Step(
        step_index=index,
        prompt_ids=pack_int32([7, 8]),
        response_ids=pack_int32([index, 1]),
        logprobs=pack_float32([-0.5, -0.25]),
        versions=pack_int32([3, 3]),
        reward=reward,
        anchor_key=b"a" * 16,
        state_key=b"s" * 16,
        anchor="here",
        action=f"act {index}",
        action_valid=True,
    )


def episode(k: int, rewards: list[float]) -> Episode:
    steps = [step(index, reward) for index, reward in enumerate(rewards)]
    return Episode(
        group_id="tabc",
        episode_id=f"tabc/{k}",
        k=k,
        attempt=1,
        task="put it",
        steps=steps,
        won=rewards[-1] > 0,
        score=sum(rewards),
        terminated=True,
        truncated=False,
        worker="w",
    )


def scored(group_id: str, labels: list[int]) -> ScoredGroup:
    def column(start: float) -> bytes:
        return array("d", [start + row for row in range(len(labels))]).tobytes()

    return ScoredGroup(
        group_id=group_id,
        purpose="train",
        cursor=5,
        advantage=column(0.0),
        episode_advantage=column(10.0),
        step_advantage=column(20.0),
        step_return=column(30.0),
        step_group=array("q", labels).tobytes(),
        episodes_sha="x",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, 0, [(scored("tabc", [0, 1, 0]), [episode(0, [0.0, 1.0]), episode(1, [0.0])])])
    write(tmp_path, 1, [(scored(name, [0]), [episode(0, [1.0])]) for name in ("tb", "tc")])
    (tmp_path / "rollouts" / ".batch-00002.msgpack.zlib.77").write_bytes(b"half")
    return tmp_path


def write(folder: Path, batch: int, groups: list[Any]) -> None:
    path = folder / "rollouts" / f"batch-{batch:05d}.msgpack.zlib"
    path.parent.mkdir(exist_ok=True)
    payload = [(encode(scores), [encode(one) for one in episodes]) for scores, episodes in groups]
    path.write_bytes(zlib.compress(msgspec.msgpack.encode(payload)))


def test_every_step_has_its_own_figures_and_the_other_visits_to_its_state(folder: Path) -> None:
    detail = RolloutArchive().detail(folder, "tabc")
    assert (detail.batch, detail.episodes, detail.won, detail.steps) == (0, 2, 1, [2, 1])
    flat = [one for played in detail.played for one in played.steps]
    assert [(one.advantage, one.episode_advantage, one.step_advantage, one.step_return) for one in flat] == [
        (0.0, 10.0, 20.0, 30.0),
        (1.0, 11.0, 21.0, 31.0),
        (2.0, 12.0, 22.0, 32.0),
    ]
    assert [[(m.k, m.step_index) for m in one.step_group_members] for one in flat] == [
        [(0, 0), (1, 0)],
        [(0, 1)],
        [(0, 0), (1, 0)],
    ]
    assert (flat[1].prompt, flat[1].response, flat[1].versions, flat[1].logprob_sum) == ("7 8", "1 1", [3], -0.75)


def test_groups_come_in_order_of_batch_and_by_pages(folder: Path) -> None:
    archive = RolloutArchive()
    assert archive.batches(folder) == [0, 1]
    assert [one.group_id for one in archive.page(folder, batch=None, offset=0, limit=10)] == ["tabc", "tb", "tc"]
    assert [one.group_id for one in archive.page(folder, batch=None, offset=1, limit=1)] == ["tb"]
    assert [one.group_id for one in archive.page(folder, batch=1, offset=0, limit=10)] == ["tb", "tc"]
    assert archive.page(folder / "none", batch=None, offset=0, limit=10) == []


def test_what_is_not_there_is_404_and_what_is_no_archive_is_500(folder: Path) -> None:
    archive = RolloutArchive()
    with pytest.raises(Problem, match="no rollout 'tx'"):
        archive.detail(folder, "tx")
    with pytest.raises(Problem, match="no archived batch '9'"):
        archive.page(folder, batch=9, offset=0, limit=1)
    (folder / "rollouts" / "batch-00003.msgpack.zlib").write_bytes(b"junk")
    with pytest.raises(Problem, match="cannot be read"):
        archive.page(folder, batch=3, offset=0, limit=1)
