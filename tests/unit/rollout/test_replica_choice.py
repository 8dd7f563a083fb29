"""Which replica a group's requests go to."""

from collections import Counter

from services.rollout.replicas import ranked

REPLICAS = ["r1", "r2", "r3"]
GROUPS = [f"t{i:019x}" for i in range(3_000)]


def test_groups_spread_evenly_and_every_worker_ranks_alike():
    counts = Counter(ranked(group, REPLICAS)[0] for group in GROUPS)
    assert all(900 < counts[replica] < 1_100 for replica in REPLICAS)
    assert all(ranked(group, REPLICAS) == ranked(group, REPLICAS[::-1]) for group in GROUPS[:100])


def test_a_replica_that_goes_moves_only_its_own_groups():
    for group in GROUPS:
        first, second, *_ = ranked(group, REPLICAS)
        assert ranked(group, [replica for replica in REPLICAS if replica != first])[0] == second
        assert ranked(group, [replica for replica in REPLICAS if replica != second])[0] == first
