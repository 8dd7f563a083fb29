"""Batches that several tests are about."""

import torch
from hypothesis import settings
from hypothesis import strategies as st

from gigpo_core import AdvantageConfig, StepBatch, TokenBatch, anchor_keys, batch_totals

ESTIMATORS = ["grpo", "rloo", "reinforce_plus_plus", "gigpo", "hgpo", "graphgpo", "gagpo", "g2po"]
FEW = settings(max_examples=60, deadline=None)


def made_tokens(seed=0, lengths=(3, 1, 5, 2, 4), **columns):
    made = torch.Generator().manual_seed(seed)
    token_row = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    size = len(token_row)

    def draw(scale=0.3):
        return torch.randn(size, generator=made, dtype=torch.float64) * scale

    old = -draw(1.0).abs()
    return TokenBatch(
        log_prob=(old + draw()).requires_grad_(),
        old_log_prob=old,
        token_row=token_row,
        advantage=torch.randn(len(lengths), generator=made, dtype=torch.float64),
        rollout_log_prob=old + draw(),
        reference_log_prob=old + draw(),
        entropy=draw().abs(),
        **columns,
    )


def part_of(tokens, rows):
    rows = torch.as_tensor(rows)
    chosen = torch.isin(tokens.token_row, rows)
    place = torch.full((tokens.rows,), -1).index_copy(0, rows, torch.arange(len(rows)))

    def cut(column):
        return None if column is None else column[chosen]

    return TokenBatch(
        log_prob=tokens.log_prob[chosen],
        old_log_prob=tokens.old_log_prob[chosen],
        token_row=place[tokens.token_row[chosen]],
        advantage=tokens.advantage[rows],
        rollout_log_prob=cut(tokens.rollout_log_prob),
        reference_log_prob=cut(tokens.reference_log_prob),
        entropy=cut(tokens.entropy),
        counted=cut(tokens.counted),
        token_weight=cut(tokens.token_weight),
        row_group=None if tokens.row_group is None else tokens.row_group[rows],
    )


def whole(tokens):
    return batch_totals(tokens.token_row, tokens.rows, tokens.counted, tokens.row_group)


def episodes_of(*episodes, group=None, **columns):
    """A batch from episodes written as [(anchor, reward), ...]; all in group 0 unless told otherwise."""
    rows = [(e, t, anchor, reward) for e, steps in enumerate(episodes) for t, (anchor, reward) in enumerate(steps)]
    group = [0] * len(episodes) if group is None else group
    texts = [anchor for _, _, anchor, _ in rows]
    return StepBatch(
        group_id=torch.tensor([group[e] for e, *_ in rows], dtype=torch.int64),
        episode_id=torch.tensor([e for e, *_ in rows], dtype=torch.int64),
        step_index=torch.tensor([t for _, t, *_ in rows], dtype=torch.int64),
        anchor_key=anchor_keys(texts),
        reward=torch.tensor([reward for *_, reward in rows], dtype=torch.float64),
        anchor_text=texts,
        **columns,
    )


def assert_values(got, *values):
    torch.testing.assert_close(got, torch.tensor(values, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@st.composite
def batches(draw):
    """Up to 4 groups of up to 4 episodes of up to 6 steps; few anchors and rewards, so that both recur."""
    lengths = draw(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4))
    rows = [
        (group, 10 * group + episode, step)
        for group, episodes in enumerate(lengths)
        for episode, length in enumerate(episodes)
        for step in range(length)
    ]
    size = len(rows)
    anchor = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    reward = draw(st.lists(st.sampled_from([0.0, 0.0, 0.1, 1.0, -3.0, 10.0]), min_size=size, max_size=size))
    valid = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    action = torch.tensor(draw(st.lists(st.integers(0, 2), min_size=size, max_size=size)))
    order = draw(st.permutations(range(size)))
    group, episode, step = torch.tensor(rows).unbind(1)
    key = torch.tensor(anchor)
    columns = (group, episode, step, torch.stack([key, key * 7], 1), torch.tensor(reward, dtype=torch.float64))
    flags = {"action_valid": torch.tensor(valid)[order], "action_key": torch.stack([action, action + 9], 1)[order]}
    return StepBatch(*(column[order] for column in columns), **flags)


def configs():
    evidence = st.fixed_dictionaries(
        {}, optional={"step_shrinkage": st.sampled_from([0.0, 2.0]), "step_variance_gate": st.just(3.0)}
    )
    return st.builds(
        lambda evidence, **settings: AdvantageConfig(**settings, **evidence),
        evidence,
        advantage_estimator=st.sampled_from(ESTIMATORS),
        gamma=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
        norm=st.sampled_from(["mean", "mean_std"]),
        episode_statistics=st.sampled_from(["per_episode", "per_step"]),
        invalid_action_penalty=st.sampled_from([0.0, 0.1]),
        hgpo_base_group=st.booleans(),
    )


def changed(batch, **columns):
    return StepBatch(**(vars(batch) | columns))


def taken(batch, rows):
    names = ("group_id", "episode_id", "step_index", "anchor_key", "reward", "action_valid", "action_key")
    return StepBatch(**{name: getattr(batch, name)[rows] for name in names})
