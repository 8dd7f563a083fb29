"""GraphGPO: step values from the distance to success in the graph of observed transitions."""

from __future__ import annotations

import torch
from torch import Tensor

from gigpo_core.anchors import Grouping
from gigpo_core.batch import OrderedSteps
from gigpo_core.levels import Comparison, Levels, episode_level, step_level, summed


def graphgpo(comparison: Comparison) -> Levels:
    """GraphGPO: the step level compares how near to success the states are that steps led to."""
    config = comparison.config
    values = transition_values(comparison.steps, comparison.states, comparison.succeeded, discount=config.gamma)
    score = comparison.penalised(values * config.graphgpo_success_reward)
    return summed(episode_level(comparison), step_level(score, comparison), comparison)


def transition_values(steps: OrderedSteps, anchors: Grouping, succeeded: Tensor, *, discount: float) -> Tensor:
    """Return gamma^d(s') of each step: how near to success the state is that it led to.

    All episodes of a group make one graph: anchors are nodes, observed steps are edges of length 1,
    and the last step of a successful episode leads to the goal. d is the shortest distance to the
    goal; a state from which no observed path reaches it counts as one step farther than the farthest
    that does, and so does the unknown state after the last step of a failed episode. Source: GraphGPO
    (arXiv:2605.26684). There the exponent is d(s') + 1, and a success reward stands in front; with
    d(s') the last step has value 1, and a shortest path gets GiGPO's returns for a final reward of 1.

    Args:
        steps: the canonical rows.
        anchors: the step groups: one node each.
        succeeded: bool [E], canonical order of episodes.
        discount: gamma in [0, 1].

    Returns:
        float64 [N], in [0, 1]; all alike in a group without any success.
    """
    node = anchors.restore(anchors.groups.segment)
    last = steps.position == steps.episodes.broadcast(steps.episodes.count) - 1
    reaches_goal = last & steps.episodes.broadcast(succeeded)
    onward = ~last
    following = torch.cat([node[1:], node[:1]])  # of a last step never read
    distance = _distances(node, following, onward, reaches_goal, nodes=len(anchors.groups.count))
    ahead = torch.where(reaches_goal, 0.0, torch.where(onward, distance.index_select(0, following), torch.inf))
    steps_left = _replace_unreachable(ahead, distance, node, steps)
    return torch.pow(torch.full_like(steps_left, discount), steps_left)


def _distances(node: Tensor, following: Tensor, onward: Tensor, reaches_goal: Tensor, *, nodes: int) -> Tensor:
    """Return float64 [nodes]: edges to the goal, inf where there is no way; Bellman-Ford over all groups at once."""
    distance = torch.full((nodes,), torch.inf, dtype=torch.float64, device=node.device)
    distance.scatter_reduce_(0, node, torch.where(reaches_goal, 1.0, distance.index_select(0, node)), "amin")
    while True:
        through = torch.where(onward, distance.index_select(0, following) + 1.0, torch.inf)
        shorter = distance.scatter_reduce(0, node, through, "amin")
        if torch.equal(shorter, distance):
            return distance
        distance = shorter


def _replace_unreachable(ahead: Tensor, distance: Tensor, node: Tensor, steps: OrderedSteps) -> Tensor:
    groups, index = torch.unique(steps.group_id, return_inverse=True)
    own = distance.index_select(0, node)
    finite = torch.where(own.isfinite(), own, 0.0)
    farthest = finite.new_zeros(len(groups)).scatter_reduce_(0, index, finite, "amax")
    return torch.where(ahead.isfinite(), ahead, farthest.index_select(0, index) + 1.0)
