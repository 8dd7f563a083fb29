"""Which replica samples a prompt."""

from collections import Counter

import pytest

from benchmarks.routing import measured
from services.contracts.arrays import pack_int32
from services.contracts.messages import GenerateItem
from services.contracts.sampling import Sampling
from services.rollout import routes as routing
from services.rollout.ports import Ask
from services.rollout.routes import PROMPTS_APART, Routes, ranked, tokens_of

REPLICAS = ["r1", "r2", "r3"]
GROUPS = [f"t{i:019x}" for i in range(3_000)]
TOKENS = 12


def ask(group: str = "g", k: int = 0) -> Ask:
    return Ask("j", group, f"{group}/{k}", GenerateItem(pack_int32([3] * 4), 0, item_id=""), 0, Sampling(1.0, 8, ()))


def test_a_prompts_load_is_its_length_and_the_most_that_may_be_sampled():
    assert tokens_of(ask()) == TOKENS


def test_groups_spread_evenly_and_every_worker_ranks_alike():
    counts = Counter(ranked(group, REPLICAS)[0] for group in GROUPS)
    assert all(900 < counts[replica] < 1_100 for replica in REPLICAS)
    assert all(ranked(group, REPLICAS) == ranked(group, REPLICAS[::-1]) for group in GROUPS[:100])


def test_a_group_begins_on_the_less_loaded_of_its_two_replicas():
    first, second, third = ranked("g", REPLICAS)
    assert Routes().choose(ask(), REPLICAS) == first
    routes = Routes()
    routes.asked(first, 2)
    assert routes.choose(ask(), REPLICAS) == second
    routes = Routes()
    routes.asked(first, 2)
    routes.asked(second, 1)
    assert routes.choose(ask(), REPLICAS) == second, f"{third} is idle, and no choice of this group's"


def test_an_episode_stays_until_another_replica_has_far_less_to_do():
    home, other, _ = ranked("g", REPLICAS)
    routes, both = Routes(), [home, other]
    assert routes.choose(ask(), both) == home
    routes.asked(home, PROMPTS_APART * TOKENS)
    assert routes.choose(ask(), both) == home
    routes.asked(home, 1)
    assert routes.choose(ask(), both) == other
    routes.asked(home, -PROMPTS_APART * TOKENS - 1)
    assert routes.choose(ask(), both) == other, "it does not go back without a reason"
    assert routes.choose(ask(k=1), both) == home, "the group's other episodes begin where it began"


def test_much_to_do_everywhere_moves_nobody_for_a_small_difference():
    home, other, _ = ranked("g", REPLICAS)
    routes = Routes()
    routes.choose(ask(), [home, other])
    routes.asked(home, 1_400)
    routes.asked(other, 1_000)
    assert routes.choose(ask(), [home, other]) == home
    routes.asked(home, 1_000)
    assert routes.choose(ask(), [home, other]) == other


def test_what_a_replica_owes_to_other_workers_counts():
    home, other, _ = ranked("g", REPLICAS)
    routes = Routes()
    routes.asked(home, 10)
    routes.read({home: 30, other: 5})
    assert (routes.load(home), routes.load(other)) == (30, 5)
    routes.asked(home, -10)
    assert routes.load(home) == 20
    routes.read({other: 5})
    assert routes.load(home) == 0


def test_an_episode_whose_replica_is_gone_begins_elsewhere():
    home, other, _ = ranked("g", REPLICAS)
    routes = Routes()
    routes.choose(ask(), [home, other])
    assert routes.choose(ask(), [other]) == other


def test_places_are_bounded(monkeypatch):
    monkeypatch.setattr(routing, "REMEMBERED", 2)
    routes = Routes()
    for group in "abc":
        routes.choose(ask(group), REPLICAS)
    assert (list(routes._groups), list(routes._episodes)) == (["b", "c"], ["b/0", "c/0"])


@pytest.mark.parametrize(("groups", "replicas"), [(16, 8), (3, 2)])
def test_equal_groups_keep_replicas_busy_and_episodes_in_their_caches(groups, replicas):
    found = measured(5, groups, replicas, n=8, steps=20)
    assert found["routes"]["least_busy"] >= 0.85
    assert found["routes"]["least_stayed"] >= 0.95
    assert found["hash"]["busy"] < 0.75
