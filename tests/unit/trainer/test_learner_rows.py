import struct
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from torch import Tensor

from gigpo_core import lone_turn
from services.contracts.arrays import pack_float32, pack_int32
from services.contracts.guidance import pack_allowed, unpack_allowed
from services.contracts.messages import Episode, ScoredGroup, Step, decode, encode
from services.trainer.groups.payloads import Payload
from services.trainer.learner.errors import RowsError
from services.trainer.learner.rows import Row, rows_of, supervised_turns
from services.trainer.learner.update import columns_of


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
    assert rows[0] == Row(lone_turn((5, 6), (10, 1)), (-0.5, -0.25), (3, 4), 0.1, "t1")


@pytest.mark.parametrize(
    ("episodes", "advantages", "what"),
    [
        ([an_episode(0, [a_step(0)])], (0.1, 0.2), "want 1 advantages, one per step, got 2"),
        ([an_episode(0, [a_step(0)], group="t2")], (0.1,), "t2/0 belongs to another group"),
        ([an_episode(0, [a_step(0)]), an_episode(0, [a_step(0)])], (0.1, 0.2), "occurs twice"),
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


GO, STAY, GO_ON = [10, 1], [7, 1], [10, 11, 1]


def guided_episode(k: int, choices: list[int], response: list[int]) -> Episode:
    """One step that could be the replies `choices` of go, stay and go on."""
    count = len(response)
    step = a_step(
        0,
        response_ids=pack_int32(response),
        logprobs=pack_float32([-0.5] * count),
        versions=pack_int32([3] * count),
        choices=pack_int32(choices),
    )
    return replace(an_episode(k, [step]), replies=[pack_int32(reply) for reply in (GO, STAY, GO_ON)])


def test_a_guided_response_tells_what_each_of_its_tokens_could_have_been() -> None:
    episodes = [guided_episode(0, [0, 1, 2], GO_ON), guided_episode(1, [1, 0], GO), guided_episode(2, [1], STAY)]
    decoded = [decode(encode(episode), Episode) for episode in episodes]
    rows = rows_of(decoded, scores(0.1, 0.2, 0.3))
    allowed = [unpack_allowed(row.turn.allowed, len(row.response_ids)) for row in rows]
    assert allowed == [[[7, 10], [1, 11], [1]], [[7, 10], [1]], [[7], [1]]]


def kept_step(*kept: list[int]) -> Step:
    """A step that said 10, then 1."""
    return a_step(0, response_ids=pack_int32(GO), logprobs=pack_float32([-0.5] * 2), kept=pack_allowed(kept))


def test_a_truncated_response_tells_what_each_of_its_tokens_could_have_been() -> None:
    (row,) = rows_of([decode(encode(an_episode(0, [kept_step([3, 10, 99], [1])])), Episode)], scores(0.1))
    assert unpack_allowed(row.turn.allowed, 2) == [[3, 10, 99], [1]]


@pytest.mark.parametrize(
    ("kept", "what"),
    [
        ([[10, 11]], "kept: want the ids of 2 tokens"),
        ([[10], [1], [2]], "kept: want the ids of 2 tokens"),
        ([[10], []], "kept: want the ids of 2 tokens, at least one of each"),
        ([[10], [2, 3]], "want the sampled token 1 among the 2 that it could be"),
    ],
)
def test_what_a_token_could_have_been_must_fit_the_response(kept: list[list[int]], what: str) -> None:
    with pytest.raises(RowsError, match=what):
        rows_of([an_episode(0, [kept_step(*kept)])], scores(0.1))


@pytest.mark.parametrize(
    ("choices", "response", "what"),
    [
        ([0, 1], GO_ON, "t1/0 step 0: want one of the 2 replies that it could be, got another response"),
        ([2], GO_ON[:2], "want one of the 1 replies"),  # cut: it is none of them
        ([0, 3], GO, "want choices among 3 replies, got 3"),
        ([-1], GO, "want choices among 3 replies, got -1"),
    ],
)
def test_a_guided_response_that_is_none_of_its_choices_is_refused(
    choices: list[int], response: list[int], what: str
) -> None:
    with pytest.raises(RowsError, match=what):
        rows_of([guided_episode(0, choices, response)], scores(0.1))


def test_supervised_turns_leave_invalid_actions_out() -> None:
    episode = an_episode(0, [a_step(1), a_step(0, action_valid=False), a_step(2)])
    assert supervised_turns([episode]) == [lone_turn((5, 6), (11, 1)), lone_turn((5, 6), (12, 1))]


TOKEN_IDS = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=6)
GROUPS = st.lists(
    st.lists(st.lists(st.tuples(TOKEN_IDS, TOKEN_IDS), min_size=1, max_size=4), min_size=1, max_size=3), max_size=3
)
"""Groups of episodes of steps (prompt ids, response ids), in the order of group, k and step_index."""


class SilentScorer:
    """Stands for the model: what it makes of the tokens is not what is asked here."""

    def constants(self, rows: Any, entropy: str) -> tuple[Tensor, None]:
        return torch.zeros(rows.tokens), None


def recorded_step(index: int, prompt: list[int], response: list[int]) -> Step:
    return a_step(
        index,
        prompt_ids=pack_int32(prompt),
        response_ids=pack_int32(response),
        logprobs=pack_float32([-float(index)] * len(response)),
        versions=pack_int32([3] * len(response)),
    )


@settings(max_examples=60, deadline=None)
@given(GROUPS, st.randoms(use_true_random=False))
def test_the_tokens_that_are_trained_are_exactly_the_sampled_ones(groups: list[Any], random: Any) -> None:
    rows, sampled_tokens = [], 0
    for number, group in enumerate(groups):
        episodes = []
        for k, turns in enumerate(group):
            steps = [recorded_step(index, *turn) for index, turn in enumerate(turns)]
            random.shuffle(steps)
            episodes.append(decode(encode(an_episode(k, steps, group=f"t{number}")), Episode))
        random.shuffle(episodes)
        scored = scores(*[0.5] * sum(map(len, group)), group=f"t{number}")
        rows += rows_of(episodes, scored)
        sampled_tokens += Payload(b"", [], scored, episodes).sampled_tokens
    columns = columns_of(rows, SilentScorer())  # type: ignore[arg-type]
    sampled = [turn for group in groups for turns in group for turn in turns]
    order = random.sample(range(len(sampled)), len(sampled))
    for part, wanted in (
        (columns, sampled),
        (columns.select(torch.tensor(order, dtype=torch.int64)), [sampled[row] for row in order]),
    ):
        trained = zip(part.rows.ids, part.rows.prompt_length.tolist(), strict=True)
        assert [(ids[:cut].tolist(), ids[cut:].tolist()) for ids, cut in trained] == wanted
    train_tokens = columns.rows.tokens
    assert train_tokens == sampled_tokens == sum(len(response) for _, response in sampled)
    assert len(columns.rollout) == train_tokens
