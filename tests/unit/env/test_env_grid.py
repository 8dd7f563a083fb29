"""The text grid: its rules, its tasks, its words."""

import random
from collections import deque

import pytest
from pydantic import ValidationError

from services.env.environments.grid import (
    COMMON_ITEMS,
    CORNERS,
    DIRECTIONS,
    FURNITURE,
    ITEMS,
    Cell,
    Grid,
    GridKwargs,
    World,
    draw_state,
    draw_world,
    is_held_out,
)
from services.env.workers.episode import Episode


def path(world: World, start: Cell, end: Cell) -> list[str]:
    """Shortest walk between two cells."""
    came: dict[Cell, list[str]] = {start: []}
    border = deque([start])
    while border:
        cell = border.popleft()
        for direction in DIRECTIONS:
            neighbour = world.beside(cell, direction)
            if neighbour is not None and neighbour not in came:
                came[neighbour] = [*came[cell], f"go {direction}"]
                border.append(neighbour)
    return came[end]


def solution(world: World) -> list[str]:
    item, goal = world.items[world.item], world.goals[world.goal]
    return [
        *path(world, world.at, item),
        f"take {world.item}",
        *path(world, item, goal),
        f"put {world.item}",
    ]


def started(seed: int, split: str = "train", **kwargs: object) -> Grid:
    grid = Grid(GridKwargs.model_validate(kwargs))
    grid.reset(seed, split)
    return grid


def small_world() -> World:
    """Agent in the south-west corner of a 2x2 world without walls.

    apple .
    agent table
    """
    return World(
        size=2,
        walls=frozenset(),
        at=(0, 1),
        items={"apple": (0, 0)},
        goals={"table": (1, 1)},
        item="apple",
        goal="table",
    )


def test_the_transcript_in_the_docstring_is_what_happens():
    world, seen = small_world(), []
    for action in ("go north", "take apple", "go east", "go south"):
        seen.append(world.text())
        assert action in world.admissible()
        assert not world.apply(action)
    assert seen == [
        "apple 1 north . table 1 east . blocked south west . hold nothing .",
        "apple here . table 1 south 1 east . blocked north west . hold nothing .",
        "table 1 south 1 east . blocked north west . hold apple .",
        "table 1 south . blocked north east . hold apple .",
    ]
    assert world.text() == "table here . blocked south east . hold apple ."
    assert world.apply("put apple")


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("kwargs", [{}, {"items": 3, "furniture": 3, "size": [5]}, {"size": [7], "walls": [9]}])
def test_the_shortest_plan_solves_every_task_and_earns_one_reward_at_its_end(split, kwargs):
    for seed in range(200):
        grid = started(seed, split, **kwargs)
        outcomes = [grid.step(action) for action in solution(grid._world)]
        assert [outcome.won for outcome in outcomes] == [False] * (len(outcomes) - 1) + [True]
        assert sum(outcome.reward for outcome in outcomes) == 1.0
        assert outcomes[-1].terminated
        assert all(outcome.action_valid for outcome in outcomes)


def test_the_default_tasks_fit_in_the_default_number_of_turns():
    lengths = [len(solution(started(seed)._world)) for seed in range(500)]
    assert max(lengths) <= GridKwargs().max_turns


def test_splits_pair_items_and_furniture_apart_and_one_pair_in_six_is_held_out():
    pairs = {(item, place): is_held_out(item, place) for item in ITEMS for place in FURNITURE}
    assert sum(pairs.values()) * 6 == len(pairs)
    for split, expected in (("train", False), ("test", True)):
        drawn = {(world.item, world.goal) for world in (started(seed, split)._world for seed in range(500))}
        assert {pairs[pair] for pair in drawn} == {expected}
    assert {item for item, _ in (pair for pair, out in pairs.items() if out)} == set(ITEMS)


@pytest.mark.parametrize(("asked", "names"), [({}, COMMON_ITEMS), ({"names": 1}, 1), ({"names": 48}, 48)], ids=str)
def test_items_are_drawn_from_as_many_names_as_are_asked_for(asked, names):
    drawn = {started(seed, split, **asked)._world.item for seed in range(1000) for split in ("train", "test")}
    assert drawn == set(ITEMS[:names])


def test_more_items_than_names_are_refused():
    assert started(0, items=3, names=3)
    with pytest.raises(ValidationError, match="items: want at most names = 2, got 3"):
        GridKwargs(items=3, names=2)


def test_each_corner_has_held_out_items_and_each_kind_of_pair_is_trained_on():
    out = {corner: [item for item in ITEMS if is_held_out(item, corner)] for corner in CORNERS}
    assert {len(items) for items in out.values()} == {len(ITEMS) // 6}
    assert len(ITEMS) == len(set(ITEMS))
    assert not set(ITEMS) & set(FURNITURE)


def test_one_seed_names_one_task_and_the_splits_differ():
    first, again, other = started(7), started(7), started(7, "test")
    assert first._observation() == again._observation()
    assert first._observation() != other._observation()
    assert len({started(seed)._observation().anchor for seed in range(100)}) > 90


def test_an_action_that_means_nothing_changes_nothing():
    grid = started(0)
    before = (grid._observation(), grid.state())
    for action in ("", "take", "put apple", "go nowhere", "take stove", "open fridge", "go north go north", "🎲"):
        outcome = grid.step(action)
        assert not outcome.action_valid
        assert outcome.reward == 0.0
        assert (outcome.observation, grid.state()) == before


def test_every_admissible_action_is_valid_and_every_other_of_its_kind_is_not():
    rng = random.Random(0)
    every = [f"go {d}" for d in DIRECTIONS] + [f"{verb} {item}" for verb in ("take", "put") for item in ITEMS]
    grid = started(3, items=2, furniture=2)
    for _ in range(200):
        allowed = set(grid._world.admissible())
        action = rng.choice(every)
        assert grid.step(action).action_valid == (action in allowed)


def test_the_wrong_item_in_the_right_place_is_no_success_and_can_be_taken_again():
    world = small_world()
    world.items["book"] = (0, 1)
    assert not world.apply("take book")
    world.at = (1, 1)
    assert not world.apply("put book")
    assert world.items["book"] == (1, 1)
    assert "book here" in world.text()
    assert "take book" in world.admissible()


def test_the_right_item_in_the_wrong_place_is_no_success_and_can_be_taken_again():
    world = small_world()
    world.goals["stove"] = (1, 0)
    world.apply("go north")
    world.apply("take apple")
    world.apply("go east")
    assert not world.apply("put apple")
    assert "take apple" in world.admissible()
    world.apply("take apple")
    world.apply("go south")
    assert world.apply("put apple")


def test_hands_hold_one_thing_and_only_furniture_takes_it():
    world = small_world()
    world.items["book"] = (0, 0)
    world.apply("go north")
    world.apply("take book")
    assert world.admissible() == ("go south", "go east")


def test_the_task_stands_apart_from_the_text_and_belongs_to_the_anchor():
    seen = started(5)._observation()
    assert seen.task not in seen.text
    assert seen.anchor == f"{seen.task} . {seen.text}"


def test_distractors_are_listed_in_an_order_that_does_not_give_the_task_away():
    worlds = [started(seed, items=2, furniture=2)._world for seed in range(400)]
    firsts = sum(next(iter(world.items)) == world.item for world in worlds)
    assert 140 < firsts < 260
    world = worlds[0]
    assert [word for word in world.text().split() if word in world.items] == list(world.items)


def test_every_word_of_every_text_and_action_is_in_the_vocabulary():
    words = set(Grid.vocabulary())
    rng = random.Random(1)
    for seed in range(100):
        kwargs = {"items": 3, "furniture": 3, "size": [4, 9], "practice": seed % 2 == 0}
        grid = started(seed, rng.choice(["train", "test"]), **kwargs)
        for _ in range(5):
            seen = grid._observation()
            assert words.issuperset(f"{seen.anchor} {' '.join(seen.admissible_actions)}".split())
            grid.step(rng.choice(seen.admissible_actions))
    assert Grid.vocabulary() == sorted(words)


def test_practice_shows_a_new_world_after_every_step_and_never_rewards():
    grid = started(0, practice=True)
    tasks = set()
    for _ in range(200):
        seen = grid._observation()
        tasks.add(seen.task)
        outcome = grid.step(seen.admissible_actions[-1])
        assert outcome.action_valid
        assert (outcome.reward, outcome.won, outcome.terminated) == (0.0, False, False)
    assert len(tasks) > 60
    assert not grid.step("dance").action_valid


def test_practice_states_do_not_depend_on_what_was_done():
    one, other = started(4, practice=True), started(4, practice=True)
    for _ in range(10):
        assert one.step("go north").observation == other.step("nonsense").observation


def test_practice_states_hold_something_half_the_time_and_can_act_more_than_half_the_time():
    rng = random.Random(0)
    worlds = [draw_state(rng, GridKwargs(), test=False) for _ in range(1000)]
    holding = sum(world.held is not None for world in worlds)
    acting = sum(any(not action.startswith("go") for action in world.admissible()) for world in worlds)
    assert 430 < holding < 570
    assert acting > 500


def test_the_state_key_tells_states_apart_that_look_the_same():
    near = World(3, frozenset(), (0, 0), {"apple": (2, 2)}, {"table": (1, 1)}, "apple", "table")
    grid = started(0)
    grid._world = near
    first = grid.state()
    near.items["apple"] = (2, 1)
    assert grid.state() != first


@pytest.mark.parametrize(
    ("kwargs", "key"),
    [
        ({"size": [1]}, "size"),
        ({"size": []}, "size"),
        ({"size": [10]}, "size"),
        ({"size": [2], "walls": [2]}, "walls"),
        ({"walls": [-1]}, "walls"),
        ({"items": 13}, "items"),
        ({"furniture": 0}, "furniture"),
        ({"sise": [3]}, "sise"),
        ({"max_turns": 0}, "max_turns"),
    ],
)
def test_kwargs_that_make_no_world_are_refused_by_name(kwargs, key):
    with pytest.raises(ValidationError, match=key):
        GridKwargs.model_validate(kwargs)


def test_the_densest_worlds_that_kwargs_allow_can_be_drawn():
    kwargs = GridKwargs(size=(3,), walls=(2,), items=3, furniture=3)
    for seed in range(20):
        assert draw_world(random.Random(seed), kwargs, test=False).reachable()


def test_an_episode_is_truncated_at_its_limit_and_not_terminated():
    kwargs = GridKwargs(max_turns=3)
    episode = Episode(Grid(kwargs), kwargs)
    episode.reset(0, "train")
    ends = [(outcome.terminated, outcome.truncated) for outcome in (episode.step(1, "wait") for _ in range(3))]
    assert ends == [(False, False), (False, False), (False, True)]


CORNERED = {"goal": "corner", "size": [3], "walls": [0, 1]}


def cornered_world() -> World:
    """Agent and apple in the south-west corner of a 2x2 world; the task names the north-east one."""
    corners = {"north west": (0, 0), "north east": (1, 0), "south west": (0, 1), "south east": (1, 1)}
    return World(2, frozenset(), (0, 1), {"apple": (0, 1)}, corners, "apple", "north east", corners=True)


def test_the_corner_transcript_in_the_docstring_is_what_happens():
    world, seen = cornered_world(), []
    for action in ("take apple", "go north", "go east"):
        seen.append(world.text())
        assert action in world.admissible()
        assert not world.apply(action)
    assert seen == [
        "apple here . blocked south west . at south west .",
        "apple held . blocked south west . at south west .",
        "apple held . blocked north west . at north west .",
    ]
    assert world.text() == "apple held . blocked north east . at north east ."
    assert world.apply("put apple")


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_shortest_plan_solves_every_corner_task(split):
    for seed in range(200):
        grid = started(seed, split, **CORNERED)
        outcomes = [grid.step(action) for action in solution(grid._world)]
        assert outcomes[-1].won
        assert outcomes[-1].terminated
        assert sum(outcome.reward for outcome in outcomes) == 1.0


def test_an_item_put_into_another_corner_ends_the_episode_without_reward():
    for seed in range(100):
        grid = started(seed, **CORNERED)
        world = grid._world
        wrong = next(name for name in world.goals if name != world.goal)
        plan = [*path(world, world.at, world.items[world.item]), f"take {world.item}"]
        plan += path(world, world.items[world.item], world.goals[wrong])
        assert not any(grid.step(action).terminated for action in plan)
        last = grid.step(f"put {world.item}")
        assert (last.terminated, last.won, last.reward, last.action_valid) == (True, False, 0.0, True)


def test_what_is_seen_in_a_corner_task_does_not_tell_the_corner():
    """Only the task's sentence does: a policy that can't see it has one chance in four."""
    for seed in range(200):
        world = started(seed, **CORNERED)._world
        texts = set()
        for goal in world.goals:
            world.goal = goal
            texts.add(world.text())
        assert len(texts) == 1


def test_corner_tasks_hold_one_pair_in_six_out():
    drawn = {split: set() for split in ("train", "test")}
    for split, pairs in drawn.items():
        for seed in range(600):
            world = started(seed, split, **CORNERED)._world
            pairs.add((world.item, world.goal))
    assert not drawn["train"] & drawn["test"]
    assert len(drawn["test"]) * 5 == len(drawn["train"]) == 40


def test_an_action_that_means_nothing_costs_what_the_kwargs_say():
    assert started(0).step("sing").reward == 0.0
    assert started(0, invalid_reward=-0.03).step("sing").reward == -0.03
    assert started(0, invalid_reward=-0.03, practice=True).step("sing").reward == 0.0
