"""The step estimators of 2026: by hand, and against plain loops over dictionaries."""

import math
from collections import defaultdict

import pytest
import torch
from core_samples import FEW, assert_values, batches, changed, episodes_of
from hypothesis import given
from hypothesis import strategies as st

from gigpo_core import AdvantageConfig, ConfigError, anchor_keys, compute_advantages

GAMMAS = st.sampled_from([0.0, 0.5, 0.95, 1.0])
NORMS = st.sampled_from(["mean", "mean_std"])


def computed(batch, estimator, **settings):
    return compute_advantages(batch, AdvantageConfig(estimator, **settings))


def acted(batch, *actions):
    return changed(batch, action_key=anchor_keys(actions))


class Rows:
    """A batch as lists, and what the loops below need of it."""

    def __init__(self, batch, penalty=0.0):
        self.rows = range(len(batch.reward))
        self.group, self.episode, self.step = (
            column.tolist() for column in (batch.group_id, batch.episode_id, batch.step_index)
        )
        self.state = [(g, *key) for g, key in zip(self.group, batch.anchor_key.tolist(), strict=True)]
        self.reward = batch.reward.tolist()
        self.cost = [0.0 if valid else penalty for valid in batch.action_valid.tolist()]
        self.at = {(self.episode[i], self.step[i]): i for i in self.rows}
        self.length = {e: 1 + max(s for other, s in self.at if other == e) for e in set(self.episode)}
        self.action = [(state, *key) for state, key in zip(self.state, batch.action_key.tolist(), strict=True)]

    def following(self, i):
        return self.at.get((self.episode[i], self.step[i] + 1))

    def rest(self, i, gamma):
        after = self.following(i)
        return self.reward[i] + (0.0 if after is None else gamma * self.rest(after, gamma))

    def total(self, e):
        return sum(self.reward[self.at[e, t]] for t in range(self.length[e]))

    def means(self, names, values):
        found = defaultdict(list)
        for name, value in zip(names, values, strict=True):
            found[name].append(value)
        return {name: sum(members) / len(members) for name, members in found.items()}

    def relative(self, names, values, config):
        mean, members = self.means(names, values), defaultdict(list)
        for name, value in zip(names, values, strict=True):
            members[name].append(value - mean[name])
        spread = {n: math.sqrt(sum(v * v for v in vs) / max(len(vs) - 1, 1)) for n, vs in members.items()}
        scale = {n: 1.0 if config.norm == "mean" else spread[n] + config.epsilon for n in members}
        return [(value - mean[name]) / scale[name] for name, value in zip(names, values, strict=True)]

    def episode_level(self, config):
        episodes = sorted(self.length)
        home = [self.group[self.at[e, 0]] for e in episodes]
        found = self.relative(home, [self.total(e) for e in episodes], config)
        level = dict(zip(episodes, found, strict=True))
        return [level[e] for e in self.episode]


def gagpo_by_loops(batch, config):
    rows, gamma = Rows(batch, config.invalid_action_penalty), config.gamma
    value = rows.means(rows.state, [rows.rest(i, gamma) for i in rows.rows])

    def temporal(i):
        after = rows.following(i)
        if after is None:
            return rows.reward[i] - value[rows.state[i]]
        delta = rows.reward[i] + gamma * value[rows.state[after]] - value[rows.state[i]]
        return delta + gamma * config.gae_lambda * temporal(after)

    return rows.relative(rows.group, [temporal(i) - rows.cost[i] for i in rows.rows], config)


def g2po_by_loops(batch, config):
    rows, gamma = Rows(batch, config.invalid_action_penalty), config.gamma
    visits = [gamma ** (rows.length[rows.episode[i]] - rows.step[i]) * rows.total(rows.episode[i]) for i in rows.rows]
    value = rows.means(rows.state, visits)

    def ahead(i):
        after = rows.following(i)
        return max(rows.total(rows.episode[i]), 0.0) if after is None else value[rows.state[after]]

    led = rows.relative(rows.state, [ahead(i) - rows.cost[i] for i in rows.rows], config)
    gain = rows.relative(rows.group, [ahead(i) - value[rows.state[i]] for i in rows.rows], config)
    level = rows.episode_level(config)
    return [level[i] + config.gigpo_step_advantage_weight * (led[i] + gain[i]) for i in rows.rows]


def evidence_by_loops(batch, config):
    rows = Rows(batch, config.invalid_action_penalty)
    score = [rows.rest(i, config.gamma) - rows.cost[i] for i in rows.rows]
    mean, own = rows.means(rows.state, score), rows.means(rows.action, score)
    plain = rows.relative(rows.state, score, config)
    out = []
    for i in rows.rows:
        state, action = rows.state[i], rows.action[i]
        here = [j for j in rows.rows if rows.state[j] == state]
        alike = sum(rows.action[j] == action for j in here)
        step = plain[i]
        if config.step_shrinkage is not None:
            kappa = config.step_shrinkage
            shrunken = (alike * own[action] + kappa * mean[state]) / (alike + kappa)
            spread = math.sqrt(sum((score[j] - mean[state]) ** 2 for j in here) / max(len(here) - 1, 1))
            step = (shrunken - mean[state]) / (1.0 if config.norm == "mean" else spread + config.epsilon)
        if config.step_variance_gate is not None:
            between = sum((own[rows.action[j]] - mean[state]) ** 2 for j in here) / len(here)
            within = sum((score[j] - own[rows.action[j]]) ** 2 for j in here) / len(here)
            step *= math.tanh(len(here) / config.step_variance_gate) * between / (between + within + config.epsilon)
        out.append(step)
    return out


def close(got, wanted):
    torch.testing.assert_close(got, torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@FEW
@given(batches(), GAMMAS, NORMS, st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.sampled_from([0.0, 0.1]))
def test_gagpo_equals_plain_loops(batch, gamma, norm, trace, penalty):
    config = AdvantageConfig("gagpo", gamma=gamma, norm=norm, gae_lambda=trace, invalid_action_penalty=penalty)
    close(compute_advantages(batch, config).advantage, gagpo_by_loops(batch, config))


@FEW
@given(batches(), GAMMAS, st.sampled_from([0.0, 0.1]))
def test_g2po_equals_plain_loops(batch, gamma, penalty):
    config = AdvantageConfig("g2po", gamma=gamma, gigpo_step_advantage_weight=0.5, invalid_action_penalty=penalty)
    wanted = torch.tensor(g2po_by_loops(batch, config), dtype=torch.float64)
    found = compute_advantages(batch, config)
    # the penalty of the episode level has tests of its own
    torch.testing.assert_close(
        found.advantage - found.episode_advantage,
        wanted - torch.tensor(Rows(batch).episode_level(config), dtype=torch.float64),
        rtol=1e-9,
        atol=1e-9,
    )


@FEW
@given(
    batches(), GAMMAS, NORMS, st.sampled_from([None, 0.0, 1.5]), st.sampled_from([None, 2.0]), st.sampled_from([0, 0.1])
)
def test_the_step_level_by_evidence_equals_plain_loops(batch, gamma, norm, shrinkage, gate, penalty):
    settings = {"step_shrinkage": shrinkage, "step_variance_gate": gate, "invalid_action_penalty": penalty}
    config = AdvantageConfig("gigpo", gamma=gamma, norm=norm, **settings)
    close(compute_advantages(batch, config).step_advantage, evidence_by_loops(batch, config))


def test_gagpo_by_hand():
    # V(s) = (0.25 + 0) / 2, V(a) = (0.5 + 0) / 2, V(b) = 0 ... with gamma 0.5 and a reward of 1 at the end.
    batch = episodes_of([("s", 0), ("a", 1)], [("s", 0), ("b", 0)], [("a", 0)])
    value_s, value_a = (0.5 + 0.0) / 2, (1.0 + 0.0) / 2
    deltas = [0.5 * value_a - value_s, 1 - value_a, 0 - value_s, 0.0, 0 - value_a]
    found = computed(batch, "gagpo", gamma=0.5, gae_lambda=0.4)
    temporal = [deltas[0] + 0.2 * deltas[1], *deltas[1:]]
    mean = sum(temporal) / 5
    assert_values(found.advantage, *(one - mean for one in temporal))
    assert not found.episode_advantage.any()
    assert torch.equal(found.step_advantage, found.advantage)


def test_with_lambda_1_gagpo_is_the_return_less_the_value_of_the_state():
    batch = episodes_of([("s", 1), ("a", 0), ("s", 3)], [("s", 0), ("a", 5)])
    gigpo = computed(batch, "gigpo", gamma=0.9).step_advantage
    assert_values(computed(batch, "gagpo", gamma=0.9, gae_lambda=1.0).advantage, *(gigpo - gigpo.mean()).tolist())


def test_a_penalty_costs_its_own_step_alone_under_gagpo():
    batch = episodes_of([("s", 0), ("a", 1)], [("s", 0), ("a", 0)])
    fined = changed(batch, action_valid=torch.tensor([True, False, True, True]))
    plain, penalised = (computed(one, "gagpo", invalid_action_penalty=0.4).advantage for one in (batch, fined))
    assert_values(penalised - plain, 0.1, -0.3, 0.1, 0.1)


def test_g2po_by_hand():
    # L - t: 2 and 1 in the first episode, 1 in the others. The second one fails, the third one succeeds at once.
    batch = episodes_of([("s", 0), ("a", 8)], [("s", 0)], [("a", 8)])
    value_s, value_a = (0.25 * 8 + 0) / 2, (0.5 * 8 + 0.5 * 8) / 2
    ahead, here = [value_a, 8.0, 0.0, 8.0], [value_s, value_a, value_s, value_a]
    gain = [one - other for one, other in zip(ahead, here, strict=True)]
    led = [ahead[0] - (ahead[0] + ahead[2]) / 2, 0.0, ahead[2] - (ahead[0] + ahead[2]) / 2, 0.0]
    wanted = [led[i] + gain[i] - sum(gain) / 4 for i in range(4)]
    assert_values(computed(batch, "g2po", gamma=0.5).step_advantage, *wanted)


def test_g2po_takes_success_from_the_batch_where_it_is_given():
    batch = episodes_of([("s", 1)], [("s", 1)], success=torch.tensor([True, False]))
    assert_values(computed(batch, "g2po", gamma=0.5).step_advantage, 1.0, -1.0)


def test_actions_are_compared_by_their_means():
    batch = acted(episodes_of(*([("s", reward)] for reward in (1, 0, 0, 3))), "go", "go", "stay", "stay")
    found = computed(batch, "gigpo", step_shrinkage=0.0)
    assert_values(found.step_advantage, -0.5, -0.5, 0.5, 0.5)
    half = computed(batch, "gigpo", step_shrinkage=2.0)
    assert_values(half.step_advantage, -0.25, -0.25, 0.25, 0.25)


def test_a_lucky_single_action_is_shrunk_more_than_one_that_was_seen_often():
    batch = acted(episodes_of(*([("s", reward)] for reward in (4, 1, 1, 1, 0, 0))), "x", "y", "y", "y", "z", "z")
    plain, shrunk = (computed(batch, "gigpo", step_shrinkage=kappa).step_advantage for kappa in (0.0, 3.0))
    assert_values(shrunk / plain, 1 / 4, 3 / 6, 3 / 6, 3 / 6, 2 / 5, 2 / 5)


def test_the_gate_closes_where_actions_explain_nothing_and_opens_where_they_explain_all():
    rewards = (0, 2, 0, 2)
    noise = acted(episodes_of(*([("s", reward)] for reward in rewards)), "a", "a", "b", "b")
    clear = acted(episodes_of(*([("s", reward)] for reward in rewards)), "a", "b", "a", "b")
    assert_values(computed(noise, "gigpo", step_variance_gate=2.0).step_advantage, 0, 0, 0, 0)
    opened = math.tanh(2.0) / (1 + 1e-6)
    assert_values(
        computed(clear, "gigpo", step_variance_gate=2.0).step_advantage, *(opened * s for s in (-1, 1, -1, 1))
    )


def test_one_action_in_two_states_is_two():
    batch = acted(episodes_of([("s", 1)], [("s", 0)], [("t", 9)]), "go", "stay", "go")
    assert_values(computed(batch, "gigpo", step_shrinkage=0.0).step_advantage, 0.5, -0.5, 0.0)


@pytest.mark.parametrize("option", ["step_shrinkage", "step_variance_gate"])
def test_without_actions_the_evidence_is_asked_for(option):
    with pytest.raises(ConfigError, match=f"{option}: the batch has no action_key"):
        computed(episodes_of([("s", 1)], [("s", 0)]), "gigpo", **{option: 1.0})


def test_a_value_that_is_no_more_than_rounding_is_no_advantage():
    # 0.1 + 0.2 and 0.3 along one path: nothing to learn, however the deviation is scaled
    batch = episodes_of([("s", 0.1), ("t", 0.2)], [("s", 0.1), ("t", 0.2 + 2**-54)], [("s", 0.1 + 2**-55), ("t", 0.2)])
    for estimator in ("gagpo", "g2po"):
        found = computed(batch, estimator, gamma=1.0, norm="mean_std").advantage
        assert float(found[0:6:2].sub(found[0]).abs().max()) < 1e-9
