import random

import pytest
import torch

from gigpo_core import ConfigError, ShapeError, Turn, lone_turn, plan_micro_batches


def made_rows(seed=0, rows=60):
    rng = random.Random(seed)
    pairs = [
        (
            tuple(rng.randrange(9) for _ in range(rng.randrange(1, 9))),
            tuple(rng.randrange(9) for _ in range(rng.randrange(1, 5))),
        )
        for _ in range(rows // 3)
    ]
    return [rng.choice(pairs) for _ in range(rows)]


def turns(pairs):
    return [lone_turn(prompt, response) for prompt, response in pairs]


@pytest.mark.parametrize("layout", ["packed", "padded", "tree"])
def test_every_row_is_served_once_and_every_sequence_forwarded_once(layout):
    rows = made_rows()
    plan = plan_micro_batches(turns(rows), token_budget=30, layout=layout)
    assert sorted(row for part in plan for row in part.row.tolist()) == list(range(len(rows)))
    forwarded = [rows[row] for part in plan for row in part.sequence_row.tolist()]
    assert len(forwarded) == len(set(forwarded)) == len(set(rows))
    for part in plan:
        sequences = [rows[row][0] + rows[row][1] for row in part.sequence_row.tolist()]
        lengths = [len(sequence) for sequence in sequences]
        beginnings = {sequence[:length] for sequence in sequences for length in range(1, len(sequence) + 1)}
        cost = {"packed": sum(lengths), "padded": len(lengths) * max(lengths), "tree": len(beginnings)}[layout]
        assert part.forward_tokens == cost <= 30
        assert part.tree == (layout == "tree")
        for row, sequence in zip(part.row.tolist(), part.row_span.tolist(), strict=True):
            assert rows[row] == rows[part.sequence_row[sequence]]


def test_gathered_tokens_are_the_tokens_of_the_rows():
    rows = made_rows(seed=1)
    for part in plan_micro_batches(turns(rows), token_budget=25):
        forwarded = torch.tensor([token for row in part.sequence_row.tolist() for token in rows[row][1]])
        wanted = [(place, token) for place, row in enumerate(part.row.tolist()) for token in rows[row][1]]
        assert list(zip(part.token_row.tolist(), part.gather(forwarded).tolist(), strict=True)) == wanted


def test_the_gradient_through_the_gather_is_that_of_forwarding_every_row():
    rows = made_rows(seed=2, rows=12)
    (part,) = plan_micro_batches(turns(rows), token_budget=10_000)
    weight = torch.randn(9, dtype=torch.float64, requires_grad=True)

    def score(tokens):
        return torch.log_softmax(weight, 0)[torch.tensor(tokens)]

    advantage = torch.randn(len(rows), dtype=torch.float64)
    plain = sum(advantage[row] * score(rows[row][1]).sum() for row in range(len(rows)))
    forwarded = torch.cat([score(rows[row][1]) for row in part.sequence_row.tolist()])
    gathered = (part.gather(forwarded) * advantage[part.row][part.token_row]).sum()
    one, other = (torch.autograd.grad(value, weight, retain_graph=True)[0] for value in (plain, gathered))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("layout", ["packed", "padded", "tree"])
def test_the_plan_does_not_depend_on_the_order_of_rows(layout):
    rows = made_rows(seed=4)
    order = list(range(len(rows)))
    random.Random(5).shuffle(order)

    def contents(chosen):
        plan = plan_micro_batches(turns(chosen), token_budget=20, layout=layout)
        return [[chosen[row] for row in part.sequence_row.tolist()] for part in plan]

    assert contents(rows) == contents([rows[i] for i in order])


def test_first_fit_fills_earlier_micro_batches_first():
    lengths = [6, 5, 4, 3, 2]
    plan = plan_micro_batches([lone_turn([0] * n, []) for n in lengths], token_budget=10)
    assert [part.row.tolist() for part in plan] == [[0, 2], [1, 3, 4]]
    assert [part.forward_tokens for part in plan] == [10, 10]


def test_a_sequence_over_the_budget_gets_a_micro_batch_of_its_own():
    plan = plan_micro_batches(turns([([1] * 9, [1]), ([1], [1]), ([2], [1])]), token_budget=4)
    assert [part.row.tolist() for part in plan] == [[0], [1, 2]]


def test_no_rows_make_no_micro_batches():
    assert plan_micro_batches([], token_budget=1) == []


def test_a_bad_call_is_refused():
    with pytest.raises(ShapeError, match="row 1: want 0 <= start <= stop <= 2, got 1, 3"):
        plan_micro_batches([lone_turn([1], [2]), Turn((1, 2), 1, 3)], token_budget=4)
    with pytest.raises(ConfigError, match="token_budget"):
        plan_micro_batches([], token_budget=0)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_rows_of_one_group_share_a_micro_batch_where_that_is_wanted(layout):
    rows = made_rows(seed=6)
    group = [row % 7 for row in range(len(rows))]
    rows = [((*rows[i][0], group[i]), rows[i][1]) for i in range(len(rows))]
    plan = plan_micro_batches(turns(rows), token_budget=90, layout=layout, row_group=group)
    parts = [{group[row] for row in part.row.tolist()} for part in plan]
    assert sum(map(len, parts)) == 7
    assert sorted(row for part in plan for row in part.row.tolist()) == list(range(len(rows)))


def test_groups_that_share_a_sequence_stay_together():
    prompts, responses = [[1], [2], [2], [3], [4]], [[0]] * 5
    plan = plan_micro_batches(turns(zip(prompts, responses, strict=True)), token_budget=2, row_group=[0, 0, 1, 1, 2])
    assert sorted(part.row.tolist() for part in plan) == [[0, 1, 2, 3], [4]]


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_micro_batch_may_be_filled_to_the_last_token(layout):
    prompts, responses = [[1, 1, 1], [2, 2, 2], [3]], [[0, 0]] * 3
    plan = plan_micro_batches(turns(zip(prompts, responses, strict=True)), token_budget=10, layout=layout)
    assert [part.forward_tokens for part in plan] == [10, 3]


def conversations(seed=0, number=6):
    """Rows of conversations of 1 to 4 turns, each row beside the same turn standing alone."""
    rng = random.Random(seed)
    together, alone = [], []
    for _ in range(number):
        ids, places = [], []
        for _ in range(rng.randint(1, 4)):
            ids += [rng.randrange(9) for _ in range(rng.randint(1, 5))]
            start = len(ids)
            ids += [rng.randrange(9) for _ in range(rng.randint(1, 4))]
            places.append((start, len(ids)))
        whole = tuple(ids)
        together += [Turn(whole, start, stop) for start, stop in places]
        alone += [lone_turn(ids[:start], ids[start:stop]) for start, stop in places]
    return together, alone


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_conversation_is_forwarded_once_for_all_of_its_turns(layout):
    together, alone = conversations()
    plan = plan_micro_batches(together, token_budget=40, layout=layout)
    assert sorted(row for part in plan for row in part.row.tolist()) == list(range(len(together)))
    sequences = [together[row].ids for part in plan for row in part.sequence_row.tolist()]
    assert sorted(sequences) == sorted({turn.ids for turn in together})
    for part in plan:
        spoken = [alone[row].response for row in part.span_row.tolist()]
        within = [together[part.sequence_row[one]].ids for one in part.span_sequence.tolist()]
        assert within == [together[row].ids for row in part.span_row.tolist()]
        forwarded = torch.tensor([token for response in spoken for token in response])
        wanted = [(place, token) for place, row in enumerate(part.row.tolist()) for token in alone[row].response]
        assert list(zip(part.token_row.tolist(), part.gather(forwarded).tolist(), strict=True)) == wanted


def test_a_conversation_is_forwarded_as_far_as_its_last_wanted_turn():
    ids = tuple(range(20))
    turns = [Turn(ids, 2, 4), Turn(ids, 6, 9), Turn(ids, 15, 20)]
    assert [part.forward_tokens for part in plan_micro_batches(turns, token_budget=100)] == [20]
    (part,) = plan_micro_batches(turns[:2], token_budget=100)
    assert part.forward_tokens == 9
    assert part.sequence_row.tolist() == [1]


def test_equal_conversations_are_forwarded_once():
    one, _ = conversations(seed=3, number=2)
    other, _ = conversations(seed=3, number=2)
    (part,) = plan_micro_batches([*one, *other], token_budget=1_000)
    assert len(part.sequence_row) == 2
    assert len(part.span_row) == len(one)
    assert part.row_span.tolist()[: len(one)] == part.row_span.tolist()[len(one) :]


def test_equal_tokens_that_were_chosen_among_others_are_responses_of_their_own():
    ids = (5, 6, 7, 8)
    free, few, many = Turn(ids, 2, 4), Turn(ids, 2, 4, b"7 or 8"), Turn(ids, 2, 4, b"1, 7 or 8")
    (part,) = plan_micro_batches([many, free, few, many], token_budget=100)
    assert len(part.sequence_row) == 1  # of one ids object: it is forwarded once
    assert part.row_span.tolist() == [1, 0, 2, 1]
    alone = [lone_turn(turn.prompt, turn.response)._replace(allowed=turn.allowed) for turn in (many, few, many)]
    plans = [plan_micro_batches(turns, token_budget=100) for turns in (alone, alone[::-1])]
    found = [[alone[row].allowed for row in part.span_row.tolist()] for (part,) in plans]
    assert found[0] == found[1] == [many.allowed, few.allowed]
