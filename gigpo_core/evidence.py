"""The step level by actions: what a state's returns say of an action, and how far that can be believed."""

from __future__ import annotations

import torch
from torch import Tensor

from gigpo_core.anchors import Grouping, exact_step_groups
from gigpo_core.relative import centred, deviation, group_mean


def action_groups(states: Grouping, action_key: Tensor) -> Grouping:
    """Return the rows of one step group that executed the same action, as neighbours.

    Args:
        states: the step groups of N rows.
        action_key: int64 [N, 2], in the order of the rows that `states` groups.
    """
    return exact_step_groups(states.restore(states.groups.segment), action_key)


def action_advantage(score: Tensor, states: Grouping, actions: Grouping, shrinkage: float) -> Tensor:
    """Return what the action of each row is worth beside its state: float64 [N], unit of the scores.

    m~(s, u) - m(s), with m~ = (n_u G_u + kappa m_s) / (n_u + kappa): G_u is the mean score of the n_u rows that
    executed u in s, m_s that of all rows of s. So it is n_u / (n_u + kappa) (G_u - m_s), and 0 where all scores are
    equal or one action alone was executed. Source: ECPO (arXiv:2606.05885); with kappa = 0 the action side of BiPACE
    (arXiv:2606.25556), Q(s, u) - V(s).

    Args:
        score: float64 [N].
        states: the step groups of the rows.
        actions: the same, split by action.
        shrinkage: kappa >= 0: how many rows of the state's mean an action's own rows are weighed against.
    """
    beside = states.restore(centred(states.arrange(score), states.groups))
    count = actions.groups.count.to(score.dtype)
    share = count / (count + shrinkage)
    return actions.restore(actions.groups.broadcast(share * group_mean(actions.arrange(beside), actions.groups)))


def evidence_weight(score: Tensor, states: Grouping, actions: Grouping, *, scale: float, epsilon: float) -> Tensor:
    """Return how far the returns of each row's state tell its actions apart: float64 [N], in [0, 1).

    rho(s) = tanh(n_s / tau) B / (B + W + epsilon): n_s rows of s; B is the variance of their actions' means, one vote a
    row, W the mean variance within an action, so that B + W is the (population) variance of the state's scores. Source:
    ECPO (arXiv:2606.05885).

    Args:
        score: float64 [N].
        states: the step groups of the rows.
        actions: the same, split by action.
        scale: tau > 0, rows.
        epsilon: > 0, squared unit of the scores.
    """
    beside = states.restore(centred(states.arrange(score), states.groups))
    inside = actions.restore(centred(actions.arrange(beside), actions.groups))
    count = states.groups.count.to(score.dtype)

    def spread(values: Tensor) -> Tensor:
        arranged = states.arrange(values)
        return states.groups.sum(arranged * arranged) / count

    between, within = spread(beside - inside), spread(inside)
    weight = torch.tanh(count / scale) * between / (between + within + epsilon)
    return states.restore(states.groups.broadcast(weight))


def over_deviation(values: Tensor, score: Tensor, states: Grouping, epsilon: float) -> Tensor:
    """Divide each value by the sample deviation of its state's scores + epsilon: float64 [N].

    Args:
        values: float64 [N].
        score: float64 [N].
        states: the step groups of the rows.
        epsilon: > 0, unit of the scores.
    """
    spread = deviation(centred(states.arrange(score), states.groups), states.groups)
    return values / states.restore(states.groups.broadcast(spread + epsilon))
