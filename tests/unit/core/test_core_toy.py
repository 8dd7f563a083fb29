"""A policy that chooses when to stop, small enough to know its policy gradient exactly.

At each of up to three turns the policy stops with probability s_t or goes on; after the third turn
the episode is over. The return depends on the length alone. All combinations of K episodes are
enumerated, each as a group of its own with its probability, so the expected update of an estimator
is a finite sum and not a sample.
"""

from itertools import product

import pytest
import torch

from gigpo_core import AdvantageConfig, StepBatch, compute_advantages

EPISODES = 3


def length_probabilities(stop):
    go = [1 - s for s in stop]
    return [stop[0], go[0] * stop[1], go[0] * go[1]]


def score_terms(length, stop):
    """d log pi / d logit_t of each turn taken, for logits of stopping; the last turn has no choice."""
    return [(1 - stop[t]) if t + 1 == length else -stop[t] for t in range(min(length, 2))]


def exact_gradient(returns, stop):
    """Return dJ/dlogit_t by enumeration of single episodes."""
    gradient = [0.0, 0.0]
    for length, probability in zip((1, 2, 3), length_probabilities(stop), strict=True):
        for turn, term in enumerate(score_terms(length, stop)):
            gradient[turn] += probability * returns[length - 1] * term
    return gradient


def expected_update(returns, stop, config, anchor_of_turn):
    """Return E[sum of A dlogpi/dlogit_t] over all groups of three episodes, per episode, by column of A."""
    groups = list(product((1, 2, 3), repeat=EPISODES))
    rows = [
        (g, g * EPISODES + e, t, anchor_of_turn(t), returns[length - 1] if t + 1 == length else 0.0, length)
        for g, lengths in enumerate(groups)
        for e, length in enumerate(lengths)
        for t in range(length)
    ]
    group, episode, step, anchor, reward, length = zip(*rows, strict=True)
    batch = StepBatch(
        group_id=torch.tensor(group),
        episode_id=torch.tensor(episode),
        step_index=torch.tensor(step),
        anchor_key=torch.stack([torch.tensor(anchor), torch.zeros(len(rows), dtype=torch.int64)], 1),
        reward=torch.tensor(reward, dtype=torch.float64),
    )
    result = compute_advantages(batch, config)
    chance = length_probabilities(stop)
    update = {"episode_advantage": [0.0, 0.0], "step_advantage": [0.0, 0.0]}
    for name, per_turn in update.items():
        for i, value in enumerate(getattr(result, name).tolist()):
            if step[i] < 2:
                weight = 1.0
                for one in groups[group[i]]:
                    weight *= chance[one - 1]
                per_turn[step[i]] += weight * value * score_terms(length[i], stop)[step[i]] / EPISODES
    return update


@pytest.mark.parametrize("stop", [(0.5, 0.5), (0.2, 0.7)])
@pytest.mark.parametrize("returns", [(1.0, 0.0, 0.0), (0.0, 3.0, -1.0)])
@pytest.mark.parametrize(("estimator", "factor"), [("gigpo", 1 - 1 / EPISODES), ("rloo", 1.0)])
def test_the_episode_level_follows_the_exact_policy_gradient(stop, returns, estimator, factor):
    update = expected_update(returns, stop, AdvantageConfig(estimator), lambda turn: turn)["episode_advantage"]
    assert update == pytest.approx([factor * g for g in exact_gradient(returns, stop)], abs=1e-12)


@pytest.mark.parametrize("stop", [(0.5, 0.5), (0.2, 0.7)])
@pytest.mark.parametrize("returns", [(1.0, 0.0, 0.0), (0.0, 3.0, -1.0)])
def test_the_step_level_follows_the_exact_gradient_of_each_state(stop, returns):
    # A state met by n of K episodes keeps the share (n-1)/n of the signal; how many others meet it does
    # not depend on the action taken there, so the direction is exact and only the length is not.
    config = AdvantageConfig("gigpo", gamma=1.0)
    update = expected_update(returns, stop, config, lambda turn: turn)["step_advantage"]
    met = 1 - stop[0]
    others = [(1 - met) ** 2, 2 * met * (1 - met), met**2]
    kept = [1 - 1 / EPISODES, sum(p * (1 - 1 / (n + 1)) for n, p in enumerate(others))]
    assert update == pytest.approx([c * g for c, g in zip(kept, exact_gradient(returns, stop), strict=True)], abs=1e-12)


@pytest.mark.parametrize("anchor_of_turn", [lambda turn: turn, lambda turn: 0])
@pytest.mark.parametrize("statistics", ["per_episode", "per_step"])
@pytest.mark.parametrize("norm", ["mean", "mean_std"])
def test_lengths_do_not_drift_where_they_do_not_matter(anchor_of_turn, statistics, norm):
    config = AdvantageConfig("gigpo", gamma=1.0, episode_statistics=statistics, norm=norm)
    update = expected_update((2.0, 2.0, 2.0), (0.3, 0.6), config, anchor_of_turn)
    assert update == {"episode_advantage": [0.0, 0.0], "step_advantage": [0.0, 0.0]}


def test_one_logit_for_all_turns_drifts_under_a_baseline_per_turn_but_not_under_the_episode_level():
    # Stopping at once or never pays, in the middle not: at s = 1/2 the gradient of a shared logit is 0.
    returns, stop = (1.0, 0.0, 1.0), (0.5, 0.5)
    assert sum(exact_gradient(returns, stop)) == 0.0
    config = AdvantageConfig("gigpo", gamma=1.0)
    update = expected_update(returns, stop, config, lambda turn: turn)
    assert sum(update["episode_advantage"]) == pytest.approx(0.0, abs=1e-15)
    # With the turn as the only state, fewer episodes reach later turns, so those weigh less: a drift to
    # earlier stops that the return does not ask for. It is why A^E stays in, and anchors are states.
    assert abs(sum(update["step_advantage"])) > 0.01


def test_votes_per_step_are_biased_where_the_length_matters():
    returns, stop = (1.0, 0.0, 0.0), (0.5, 0.5)
    exact = exact_gradient(returns, stop)
    voted = expected_update(returns, stop, AdvantageConfig("gigpo", episode_statistics="per_step"), lambda turn: turn)
    ratios = [u / g for u, g in zip(voted["episode_advantage"], exact, strict=True) if g]
    assert ratios != pytest.approx([1 - 1 / EPISODES] * len(ratios), rel=1e-3)
