"""MiniGrid and BabyAI in words. Needs the extra `minigrid`."""

import copy
import random
from collections import deque

import pytest
from pydantic import ValidationError

pytest.importorskip("minigrid", reason="the extra minigrid is not installed")

from minigrid.core.grid import Grid
from minigrid.core.world_object import Ball, Box, Door, Goal, Key, Lava, Wall
from minigrid.utils.baby_ai_bot import BabyAIBot

from gigpo.env.environment import KwargsError
from services.env.environments.minigrid import ACTIONS, MiniGrid, MiniGridKwargs
from services.env.workers.episode import state_key


def started(name: str = "MiniGrid-Empty-8x8-v0", seed: int = 0, split: str = "train", **kwargs: object) -> MiniGrid:
    environment = MiniGrid(MiniGridKwargs.model_validate({"id": name, **kwargs}))
    environment.reset(seed, split)
    return environment


def furnished(*things: tuple[object, int, int], view: str = "words") -> MiniGrid:
    """An empty room of 8 x 8; the agent stands at column 3, row 5 and faces north."""
    environment = started(view=view)
    environment._grid.grid = Grid(8, 8)
    environment._grid.grid.wall_rect(0, 0, 8, 8)
    for thing, column, row in things:
        environment._grid.put_obj(thing, column, row)
    environment._grid.agent_pos, environment._grid.agent_dir = (3, 5), 3
    environment._grid.see_through_walls = False
    return environment


def test_the_view_tells_what_is_ahead_and_how_far():
    environment = furnished((Ball("red"), 3, 3), (Key("blue"), 2, 5), (Door("green", is_locked=True), 5, 4))
    assert environment._observation().text.split("\n") == [
        "You face north",
        "You see a blue key 1 step left",
        "You see a red ball 2 steps forward",
        "You see a wall 3 steps left",
        "You see a locked green door 1 step forward and 2 steps right",
        "You see a wall 5 steps forward",
        "You carry nothing",
    ]


def test_what_is_behind_or_out_of_sight_is_not_told():
    wall = [(Wall(), column, 4) for column in range(1, 7)]
    assert "ball" not in furnished(*wall, (Ball("red"), 3, 3))._observation().text
    assert "ball" not in furnished((Ball("red"), 3, 6))._observation().text


def test_the_board_shows_everything_and_tells_green_from_grey():
    environment = furnished((Ball("green"), 3, 3), (Box("grey"), 1, 1), (Door("red", is_open=True), 6, 1), view="board")
    assert environment._observation().text.split("\n")[:6] == [
        "#E #E #E #E #E #E #E #E",
        "#E XE .. .. .. .. /R #E",
        "#E .. .. .. .. .. .. #E",
        "#E .. .. OG .. .. .. #E",
        "#E .. .. .. .. .. .. #E",
        "#E .. .. ^^ .. .. .. #E",
    ]


@pytest.mark.parametrize(
    ("ahead", "carried", "able"),
    [
        (None, None, ["go forward"]),
        (None, "ball", ["go forward", "drop"]),
        (Wall(), None, []),
        (Ball("red"), None, ["pick up"]),
        (Ball("red"), "ball", []),
        (Box("red"), None, ["pick up", "toggle"]),
        (Door("red"), None, ["toggle"]),
        (Door("red", is_open=True), None, ["go forward", "toggle"]),
        (Door("red", is_locked=True), None, []),
        (Door("red", is_locked=True), "blue key", []),
        (Door("red", is_locked=True), "red key", ["toggle"]),
        (Goal(), None, ["go forward"]),
    ],
)
def test_admissible_is_what_changes_something(ahead, carried, able):
    environment = furnished(*([(ahead, 3, 4)] if ahead else []))
    held = {"ball": Ball("blue"), "blue key": Key("blue"), "red key": Key("red")}
    environment._grid.carrying = held[carried] if carried else None
    assert environment._observation().admissible_actions == ("turn left", "turn right", *able, "done")
    before = environment.state()
    for action in ACTIONS[2:6]:
        if action not in able:
            assert not environment.step(action).action_valid
            assert environment.state() == before
    for action in able:
        copied = copy.deepcopy(environment)
        assert copied.step(action).action_valid
        assert copied.state() != before


def test_reaching_the_goal_is_worth_1_or_what_minigrid_says():
    for reward, expected in (("success", 1.0), ("native", 1 - 0.9 / 256)):
        environment = started(reward=reward)
        environment._grid.agent_pos, environment._grid.agent_dir = (6, 5), 1
        outcome = environment.step(" Go  Forward ")
        assert (outcome.reward, outcome.won, outcome.terminated) == (pytest.approx(expected), True, True)


def test_lava_ends_the_episode_without_reward():
    environment = furnished((Lava(), 3, 4))
    assert "You see lava 1 step forward" in environment._observation().text.split("\n")
    outcome = environment.step("go forward")
    assert (outcome.terminated, outcome.won, outcome.reward) == (True, False, 0.0)


@pytest.mark.parametrize(
    "name",
    [
        *("BabyAI-GoToObj-v0", "BabyAI-GoToLocal-v0", "BabyAI-PickupLoc-v0", "BabyAI-UnlockLocal-v0"),
        *("BabyAI-PutNextLocal-v0", "BabyAI-OpenDoor-v0", "BabyAI-GoToSeqS5R2-v0", "BabyAI-SynthS5R2-v0"),
    ],
)
def test_babyais_own_expert_fulfils_the_missions_with_admissible_actions(name):
    for seed, split in ((0, "train"), (1, "test"), (2, "test")):
        environment = started(name, seed, split)
        expert, action, outcomes = BabyAIBot(environment._env), None, []
        while not (outcomes and (outcomes[-1].terminated or outcomes[-1].truncated)):
            action = expert.replan(action)
            outcomes.append(environment.step(ACTIONS[int(action)]))
        assert all(outcome.action_valid for outcome in outcomes)
        assert outcomes[-1].won
        assert [outcome.reward for outcome in outcomes] == [0.0] * (len(outcomes) - 1) + [1.0]


@pytest.mark.parametrize("name", ["MiniGrid-Empty-5x5-v0", "MiniGrid-DoorKey-5x5-v0", "MiniGrid-LavaGapS5-v0"])
def test_a_search_over_states_finds_the_way(name):
    start = started(name)
    seen, queue = {state_key(start.state())}, deque([start])
    while queue:
        at = queue.popleft()
        for action in at._observation().admissible_actions:
            after = copy.deepcopy(at)
            outcome = after.step(action)
            if outcome.won:
                return
            if not outcome.terminated and state_key(after.state()) not in seen:
                seen.add(state_key(after.state()))
                queue.append(after)
    raise AssertionError("no way")


def test_what_a_box_hides_and_what_was_done_before_is_state():
    hidden, empty = furnished((Box("red", Key("blue")), 3, 3)), furnished((Box("red"), 3, 3))
    assert hidden._observation() == empty._observation()
    assert state_key(hidden.state()) != state_key(empty.state())
    sequence = started("BabyAI-GoToSeqS5R2-v0")
    before = state_key(sequence.state())
    instruction = sequence._grid.instrs
    assert hasattr(instruction, "a_done")
    instruction.a_done = "success"
    assert state_key(sequence.state()) != before


def test_states_recur_however_they_were_reached():
    one, other = started("BabyAI-GoToObj-v0"), started("BabyAI-GoToObj-v0")
    for action in ("turn left", "turn left", "turn left", "turn left"):
        one.step(action)
    assert (one.state(), one._observation()) == (other.state(), other._observation())


def test_one_seed_names_one_task_and_the_splits_share_none():
    def tasks(split: str) -> list[object]:
        environment = MiniGrid(MiniGridKwargs(view="board"))
        return [environment.reset(seed, split) for seed in range(60)]

    assert tasks("train") == tasks("train")
    train, test = ({(seen.task, seen.text) for seen in tasks(split)} for split in ("train", "test"))
    assert not train & test


@pytest.mark.parametrize(
    "name",
    [
        *("MiniGrid-DoorKey-5x5-v0", "MiniGrid-Fetch-8x8-N3-v0", "MiniGrid-Dynamic-Obstacles-5x5-v0"),
        *("MiniGrid-MemoryS7-v0", "MiniGrid-PutNear-6x6-N2-v0", "MiniGrid-RedBlueDoors-6x6-v0"),
        *("BabyAI-GoToObjMazeS4-v0", "BabyAI-MiniBossLevel-v0", "BabyAI-KeyInBox-v0", "BabyAI-OpenDoorsOrderN4-v0"),
    ],
)
@pytest.mark.parametrize("view", ["words", "board"])
def test_every_word_is_in_the_vocabulary_and_every_admissible_action_is_valid(name, view):
    words, rng = set(MiniGrid.vocabulary()), random.Random(0)
    environment = MiniGrid(MiniGridKwargs(id=name, view=view))
    for seed in range(4):
        seen = environment.reset(seed, "train")
        for _ in range(15):
            assert words.issuperset(f"{seen.task} {seen.text} {' '.join(seen.admissible_actions)}".split())
            outcome = environment.step(rng.choice(seen.admissible_actions))
            assert outcome.action_valid
            seen = outcome.observation
            if outcome.terminated or outcome.truncated:
                break


def test_a_level_that_is_not_there_is_refused():
    with pytest.raises(KwargsError, match=r"id: MiniGrid-Nothing-v0 cannot be made"):
        MiniGrid(MiniGridKwargs(id="MiniGrid-Nothing-v0"))
    with pytest.raises(ValidationError, match="id"):
        MiniGridKwargs(id="CartPole-v1")
