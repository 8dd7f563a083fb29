import torch
from core_samples import FEW, batches, changed, configs, taken
from hypothesis import given
from hypothesis import strategies as st

from gigpo_core import AdvantageConfig, compute_advantages


def same_partition(one, other):
    return torch.equal(one[:, None] == one[None, :], other[:, None] == other[None, :])


@FEW
@given(batches(), configs(), st.randoms())
def test_permuting_rows_permutes_the_results_bit_for_bit(batch, config, random):
    order = list(range(len(batch.reward)))
    random.shuffle(order)
    one, other = compute_advantages(batch, config), compute_advantages(taken(batch, order), config)
    for name in ("advantage", "episode_advantage", "step_advantage", "step_return"):
        assert torch.equal(getattr(one, name)[order], getattr(other, name))
    assert same_partition(one.step_group[order], other.step_group)


@FEW
@given(batches(), configs())
def test_a_group_gets_the_same_bits_alone_and_among_others(batch, config):
    if config.scale == "batch":
        return
    together = compute_advantages(batch, config)
    for group in batch.group_id.unique():
        rows = (batch.group_id == group).nonzero()[:, 0]
        alone = compute_advantages(taken(batch, rows), config)
        assert torch.equal(alone.advantage, together.advantage[rows])
        assert torch.equal(alone.step_return, together.step_return[rows])


@FEW
@given(batches(), st.sampled_from(["grpo", "rloo", "gigpo"]), st.sampled_from(["mean", "mean_std"]))
def test_a_constant_on_every_episode_of_a_group_changes_no_episode_advantage(batch, estimator, norm):
    config = AdvantageConfig(estimator, norm=norm)
    raised = torch.where(batch.step_index == 0, batch.reward + 7.0 * (batch.group_id + 1), batch.reward)
    one = compute_advantages(batch, config).episode_advantage
    other = compute_advantages(changed(batch, reward=raised), config).episode_advantage
    torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@FEW
@given(batches(), configs())
def test_groups_without_spread_get_exactly_zero(batch, config):
    level = changed(batch, reward=torch.full_like(batch.reward, 0.1), action_valid=None)
    single = batch.step_index == 0
    result = compute_advantages(taken(changed(level, action_valid=single), single.nonzero()[:, 0]), config)
    assert not result.advantage.any()
    silent = compute_advantages(changed(level, reward=torch.zeros_like(batch.reward)), config)
    assert not silent.episode_advantage.any()
    if config.advantage_estimator != "graphgpo":
        assert not silent.advantage.any()


@FEW
@given(batches(), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.1]))
def test_step_advantages_sum_to_zero_in_every_step_group(batch, gamma, penalty):
    config = AdvantageConfig("gigpo", gamma=gamma, norm="mean", invalid_action_penalty=penalty)
    result = compute_advantages(batch, config)
    sums = torch.zeros(int(result.step_group.max()) + 1, dtype=torch.float64)
    sums.index_add_(0, result.step_group, result.step_advantage)
    assert float(sums.abs().max()) < 1e-12


@FEW
@given(batches(), st.sampled_from(["mean", "mean_std"]), st.sampled_from(["per_episode", "per_step"]))
def test_without_the_step_level_gigpo_is_grpo(batch, norm, statistics):
    shared = {"norm": norm, "episode_statistics": statistics, "invalid_action_penalty": 0.1}
    one = compute_advantages(batch, AdvantageConfig("gigpo", gigpo_step_advantage_weight=0.0, **shared))
    other = compute_advantages(batch, AdvantageConfig("grpo", **shared))
    assert torch.equal(one.advantage, other.advantage)


@FEW
@given(batches())
def test_gamma_zero_is_the_reward_and_gamma_one_the_rest_of_the_episode(batch):
    now = compute_advantages(batch, AdvantageConfig("gigpo", gamma=0.0)).step_return
    assert torch.equal(now, batch.reward)
    rest = compute_advantages(batch, AdvantageConfig("gigpo", gamma=1.0)).step_return
    same = batch.episode_id[:, None] == batch.episode_id[None, :]
    later = batch.step_index[None, :] >= batch.step_index[:, None]
    torch.testing.assert_close(rest, ((same & later) * batch.reward).sum(1), rtol=1e-12, atol=1e-12)


@FEW
@given(batches(), configs())
def test_results_do_not_depend_on_what_ids_are_called(batch, config):
    renamed = changed(batch, group_id=5 * batch.group_id + 3, episode_id=2**40 + 3 * batch.episode_id)
    one, other = compute_advantages(batch, config), compute_advantages(renamed, config)
    assert torch.equal(one.advantage, other.advantage)
    assert torch.equal(one.step_group, other.step_group)


def by_dictionaries(batch, config):
    """GiGPO as the paper reads, row by row; exact arithmetic aside, an independent computation."""
    rows = list(range(len(batch.reward)))
    group, episode, step = batch.group_id.tolist(), batch.episode_id.tolist(), batch.step_index.tolist()
    key, reward = [tuple(pair) for pair in batch.anchor_key.tolist()], batch.reward.tolist()
    at = {(episode[i], step[i]): i for i in rows}
    length = {e: max(s for e2, s in at if e2 == e) + 1 for e in set(episode)}
    total = {e: sum(reward[at[e, t]] for t in range(length[e])) for e in length}

    def later(i):
        return sum(
            config.gamma ** (t - step[i]) * reward[at[episode[i], t]] for t in range(step[i], length[episode[i]])
        )

    def relative(value, values):
        if len(values) < 2 or max(values) - min(values) < 1e-12:
            return 0.0
        mean = sum(values) / len(values)
        spread = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
        return (value - mean) / (1.0 if config.norm == "mean" else spread + config.epsilon)

    out = []
    for i in rows:
        episodes = [total[e] for e in length if group[at[e, 0]] == group[i]]
        steps = [later(j) for j in rows if (group[j], key[j]) == (group[i], key[i])]
        out.append(
            relative(total[episode[i]], episodes) + config.gigpo_step_advantage_weight * relative(later(i), steps)
        )
    return torch.tensor(out, dtype=torch.float64)


@FEW
@given(batches(), st.sampled_from(["mean", "mean_std"]), st.sampled_from([0.0, 0.95, 1.0]), st.sampled_from([0.5, 1.0]))
def test_gigpo_equals_a_straightforward_implementation(batch, norm, gamma, weight):
    config = AdvantageConfig("gigpo", norm=norm, gamma=gamma, gigpo_step_advantage_weight=weight)
    torch.testing.assert_close(
        compute_advantages(batch, config).advantage, by_dictionaries(batch, config), rtol=1e-9, atol=1e-9
    )
