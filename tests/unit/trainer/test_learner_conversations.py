"""Turns of a conversation share one forward pass, and give the gradient of as many rows that stand alone."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_cases import TOKENS, job_spec, naive_logprobs, scratch_folder, weights_of
from test_learner_rows import a_step, an_episode, scores
from torch.testing import assert_close

from gigpo_core import LossConfig, lone_turn
from services.contracts.arrays import pack_float32, pack_int32
from services.contracts.messages import Episode
from services.trainer.learner.errors import RowsError
from services.trainer.learner.learner import Learner
from services.trainer.learner.logprobs import Scorer
from services.trainer.learner.policy import load_policy
from services.trainer.learner.rows import Row, rows_of, supervised_turns
from services.trainer.learner.token_rows import TokenRows
from services.trainer.learner.update import Columns, accumulate_gradient, columns_of, loss_config, token_mask

LOSSES: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo"},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "cispo": {"loss_type": "cispo", "epsilon_high": 2.0},
    "fipo": {"loss_type": "fipo"},
    "real": {"loss_type": "real"},
    "gspo": {"importance_sampling_level": "sequence"},
    "gspo_token": {"importance_sampling_level": "sequence_token"},
    "corrected": {"rollout_importance_sampling_mode": "sequence_truncate"},
    "entropy": {"top_entropy_quantile": 0.4},
    "overlong": {"overlong_filter": True},
}


def played(number: int, seed: int = 0, *, cut: bool = False) -> list[Episode]:
    """Episodes of one group, of 1 to 5 steps that go on with each other; `cut`: some begin anew in between."""
    draw = random.Random(seed)

    def ids(least: int, most: int) -> list[int]:
        return [draw.randrange(3, TOKENS) for _ in range(draw.randint(least, most))]

    episodes = []
    for k in range(number):
        steps = []
        for index in range(draw.randint(1, 5)):
            response = ids(1, 4)
            steps.append(
                a_step(
                    index,
                    prompt_ids=pack_int32(ids(1, 6)),
                    response_ids=pack_int32(response),
                    logprobs=pack_float32([-draw.random() * 4 for _ in response]),
                    versions=pack_int32([-1] * len(response)),
                    continues=index > 0 and not (cut and index == 2),
                    finish_reason=draw.choice(["stop", "length"]),
                )
            )
        episodes.append(an_episode(k, steps))
    return episodes


def rows_and_their_twins(seed: int = 0, *, cut: bool = False) -> tuple[list[Row], list[Row]]:
    """The rows of conversations, and the same turns with a copy of their past each."""
    episodes = played(6, seed, cut=cut)
    draw = random.Random(seed)
    advantages = [draw.choice([0.0, draw.gauss(0, 1)]) for episode in episodes for _ in episode.steps]
    rows = rows_of(episodes, scores(*advantages))
    return rows, [replace(row, turn=lone_turn(row.prompt_ids, row.response_ids)) for row in rows]


def test_a_row_sees_everything_that_was_said_before_it() -> None:
    (episode,) = [one for one in played(9, cut=True) if len(one.steps) == 5][:1]
    rows = rows_of([episode], scores(*[1.0] * 5))
    past: tuple[int, ...] = ()
    for index, (row, step) in enumerate(zip(rows, episode.steps, strict=True)):
        past = past if index != 2 else ()
        past += tuple(memoryview(step.prompt_ids).cast("i"))
        assert row.prompt_ids == past
        assert row.response_ids == tuple(memoryview(step.response_ids).cast("i"))
        past += row.response_ids
    assert rows[0].turn.ids is rows[1].turn.ids is not rows[2].turn.ids is rows[4].turn.ids
    assert supervised_turns([episode]) == [row.turn for row in rows]


def test_an_episode_cannot_go_on_with_another_one() -> None:
    episodes = [an_episode(0, [a_step(0)]), an_episode(1, [a_step(0, continues=True)])]
    with pytest.raises(RowsError, match="want a first step that begins a conversation"):
        rows_of(episodes, scores(0.5, 0.5))


@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_log_probabilities_are_those_of_each_turn_alone(tmp_path: Path, budget: int) -> None:
    rows, twins = rows_and_their_twins(cut=True)
    scorer = Scorer(load_policy(scratch_folder(tmp_path / "base")), temperature=0.8, token_budget=budget)
    got, _ = scorer.constants(TokenRows([row.turn for row in rows]))
    with torch.no_grad():
        assert_close(got, naive_logprobs(scorer.model, twins, 0.8), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_conversation_gives_the_gradient_of_as_many_rows_that_share_their_past(tmp_path: Path, name: str) -> None:
    rows, twins = rows_and_their_twins(seed=7, cut=True)
    spec = job_spec(minibatches=1, **LOSSES[name])
    learner = Learner(spec, scratch_folder(tmp_path / "base"))
    scorer, loss = learner._scorer, loss_config(spec)
    gradients, measured = [], []
    for given in (rows, twins):
        everything = columns_of(given, scorer, "value" if spec.algorithm.top_entropy_quantile < 1 else "skip")
        columns = everything.select(everything.teaching(loss))
        assert 0 < len(columns.advantage) < len(rows) or name == "real"
        moved = torch.rand(columns.old.shape, generator=torch.Generator().manual_seed(3)) / 10
        columns = replace(columns, old=columns.old - moved)
        measured.append(accumulate_gradient(scorer, columns, loss, token_mask(spec)))
        gradients.append({key: weight.grad.clone() for key, weight in learner.model.named_parameters()})
        learner.model.zero_grad()
    assert measured[0] == pytest.approx(measured[1], abs=1e-6)
    for key, gradient in gradients[0].items():
        assert_close(gradient, gradients[1][key], atol=1e-6, rtol=1e-5)
    assert max(float(gradient.abs().max()) for gradient in gradients[0].values()) > 1e-3


def test_a_batch_of_conversations_is_trained_like_its_turns(tmp_path: Path) -> None:
    """One minibatch: with several, a conversation lies in one of them as a whole."""
    rows, twins = rows_and_their_twins(seed=2)
    learners = [Learner(job_spec(minibatches=1, beta=0.1), scratch_folder(tmp_path / "base")) for _ in range(2)]
    one, other = (learner.train_batch(given, 0) for learner, given in zip(learners, (rows, twins), strict=True))
    assert one == pytest.approx(other, abs=1e-5)
    assert one["unique_rows_share"] == 1.0
    for left, right in zip(*(weights_of(learner.model).values() for learner in learners), strict=True):
        assert_close(left, right, atol=2e-5, rtol=0)


def test_a_conversation_lies_in_one_minibatch(tmp_path: Path) -> None:
    rows, _ = rows_and_their_twins(seed=5)
    learner = Learner(job_spec(minibatches=3), scratch_folder(tmp_path / "base"))
    seen: list[set[int]] = []
    gradient = learner._gradient

    def watched(columns: Columns, loss: LossConfig) -> dict[str, float]:
        seen.append({id(turn.ids) for turn in columns.rows.turns})
        return gradient(columns, loss)

    learner._gradient = watched  # type: ignore[method-assign]
    learner.train_batch(rows, 0)
    assert len(seen) == 3
    assert sum(map(len, seen)) == len(set.union(*seen))
