"""Diagnostics of the groups of a batch: by hand, and against plain counting."""

from collections import Counter
from itertools import pairwise

import pytest
import torch
from core_samples import FEW, batches, changed, configs, episodes_of, taken
from hypothesis import given

from gigpo_core import AdvantageConfig, ConfigError, ShapeError, anchor_keys, compute_advantages, group_diagnostics


def measured(batch, config, **bins):
    return group_diagnostics(batch, config, compute_advantages(batch, config), **bins)


def test_a_group_is_counted_by_its_step_groups():
    batch = episodes_of([("a", 0), ("b", 0), ("c", 1)], [("a", 0), ("b", 0)], [("a", 0), ("d", 0)], [("d", 0)])
    got = measured(batch, AdvantageConfig("gigpo", gamma=1.0, gigpo_step_advantage_weight=3.0))
    assert {name: column.tolist() for name, column in vars(got).items()} == {
        "group_id": [0],
        "steps": [8],
        "step_groups": [4],
        "step_group_largest": [3],
        "rows_by_size": [[1, 7, 0, 0, 0]],
        "shared_anchor_rows": [7],
        "useful_anchor_rows": [5],
        "aliased_anchor_rows": [0],
        "abs_episode_advantage_sum": [pytest.approx(3 * 0.75 + 5 * 0.25)],
        "abs_step_advantage_sum": [pytest.approx(3 * (2 / 3 + 1 / 3 + 1 / 3 + 1 / 2 + 1 / 2))],
        "return_spread": [1.0],
    }


def test_groups_stand_in_the_order_of_their_ids_and_a_group_of_one_episode_has_no_spread():
    batch = episodes_of([("a", 1)], [("a", 1)], [("a", 0)], [("b", 2)], [("a", 7)], group=[3, 3, 1, 1, 2])
    got = measured(batch, AdvantageConfig("gigpo"))
    assert got.group_id.tolist() == [1, 2, 3]
    assert got.return_spread.tolist() == [2.0, 0.0, 0.0]
    assert got.step_groups.tolist() == [2, 1, 1]


def test_nothing_has_no_groups():
    got = measured(episodes_of(), AdvantageConfig("gigpo"), bins=(1, 3))
    assert {tuple(column.shape) for column in vars(got).values()} == {(0,), (0, 2)}


def test_returns_that_differ_by_the_order_of_their_sums_alone_have_no_spread():
    forth, back = [("s", 0.1), ("s", 0.2), ("s", 0.3)], [("s", 0.3), ("s", 0.2), ("s", 0.1)]
    assert sum(reward for _, reward in forth) != sum(reward for _, reward in back)
    assert measured(episodes_of(forth, back), AdvantageConfig()).return_spread.tolist() == [0.0]
    further = [("s", 0.3), ("s", 0.2), ("s", 0.1 + 1e-12)]
    (spread,) = measured(episodes_of(forth, further), AdvantageConfig()).return_spread.tolist()
    assert spread == pytest.approx(1e-12, rel=1e-2)


def test_the_spread_is_that_of_what_steps_are_judged_by():
    components = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    batch = episodes_of([("s", 0)], [("s", 0)], reward_components=components)
    assert measured(batch, AdvantageConfig(reward_weights=(1.0, 1.0))).return_spread.tolist() == [0.0]
    assert measured(batch, AdvantageConfig(reward_weights=(1.0, 0.25))).return_spread.tolist() == [0.75]
    with pytest.raises(ConfigError, match="want 2"):
        group_diagnostics(batch, AdvantageConfig(reward_weights=(1.0,)), compute_advantages(batch, AdvantageConfig()))


def test_an_anchor_that_hides_different_states_is_aliased():
    batch = episodes_of(
        [("hall", 0), ("hall", 0), ("cellar", 0)], [("hall", 0), ("hall", 1), ("attic", 0)], group=[0, 1]
    )
    states = anchor_keys(["1", "2", "3", "4", "4", "5"])
    got = measured(changed(batch, state_key=states), AdvantageConfig("gigpo"))
    assert got.aliased_anchor_rows.tolist() == [2, 0]
    exact = measured(changed(batch, anchor_key=states, state_key=states), AdvantageConfig("gigpo"))
    assert exact.aliased_anchor_rows.tolist() == [0, 0]


def test_texts_that_are_similar_enough_are_aliased_where_their_states_differ():
    batch = episodes_of([("room 10", 0)], [("room 11", 1)], state_key=anchor_keys(["10", "11"]))
    assert measured(batch, AdvantageConfig("gigpo", anchor_similarity=0.8)).aliased_anchor_rows.tolist() == [2]
    assert measured(batch, AdvantageConfig("gigpo")).aliased_anchor_rows.tolist() == [0]


def test_a_state_key_of_another_shape_is_refused():
    batch = episodes_of([("s", 0)], state_key=torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"state_key: want shape \[1, 2\]"):
        compute_advantages(batch, AdvantageConfig())


@FEW
@given(batches(), configs())
def test_diagnostics_are_what_counting_says_and_a_groups_own(batch, config):
    state = torch.stack([batch.reward.long(), batch.anchor_key[:, 0]], 1)
    batch = changed(batch, state_key=state)
    result, bins = compute_advantages(batch, config), (1, 2, 3)
    got = group_diagnostics(batch, config, result, bins)
    labels, groups = result.step_group.tolist(), batch.group_id.tolist()
    size = Counter(labels)
    states = {
        label: {tuple(state[row].tolist()) for row in range(len(labels)) if labels[row] == label} for label in size
    }
    for at, group in enumerate(got.group_id.tolist()):
        rows = [row for row in range(len(groups)) if groups[row] == group]
        own = {labels[row] for row in rows}
        assert int(got.steps[at]) == len(rows)
        assert int(got.step_groups[at]) == len(own)
        assert int(got.step_group_largest[at]) == max(size[label] for label in own)
        wanted = [sum(low <= size[labels[row]] < high for row in rows) for low, high in pairwise((*bins, 10**9))]
        assert got.rows_by_size[at].tolist() == wanted
        assert int(got.shared_anchor_rows[at]) == sum(size[labels[row]] > 1 for row in rows)
        assert int(got.useful_anchor_rows[at]) == sum(float(result.step_advantage[row]) != 0 for row in rows)
        assert int(got.aliased_anchor_rows[at]) == sum(len(states[labels[row]]) > 1 for row in rows)
        alone = changed(taken(batch, torch.tensor(rows)), state_key=state[rows])
        if config.scale not in ("batch", "gdpo"):
            again = group_diagnostics(alone, config, compute_advantages(alone, config), bins)
            for name, column in vars(again).items():
                assert torch.equal(column[0], getattr(got, name)[at]), name
