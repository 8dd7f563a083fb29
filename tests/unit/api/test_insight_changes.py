"""Changes of a policy: total variation between choices, regret, and the states of whole batches, by hand-made
archives."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.api.insight.changes import (
    best_action,
    erring_states,
    mean_variation,
    moved_states,
    total_variation,
    variation_by_chance,
)
from services.api.insight.played import StateTables, Wanted, sides
from services.api.insight.state_table import LONGEST_ACTION, Place, StateTable, Tally, merged, shown_action, state_key
from services.api.insight.state_views import change_page, state_page
from services.api.rest.problems import Problem
from tests.rollout_archives import write
from tests.unit.api.insight_groups import group_of, played

PLACE = Place(0, "g", 0, 0)


def actions(**visits: int | tuple[int, float]) -> dict[str, Tally]:
    """Action -> visits, or (visits, mean return)."""
    pairs = {name: (value, 0.0) if isinstance(value, int) else value for name, value in visits.items()}
    return {name: Tally(n, n * mean, 0, True, PLACE) for name, (n, mean) in pairs.items()}


def table(**states: dict[str, Tally]) -> StateTable:
    return StateTable({name.encode(): done for name, done in states.items()})


def test_total_variation_is_half_the_difference_of_the_shares() -> None:
    assert total_variation(actions(a=3, b=1), actions(a=1, b=3)) == 0.5
    assert total_variation(actions(a=2), actions(a=7)) == 0.0
    assert total_variation(actions(a=2), actions(b=7)) == 1.0
    assert total_variation(actions(a=1, b=1), actions(b=1, c=1)) == 0.5


def test_total_variation_is_a_distance() -> None:
    one, other, third = actions(a=3, b=1), actions(a=1, b=5), actions(b=2, c=2)
    assert total_variation(one, other) == total_variation(other, one)
    assert total_variation(one, third) <= total_variation(one, other) + total_variation(other, third)


def test_chance_moves_few_visits_far_and_many_hardly() -> None:
    few, many = actions(a=2, b=2), actions(a=200, b=200)
    assert variation_by_chance(few, few) == pytest.approx(0.2821, abs=1e-4)  # sqrt(2/pi) * sqrt(1/4 * 1/2) = 0.2821
    assert variation_by_chance(many, many) == pytest.approx(0.2821 / 10, abs=1e-4)
    assert variation_by_chance(actions(a=9), actions(a=9)) == 0.0


def test_chance_is_about_what_two_samples_of_one_choice_show() -> None:
    import random

    rng, shown = random.Random(0), []
    for _ in range(400):
        samples = [[rng.choice("abc") for _ in range(30)] for _ in range(2)]
        one, other = ({name: Tally(many.count(name), 0.0, 0, True, PLACE) for name in set(many)} for many in samples)
        shown.append(total_variation(one, other))
    even = actions(a=10, b=10, c=10)
    assert sum(shown) / len(shown) == pytest.approx(variation_by_chance(even, even), rel=0.1)


def test_states_that_moved_furthest_beyond_chance_come_first() -> None:
    before = table(still=actions(a=50, b=50), turned=actions(a=50), noisy=actions(a=3, b=2), rare=actions(a=4))
    after = table(still=actions(a=50, b=50), turned=actions(b=50), noisy=actions(a=3, b=2), rare=actions(b=40))
    moved = moved_states(before, after, min_visits=5)
    assert [one.state for one in moved] == [b"turned", b"still", b"noisy"]
    assert moved[0].total_variation == 1.0
    assert moved[2].beyond_chance < 0
    assert moved_states(before, table(), min_visits=1) == []


def test_the_mean_weighs_states_by_their_later_visits() -> None:
    before = table(turned=actions(a=10), still=actions(a=10))
    after = table(turned=actions(b=30), still=actions(a=10))
    variation, _ = mean_variation(moved_states(before, after, min_visits=5))
    assert variation == 0.75
    assert mean_variation([]) == (0.0, 0.0)


def test_regret_is_the_best_action_less_what_is_done_there() -> None:
    erring = erring_states(
        table(
            wrong=actions(good=(3, 1.0), bad=(9, 0.0)),
            right=actions(good=(9, 1.0), bad=(3, 0.0)),
            only=actions(good=(9, 1.0)),
            seldom=actions(good=(1, 1.0), bad=(2, 0.0)),
        ),
        min_visits=3,
    )
    assert [(one.state, one.best, one.usual) for one in erring] == [
        (b"wrong", "good", "bad"),
        (b"right", "good", "good"),
    ]
    assert [one.regret for one in erring] == [0.75, 0.25]


def test_an_action_that_was_tried_once_is_not_the_best() -> None:
    assert best_action(actions(lucky=(1, 9.0), known=(3, 0.5))) == "known"
    assert best_action(actions(lucky=(1, 9.0))) is None


def test_tables_add_up_and_keep_the_newest_place() -> None:
    one, other = table(s=actions(a=(2, 1.0))), table(s={"a": Tally(1, 4.0, 1, False, Place(7, "h", 1, 2))})
    tally = merged([one, other]).states[b"s"]["a"]
    assert (tally.visits, tally.return_mean, tally.won, tally.valid) == (3, 2.0, 1, False)
    assert tally.place == Place(7, "h", 1, 2)
    assert one.states[b"s"]["a"].visits == 2


def test_a_state_is_an_anchor_under_its_task() -> None:
    assert state_key("put it", "here") == state_key("put it", "here")
    assert len({state_key("put it", "here"), state_key("take it", "here"), state_key("put it here", "")}) == 3
    assert len(state_key("\ud800", "x")) == 16


def test_long_actions_are_cut_and_still_told_apart() -> None:
    one, other = "a" * LONGEST_ACTION + "b", "a" * LONGEST_ACTION + "c"
    assert shown_action("a" * LONGEST_ACTION) == "a" * LONGEST_ACTION
    assert shown_action(one) != shown_action(other)
    assert len(shown_action(one)) < LONGEST_ACTION + 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four batches of two groups: in `hall` the policy turns from left, which loses, to right, which wins."""
    for batch in range(4):
        right = batch * 2
        episodes = [
            played(["hall", "door"], ["right" if k < right else "left", "open"], won=k < right) for k in range(6)
        ]
        write(tmp_path, batch, [group_of(episodes, group_id=f"t{batch}"), group_of(episodes, group_id=f"u{batch}")])
    return tmp_path


def test_two_batches_of_a_job_are_compared_with_links_to_their_steps(folder: Path) -> None:
    tables = StateTables()
    before, after = sides(None, None, 1, "training", of_one_job=True)
    then, now = tables.played("j1", folder, before), tables.played("j1", folder, after)
    found = change_page(then, now, min_visits=5, offset=0, limit=1)
    assert (found.before.batches, found.after.batches, found.compared) == ([0], [3], 2)
    assert (found.before.success, found.after.success, found.after.episodes) == (0.0, 1.0, 12)
    (hall,) = found.items
    assert (hall.anchor, hall.task, hall.total_variation) == ("hall", "put it", 1.0)
    assert [(one.action, one.share_before, one.share_after) for one in hall.actions] == [
        ("left", 1.0, 0.0),
        ("right", 0.0, 1.0),
    ]
    assert (hall.place_after.batch, hall.place_after.group_id, hall.place_after.step_index) == (3, "u3", 0)
    assert found.next_cursor == "1"
    assert change_page(then, now, min_visits=5, offset=1, limit=1).next_cursor is None


def test_the_states_of_all_batches_are_searched_and_sorted(folder: Path) -> None:
    everything = StateTables().played("j1", folder, Wanted())
    options = {"min_visits": 5, "offset": 0, "limit": 10}
    found = state_page(everything, sort="regret", text=None, **options)  # type: ignore[arg-type]
    assert [(one.anchor, one.best_action, one.usual_action, one.regret) for one in found.items] == [
        ("hall", "right", "left", 0.5)
    ]
    assert [(one.action, one.visits, one.won_share) for one in found.items[0].actions] == [
        ("right", 24, 1.0),
        ("left", 24, 0.0),
    ]
    by_visits = state_page(everything, sort="visits", text="DOOR", **options)  # type: ignore[arg-type]
    assert [(one.anchor, one.visits) for one in by_visits.items] == [("door", 48)]
    assert state_page(everything, sort="return", text="nowhere", **options).items == []  # type: ignore[arg-type]


def test_bounds_choose_the_batches(folder: Path) -> None:
    tables = StateTables()

    def batches(wanted: Wanted) -> list[int]:
        return tables.played("j1", folder, wanted).batches

    assert batches(Wanted(newest=2)) == [2, 3]
    assert batches(Wanted(first=1, newest=2, oldest=True)) == [1, 2]
    assert batches(Wanted(last=2, newest=2)) == [1, 2]
    before, after = sides(1, 2, 5, "training", of_one_job=True)
    assert (batches(before), batches(after)) == ([1, 2, 3], [0, 1, 2])
    before, _ = sides(None, None, 2, "training", of_one_job=False)
    assert batches(before) == [2, 3]
    with pytest.raises(Problem, match="has no stored training rollouts of batches 7-any") as raised:
        batches(Wanted(first=7))
    assert raised.value.status == 404


def test_evaluations_are_compared_by_version_without_the_baselines(folder: Path) -> None:
    groups = [group_of([played(["hall"], ["left"])])]
    for name in ("eval-before-00000", "eval-after-00004", "eval-task_hidden-00004"):
        write(folder, 0, groups, name)
    found = StateTables().played("j1", folder, Wanted("evaluation"))
    assert (found.purpose, found.batches) == ("evaluation", [0, 4])


def test_a_batch_that_is_trained_again_is_read_again(folder: Path) -> None:
    tables = StateTables()
    assert tables.played("j1", folder, Wanted(newest=1)).table.episodes == 12
    write(folder, 3, [group_of([played(["elsewhere"])])])
    assert tables.played("j1", folder, Wanted(newest=1)).table.episodes == 1
