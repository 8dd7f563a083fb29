import struct
from typing import Any

import pytest

from services.contracts.arrays import pack_float32, pack_int32
from services.contracts.messages import Episode, ScoredGroup, Step
from services.trainer.learner.errors import RowsError
from services.trainer.learner.rows import Row, rows_of, supervised_pairs


def a_step(index: int, **changes: Any) -> Step:
    fields: dict[str, Any] = {
        "step_index": index,
        "prompt_ids": pack_int32([5, 6]),
        "response_ids": pack_int32([10 + index, 1]),
        "logprobs": pack_float32([-0.5, -0.25]),
        "versions": pack_int32([3, 4]),
        "reward": 0.0,
        "anchor_key": b"a" * 16,
        "state_key": b"s" * 16,
        "anchor": "a",
        "action": "go",
        "action_valid": True,
    }
    return Step(**{**fields, **changes})


def an_episode(k: int, steps: list[Step], group: str = "t1") -> Episode:
    return Episode(
        group_id=group,
        episode_id=f"{group}/{k}",
        k=k,
        attempt=0,
        task="",
        steps=steps,
        won=False,
        score=0.0,
        terminated=True,
        truncated=False,
        worker="w",
    )


def scores(*advantages: float, group: str = "t1") -> ScoredGroup:
    column = struct.pack(f"<{len(advantages)}d", *advantages)
    return ScoredGroup(
        group_id=group,
        purpose="train",
        cursor=0,
        advantage=column,
        episode_advantage=column,
        step_advantage=column,
        step_return=column,
        step_group=b"",
        episodes_sha="",
    )


def test_rows_stand_by_episode_and_step_whatever_came_first() -> None:
    episodes = [an_episode(1, [a_step(0)]), an_episode(0, [a_step(1), a_step(0)])]
    rows = rows_of(episodes, scores(0.1, 0.2, 0.3))
    assert [(row.response_ids[0], row.advantage) for row in rows] == [(10, 0.1), (11, 0.2), (10, 0.3)]
    assert rows[0] == Row((5, 6), (10, 1), (-0.5, -0.25), (3, 4), 0.1)


@pytest.mark.parametrize(
    ("episodes", "advantages", "what"),
    [
        ([an_episode(0, [a_step(0)])], (0.1, 0.2), "want 1 advantages, one per step, got 2"),
        ([an_episode(0, [a_step(0)], group="t2")], (0.1,), "t2/0 belongs to another group"),
        ([an_episode(0, [a_step(0)]), an_episode(0, [a_step(0)])], (0.1, 0.2), "there twice"),
        ([an_episode(0, [a_step(0, response_ids=b"")])], (0.1,), "want a prompt and a response"),
        ([an_episode(0, [a_step(0, prompt_ids=b"")])], (0.1,), "want a prompt and a response"),
        ([an_episode(0, [a_step(0, versions=pack_int32([3]))])], (0.1,), "2 tokens, 2 log-probabilities, 1 versions"),
        ([an_episode(0, [a_step(0, logprobs=pack_float32([0.0, float("-inf")]))])], (0.1,), "t1/0 step 0: want finite"),
        ([an_episode(0, [a_step(0)])], (float("nan"),), "want finite"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    episodes: list[Episode], advantages: tuple[float, ...], what: str
) -> None:
    with pytest.raises(RowsError, match=what):
        rows_of(episodes, scores(*advantages))


def test_supervised_pairs_leave_invalid_actions_out() -> None:
    episode = an_episode(0, [a_step(1), a_step(0, action_valid=False), a_step(2)])
    assert supervised_pairs([episode]) == [((5, 6), (11, 1)), ((5, 6), (12, 1))]
