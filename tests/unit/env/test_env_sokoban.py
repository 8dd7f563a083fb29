"""Sokoban: its rules, its rooms, its words."""

import random

import pytest
from experts import solution
from pydantic import ValidationError

from gigpo.env.environment import KwargsError
from services.env.environments.sokoban.drawing import draw_start, largest_part
from services.env.environments.sokoban.environment import Sokoban, SokobanKwargs
from services.env.environments.sokoban.room import Position, Room

Board = list[str]


def read(board: Board) -> tuple[Room, Position]:
    """A room from its picture, symbols without spaces."""
    size, cells = len(board), "".join(board)

    def where(symbols: str) -> frozenset[int]:
        return frozenset(number for number, symbol in enumerate(cells) if symbol in symbols)

    (player,) = where("PS")
    return Room(size, where("#"), where("O√S")), Position(player, where("X√"))


def played(board: Board, **kwargs: object) -> Sokoban:
    environment = Sokoban(SokobanKwargs.model_validate(kwargs))
    environment._room, environment._position = read(board)
    return environment


def picture(environment: Sokoban) -> Board:
    return environment._observation().text.replace(" ", "").split("\n")


CORRIDOR = ["######", "#P_XO#", "#____#", "#_##_#", "#____#", "######"]


def test_boxes_are_pushed_and_never_pulled():
    room = played(CORRIDOR)
    assert room._observation().admissible_actions == ("down", "right")
    room.step("right")
    assert picture(room)[1] == "#_PXO#"
    outcome = room.step("right")
    assert picture(room)[1] == "#__P√#"
    assert (outcome.won, outcome.terminated, outcome.reward) == (True, True, 1.0)
    pulled = played(["#####", "#_XP#", "#___#", "#O__#", "#####"])
    pulled.step("down")
    assert picture(pulled)[1:3] == ["#_X_#", "#__P#"]


def test_the_player_stands_on_targets_and_a_box_leaves_one():
    room = played(["#####", "#P__#", "#√__#", "#__O#", "#####"])
    room.step("down")
    assert picture(room)[1:4] == ["#___#", "#S__#", "#X_O#"]


@pytest.mark.parametrize(
    ("board", "action"),
    [
        (["#####", "#P__#", "#_XO#", "#___#", "#####"], "up"),  # a wall
        (["#####", "#_X_#", "#_P_#", "#__O#", "#####"], "up"),  # a box against a wall
        (["#####", "#PXX#", "#OO_#", "#___#", "#####"], "right"),  # a box against a box
        (["#####", "#P__#", "#_XO#", "#___#", "#####"], "jump"),
        (["#####", "#P__#", "#_XO#", "#___#", "#####"], ""),
    ],
)
def test_what_cannot_move_is_invalid_and_changes_nothing(board, action):
    room = played(board)
    before = room.state()
    outcome = room.step(action)
    assert (outcome.action_valid, outcome.reward, outcome.terminated) == (False, 0.0, False)
    assert room.state() == before
    assert picture(room) == board


def test_words_may_be_written_in_capitals():
    assert played(CORRIDOR).step(" Right ").action_valid


def test_shaped_rewards_are_those_of_gym_sokoban():
    room = played(["#####", "#PX_#", "#OO_#", "#_X_#", "#####"], reward="shaped")
    assert room.step("up").reward == pytest.approx(-0.1)  # against the wall
    assert room.step("down").reward == pytest.approx(-0.1)
    two = played(["######", "#P_X_#", "#X__O#", "#O___#", "#____#", "######"], reward="shaped")
    assert two.step("down").reward == pytest.approx(0.9)
    assert two.step("down").reward == pytest.approx(-1.1)
    assert played(CORRIDOR, reward="shaped").step("right").reward == pytest.approx(-0.1)
    last = played(["#####", "#PXO#", "#___#", "#___#", "#####"], reward="shaped")
    assert last.step("right").reward == pytest.approx(10.9)


def test_a_dead_corner_ends_the_episode_only_where_that_is_wanted():
    board = ["#####", "#__O#", "#PX_#", "#___#", "#####"]
    corner = ["#####", "#_X_#", "#P__#", "#__O#", "#####"]
    assert not played(board, end_on_deadlock=True).step("right").terminated
    for wanted in (True, False):
        room = played(corner, end_on_deadlock=wanted)
        room.step("up")
        outcome = room.step("right")
        assert picture(room)[1] == "#_PX#"
        assert (outcome.terminated, outcome.won, outcome.reward) == (wanted, False, 0.0)


def test_from_a_dead_cell_no_search_brings_a_box_home():
    counted = 0
    for seed in range(15):
        environment = Sokoban(SokobanKwargs(size=(6,)))
        environment.reset(seed, "train")
        room = environment._room
        floor = set(range(36)) - room.walls
        assert not room.dead & (room.walls | room.targets)
        corners = {c for c in floor if {c - 1, c + 1} & room.walls and {c - 6, c + 6} & room.walls}
        assert corners - room.targets <= room.dead
        for box in room.dead:
            for player in floor - {box}:
                position = Position(player, frozenset([box]))
                assert solution(room.text(position).replace(" ", "").split("\n")) is None
                counted += 1
    assert counted > 500


@pytest.mark.parametrize(
    ("size", "boxes", "low", "high", "exact"),
    [(5, 1, 2, 6, True), (6, 1, 4, 12, True), (6, 2, 4, 12, False), (7, 2, 6, 14, False), (8, 3, 8, 10, False)],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_room_is_solved_by_search_within_its_moves(size, boxes, low, high, exact, split):
    kwargs = SokobanKwargs(size=(size,), boxes=(boxes,), min_moves=low, max_moves=high)
    for seed in range(12):
        room = Sokoban(kwargs)
        room.reset(seed, split)
        board = picture(room)
        assert "".join(board).count("X") == boxes
        assert sum("".join(board).count(symbol) for symbol in "OS") == boxes
        plan = solution(board)
        assert plan is not None
        assert (low if exact else 1) <= len(plan) <= high
        outcomes = [room.step(action) for action in plan]
        assert all(outcome.action_valid for outcome in outcomes)
        assert [outcome.reward for outcome in outcomes] == [0.0] * (len(plan) - 1) + [1.0]
        assert outcomes[-1].won


def test_larger_rooms_are_drawn_too():
    room = Sokoban(SokobanKwargs(size=(10,), boxes=(4,), min_moves=20, max_moves=30, max_turns=60))
    room.reset(0, "train")
    assert "".join(picture(room)).count("X") == 4


def test_going_backwards_finds_the_positions_from_which_a_step_leads_here():
    room, position = read(["#####", "#__O#", "#PX_#", "#___#", "#####"])
    before = room.before(position)
    assert len(before) == 2  # from above and from below; on the left is a wall, on the right a box
    for other in before:
        assert position in [room.after(other, step) for step in room.steps.values()]
    pulled, here = read(["#####", "#__O#", "#_PX#", "#___#", "#####"])
    assert Position(11, frozenset([12])) in pulled.before(here)


def test_a_start_has_no_box_on_a_target_or_there_is_none():
    room, _ = read(["#####", "#P_O#", "#_X_#", "#___#", "#####"])
    assert draw_start(random.Random(0), room, 40)[0] is None
    for seed in range(20):
        start, _ = draw_start(random.Random(seed), room, 3)
        assert start is not None
        assert not start.boxes & room.targets


def test_rooms_are_connected():
    assert largest_part([6, 7, 8, 12, 18], 5) == [6, 7, 8, 12]
    assert largest_part([], 5) == []


def test_the_splits_share_no_layout_and_one_seed_names_one_room():
    def layouts(split: str) -> set[tuple[object, object]]:
        found = set()
        for seed in range(150):
            room = Sokoban(SokobanKwargs())
            first = room.reset(seed, split)
            assert Sokoban(SokobanKwargs()).reset(seed, split) == first
            found.add((room._room.walls, room._room.targets))
        return found

    train, test = layouts("train"), layouts("test")
    assert not train & test
    assert min(len(train), len(test)) > 120


def test_equal_boards_are_equal_states_however_they_were_reached():
    one, other = played(CORRIDOR), played(CORRIDOR)
    one.step("down"), one.step("up")
    assert (one.state(), one._observation()) == (other.state(), other._observation())


def test_every_word_is_in_the_vocabulary():
    words = set(Sokoban.vocabulary())
    rng = random.Random(0)
    for seed in range(50):
        room = Sokoban(SokobanKwargs(size=(5, 6, 7), boxes=(1, 2), min_moves=2, max_moves=10))
        seen = room.reset(seed, rng.choice(["train", "test"]))
        for _ in range(10):
            assert words.issuperset(f"{seen.text} {seen.task} {' '.join(seen.admissible_actions)}".split())
            seen = room.step(rng.choice(seen.admissible_actions)).observation


@pytest.mark.parametrize("kwargs", [{"size": [4]}, {"size": []}, {"boxes": [0]}, {"min_moves": 13}, {"reward": "x"}])
def test_kwargs_that_make_no_room_are_refused(kwargs):
    with pytest.raises(ValidationError, match=next(iter(kwargs))):
        SokobanKwargs.model_validate(kwargs)


def test_a_room_that_cannot_be_drawn_is_refused_by_its_keys():
    room = Sokoban(SokobanKwargs(size=(5,), boxes=(4,)))
    with pytest.raises(KwargsError, match="size, boxes, min_moves, max_moves: no room of 5 with 4 boxes"):
        room.reset(0, "train")
