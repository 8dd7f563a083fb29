"""A task as a table: every reachable state of it, a policy on it, its exact advantages, and sampled groups."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from gigpo.env.environment import Environment, Observation
from gigpo_core import StepBatch, action_digest, anchor_keys


@dataclass(frozen=True)
class Task:
    """S states and U actions of one task; state 0 is its beginning."""

    following: Tensor
    """int64 [S, U]: the state that an action leads to."""
    reward: Tensor
    """float64 [S, U]."""
    over: Tensor
    """bool [S, U]: the action ends the episode."""
    admissible: Tensor
    """bool [S, U]."""
    anchor_key: Tensor
    """int64 [S, 2]."""
    action_key: Tensor
    """int64 [U, 2]."""
    horizon: int


def explored(environment: Environment, seed: int) -> Task:
    """Every state that can be reached from the beginning of a task of the training split, by the environment's own
    steps. States that are told in different words are different: an anchor is made of the words."""
    first = environment.reset(seed, "train")
    states, shown, paths = {_identity(environment, first): 0}, [first], [list[str]()]
    actions: dict[str, int] = {}
    edges: list[tuple[int, int, int, float, bool]] = []
    border = deque([0])
    while border:
        here = border.popleft()
        for action in shown[here].admissible_actions:
            environment.reset(seed, "train")
            for earlier in paths[here]:
                environment.step(earlier)
            outcome = environment.step(action)
            there = states.setdefault(_identity(environment, outcome.observation), len(states))
            if there == len(shown):
                shown.append(outcome.observation)
                paths.append([*paths[here], action])
                if not outcome.terminated:
                    border.append(there)
            used = actions.setdefault(action, len(actions))
            edges.append((here, used, there, outcome.reward, outcome.terminated))
    size = (len(states), len(actions))
    following, reward = torch.zeros(size, dtype=torch.int64), torch.zeros(size, dtype=torch.float64)
    over, admissible = torch.zeros(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
    for here, used, there, paid, ended in edges:
        following[here, used], reward[here, used], over[here, used] = there, paid, ended
        admissible[here, used] = True
    digests = bytearray(b"".join(action_digest(action) for action in actions))
    return Task(
        *(following, reward, over, admissible),
        anchor_key=anchor_keys([one.anchor or one.text for one in shown]),
        action_key=torch.frombuffer(digests, dtype=torch.int64).view(-1, 2),
        horizon=environment.kwargs.max_turns,
    )


def policy(task: Task, skill: float) -> Tensor:
    """float64 [S, U]: with probability `skill` one of the quickest actions, else any admissible one."""
    chance = _evenly(task.admissible)
    value = torch.zeros(len(chance), dtype=torch.float64)
    for _ in range(4 * task.horizon):
        best = _ahead(task, value, 0.95).masked_fill(~task.admissible, -torch.inf)
        value = torch.where(task.admissible.any(1), best.max(1).values, 0.0)
    quickest = (best >= best.max(1, keepdim=True).values - 1e-12) & task.admissible
    return skill * _evenly(quickest) + (1 - skill) * chance


def true_advantages(task: Task, chance: Tensor, noise: float) -> Tensor:
    """float64 [T, S, U]: Q_t(s, a) - V_t(s) of the undiscounted return up to the horizon, by dynamic programming.

    Args:
        chance: the policy, [S, U].
        noise: probability that another admissible action, drawn evenly, takes the place of the chosen one.
    """
    evenly = _evenly(task.admissible)
    value = torch.zeros(len(chance), dtype=torch.float64)
    found = []
    for _ in range(task.horizon):
        ahead = _ahead(task, value, 1.0)
        worth = (1 - noise) * ahead + noise * (evenly * ahead).sum(1, keepdim=True)
        value = (chance * worth).sum(1)
        found.append(worth - value[:, None])
    return torch.stack(found[::-1])


def sampled(
    task: Task, chance: Tensor, noise: float, groups: int, episodes: int, generator: torch.Generator
) -> tuple[StepBatch, Tensor, Tensor]:
    """Play groups of episodes; the rows, and of each row its state and chosen action, int64 [N] each."""
    players = groups * episodes
    evenly = _evenly(task.admissible)
    state = torch.zeros(players, dtype=torch.int64)
    alive = torch.arange(players)
    parts: list[tuple[Tensor, ...]] = []
    for step in range(task.horizon):
        here = state[alive]
        chosen = torch.multinomial(chance[here], 1, generator=generator)[:, 0]
        slipped = torch.rand(len(alive), generator=generator) < noise
        other = torch.multinomial(evenly[here], 1, generator=generator)[:, 0]
        done = torch.where(slipped, other, chosen)
        parts.append((alive, torch.full_like(alive, step), here, chosen, task.reward[here, done]))
        state[alive] = task.following[here, done]
        alive = alive[~task.over[here, done]]
        if not len(alive):
            break
    player, index, here, chosen, reward = (torch.cat(column) for column in zip(*parts, strict=True))
    batch = StepBatch(
        group_id=player // episodes,
        episode_id=player,
        step_index=index,
        anchor_key=task.anchor_key[here],
        reward=reward,
        success=reward > 0,
        action_key=task.action_key[chosen],
    )
    return batch, here, chosen


def _identity(environment: Environment, observation: Observation) -> str:
    return repr((environment.state(), observation.text))


def _evenly(which: Tensor) -> Tensor:
    """float64 [S, U]: one chance shared by these actions of a state."""
    return which.double() / which.sum(1, keepdim=True).clamp(min=1)


def _ahead(task: Task, value: Tensor, discount: float) -> Tensor:
    return task.reward + discount * torch.where(task.over, 0.0, value[task.following])
