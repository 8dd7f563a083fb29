"""The true advantages are true, and the measures say how near others are."""

from __future__ import annotations

import random
from statistics import fmean

import pytest
import torch

from benchmarks.estimators.measures import Cells, alignment
from benchmarks.estimators.tabular import Task, explored, policy, sampled, true_advantages
from gigpo_core import action_digest
from services.env.environments.alfworld.environment import Alfworld, AlfworldKwargs
from services.env.environments.grid import Grid, GridKwargs

CORNER = GridKwargs(goal="corner", size=(3,), walls=(0,), max_turns=5)


def by_recursion(task: Task, chance: torch.Tensor, noise: float, state: int, time: int) -> tuple[list[float], float]:
    """Q of each action and V, by trying everything out."""
    actions = [action for action in range(chance.shape[1]) if task.admissible[state, action]]
    plain = {}
    for action in actions:
        there, ended = int(task.following[state, action]), bool(task.over[state, action])
        more = 0.0 if ended or time + 1 == task.horizon else by_recursion(task, chance, noise, there, time + 1)[1]
        plain[action] = float(task.reward[state, action]) + more
    mean = sum(plain.values()) / len(plain)
    worth = [(1 - noise) * plain.get(action, 0.0) + noise * mean for action in range(chance.shape[1])]
    return worth, sum(float(chance[state, action]) * worth[action] for action in actions)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_true_advantages_are_those_of_trying_everything_out(noise: float) -> None:
    task = explored(Grid(CORNER), 1)
    chance = policy(task, 0.5)
    worth, value = by_recursion(task, chance, noise, 0, 0)
    allowed = task.admissible[0]
    wanted = torch.tensor(worth, dtype=torch.float64) - value
    torch.testing.assert_close(true_advantages(task, chance, noise)[0, 0][allowed], wanted[allowed])


def test_a_policy_is_a_distribution_over_what_is_admissible_and_grows_better_with_skill() -> None:
    task = explored(Grid(CORNER.model_copy(update={"max_turns": 12})), 0)
    acting = task.admissible.any(1)
    won = []
    for skill in (0.0, 0.5, 1.0):
        chance = policy(task, skill)
        assert not chance[~task.admissible].any()
        torch.testing.assert_close(chance.sum(1)[acting], torch.ones(int(acting.sum()), dtype=torch.float64))
        batch, _, _ = sampled(task, chance, 0.0, 20, 20, torch.Generator().manual_seed(0))
        won.append(float(batch.reward.sum()))
    assert won[0] < won[1] < won[2]


def number_of(task: Task, action: str) -> int:
    """The column of an action in the table."""
    key = torch.frombuffer(bytearray(action_digest(action)), dtype=torch.int64)
    return int((task.action_key == key).all(1).nonzero())


def played(house: Alfworld, path: list[str], rng: random.Random) -> float:
    """The return of an episode that begins with these actions and goes on with any."""
    outcome = None
    actions = house.reset(0, "train").admissible_actions
    for step in range(house.kwargs.max_turns):
        if outcome is None or not outcome.terminated:
            outcome = house.step(path[step] if step < len(path) else rng.choice(actions))
            actions = outcome.observation.admissible_actions
    assert outcome is not None
    return outcome.reward


def test_true_advantages_in_the_household_are_those_of_many_playouts_of_its_engine() -> None:
    house, rng, path = Alfworld(AlfworldKwargs(objects=1, max_turns=8)), random.Random(0), list[str]()
    task = explored(house, 0)
    truth, state = true_advantages(task, policy(task, 0.0), 0.0), 0
    actions = house.reset(0, "train").admissible_actions
    while True:
        found = [float(truth[len(path), state, number_of(task, action)]) for action in actions]
        if max(found) > 0.3:
            break
        path.append(actions[found.index(max(found))])
        state = int(task.following[state, number_of(task, path[-1])])
        actions = house.step(path[-1]).observation.admissible_actions
    worth = [fmean(played(house, [*path, action], rng) for _ in range(400)) for action in actions]
    assert [one - fmean(worth) for one in worth] == pytest.approx(found, abs=4 * (0.25 / 400) ** 0.5)


def test_states_of_the_household_that_are_told_alike_share_an_anchor_and_are_told_apart() -> None:
    task = explored(Alfworld(AlfworldKwargs(objects=1)), 0)
    told = {tuple(key) for key in task.anchor_key.tolist()}
    assert 1 < len(told) < len(task.anchor_key)


def test_sampled_rows_are_whole_episodes_of_the_environment() -> None:
    task = explored(Grid(CORNER), 2)
    batch, state, action = sampled(task, policy(task, 0.5), 0.1, 3, 4, torch.Generator().manual_seed(1))
    assert task.admissible[state, action].all()
    assert (state[batch.step_index == 0] == 0).all()
    assert batch.episode_id.unique().tolist() == list(range(12))
    assert (batch.group_id == batch.episode_id // 4).all()
    for episode in range(12):
        steps = batch.step_index[batch.episode_id == episode].tolist()
        assert steps == list(range(len(steps)))


def test_alignment_by_hand() -> None:
    truth = torch.tensor([1.0, -1.0, 2.0, 0.0], dtype=torch.float64)
    assert alignment(3 * truth, truth) == pytest.approx({"cosine": 1.0, "rank": 1.0, "sign": 1.0})
    assert alignment(-truth, truth) == pytest.approx({"cosine": -1.0, "rank": -1.0, "sign": 0.0})
    some = alignment(torch.tensor([1.0, 0.0, 0.0, 5.0], dtype=torch.float64), truth)
    assert some["sign"] == pytest.approx(1 / 3)
    assert some["cosine"] == pytest.approx(1 / (26 * 6) ** 0.5)


def test_bias_and_noise_by_hand() -> None:
    cells = Cells(torch.tensor([1.0, -1.0], dtype=torch.float64))
    for cell, values in ((0, [4.0, 0.0] * 50), (1, [-4.0, 0.0] * 50)):
        cells.add(torch.full((100,), cell), torch.tensor(values, dtype=torch.float64))
    bias, noise = cells.bias_and_noise()  # the mean is right but for a factor of 2
    assert bias == 0.0
    assert noise == pytest.approx((100 / 99) ** 0.5)
    wrong = Cells(torch.tensor([1.0, -1.0], dtype=torch.float64))
    wrong.add(torch.tensor([0, 1] * 50), torch.ones(100, dtype=torch.float64))
    assert wrong.bias_and_noise() == pytest.approx((1.0, 0.0))
