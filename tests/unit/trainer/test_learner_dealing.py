"""How rows are dealt to ranks, and which numbers of ranks an installation may have."""

from typing import Any

import pytest
import torch
from learner_cases import histories, random_rows
from pydantic import ValidationError

from services.trainer.learner.ranks import dealt
from services.trainer.learner.token_rows import TokenRows
from services.trainer.settings import Settings


def tokens(number: int, repeats: int = 0) -> TokenRows:
    rows = random_rows(number, repeats=repeats)
    return TokenRows([row.turn for row in rows])


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_each_row_has_one_rank_and_equal_rows_have_the_same_one(ranks: int) -> None:
    parts = dealt(tokens(20, repeats=8), ranks)
    assert sorted(torch.cat(parts).tolist()) == list(range(28))
    owner = {row: rank for rank, part in enumerate(parts) for row in part.tolist()}
    assert all(owner[row] == owner[row + 20] for row in range(8))


def test_ranks_have_nearly_equally_many_tokens() -> None:
    rows = tokens(40)
    loads = [sum(len(rows.ids[row]) for row in part.tolist()) for part in dealt(rows, 4)]
    assert max(loads) - min(loads) <= max(map(len, rows.ids))


def test_rows_that_begin_alike_come_to_one_rank_where_their_beginnings_are_shared() -> None:
    rows = TokenRows([row.turn for row in histories(episodes=16, steps=8)])

    def forwarded(part: torch.Tensor) -> int:
        return sum(micro.forward_tokens for micro in rows.select(part).plan(100_000, None, "tree"))

    parts = dealt(rows, 2, trees=True)
    assert sorted(torch.cat(parts).tolist()) == list(range(128))
    loads = [forwarded(part) for part in parts]
    assert max(loads) < 1.3 * min(loads)
    everything = forwarded(torch.arange(128))
    assert sum(loads) < 1.2 * everything
    assert sum(map(forwarded, dealt(rows, 2))) > 1.2 * everything


def test_a_group_that_is_compared_stays_on_one_rank() -> None:
    group = torch.arange(12) // 3
    for part in dealt(tokens(12), 3, group):
        assert all((group == one).sum() == 3 for one in group[part].unique())
        assert len(part) % 3 == 0


def test_too_few_rows_leave_ranks_empty() -> None:
    assert sorted(len(part) for part in dealt(tokens(2), 4)) == [0, 0, 1, 1]


def test_copies_of_the_states_must_be_whole() -> None:
    with pytest.raises(ValidationError, match="shard_ranks: want a divisor of ranks = 4, got 3"):
        Settings(redis_url="redis://127.0.0.1:6379/0", ranks=4, shard_ranks=3)


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        ({"nodes": 3}, "nodes: want a divisor of ranks = 4, got 3"),
        ({"nodes": 2}, "rendezvous: want host:port of node 0"),
        ({"nodes": 2, "rendezvous": "a:1", "node": 2}, "node: want less than nodes = 2, got 2"),
        ({"nodes": 2, "rendezvous": "a"}, "rendezvous"),
    ],
)
def test_nodes_share_the_ranks_evenly_and_know_where_they_meet(over: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Settings(redis_url="redis://127.0.0.1:6379/0", ranks=4, **over)
