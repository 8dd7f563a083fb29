"""Where household games come from: drawn in the official floor plans, or read from the published files."""

import json
import random
from dataclasses import replace

import pytest
from household_expert import solution
from household_games import GRAMMAR, publish
from published_game import publish_made_up_game

from services.env.environments.alfworld.assignment import is_held_out
from services.env.environments.alfworld.engine import Household
from services.env.environments.alfworld.environment import Alfworld
from services.env.environments.alfworld.floor_plans import LAMP_STANDS, LIT, PLANS
from services.env.environments.alfworld.game import TASK_TYPES, Game, class_of, numbered
from services.env.environments.alfworld.generator import Layout, draw_game
from services.env.environments.alfworld.published import NoGameError, game_folders, pick_folder, read_game
from services.env.workers.registry import valid_kwargs

MINI, FULL = Layout((3,), 3), Layout("all", "all")


def drawn(seed: int, split: str = "train", layout: Layout = FULL, task_types: tuple[str, ...] = TASK_TYPES) -> Game:
    return draw_game(random.Random(seed), task_types, split, layout)


def seen_alike(game: Game) -> Game:
    """The game with its locations renamed: no text tells them."""
    places = {location: names[0] for location, names in game.at.items()}
    receptacles = {name: replace(one, location=places[one.location]) for name, one in game.receptacles.items()}
    things = {name: replace(one, location=places.get(one.location, "")) for name, one in game.things.items()}
    return replace(game, receptacles=receptacles, things=things, start="")


def test_the_floor_plans_are_those_of_the_official_split():
    assert len(PLANS.rooms) == 120
    assert sum(room.unseen for room in PLANS.rooms) == 24
    kinds = {kind: sum(room.kind == kind for room in PLANS.rooms) for kind in {room.kind for room in PLANS.rooms}}
    assert kinds == dict.fromkeys(("kitchen", "livingroom", "bedroom", "bathroom"), 30)


def test_the_tables_agree_with_each_other():
    objects = {name for room in PLANS.rooms for name in room.objects}
    receptacles = {name for room in PLANS.rooms for name in room.receptacles}
    assert receptacles <= set(PLANS.fits)
    assert objects <= set(PLANS.classes)
    assert objects <= {name for kinds in PLANS.fits.values() for name in kinds}
    assert objects >= LIT
    assert receptacles >= LAMP_STANDS | PLANS.openable
    assert all(kinds <= objects for kinds in PLANS.able.values())


def test_names_are_counted_downwards_as_the_real_engine_does():
    assert numbered(["drawer", "bed", "drawer"]) == ["bed 1", "drawer 2", "drawer 1"]


@pytest.mark.parametrize("layout", [MINI, FULL])
def test_splits_differ_in_rooms_and_in_what_they_ask_for(layout):
    for split, asks in (("train", False), ("valid_seen", True), ("valid_unseen", True)):
        games = [drawn(seed, split, layout) for seed in range(200)]
        assert {is_held_out(game.target, game.goal) for game in games} == {asks}
        assert {game.task_type for game in games} == set(TASK_TYPES)
    full = [{class_of(name) for name in drawn(seed, "valid_unseen").receptacles} for seed in range(50)]
    unseen = [set(room.receptacles) for room in PLANS.rooms if room.unseen]
    assert all(kinds in unseen for kinds in full)


def test_one_seed_names_one_game():
    assert drawn(3) == drawn(3)
    assert len({(drawn(seed, layout=MINI).task, *drawn(seed, layout=MINI).receptacles) for seed in range(100)}) > 80


def test_full_rooms_keep_the_whole_floor_plan():
    sizes = {sum(room.receptacles.values()) for room in PLANS.rooms if not room.unseen}
    assert {len(drawn(seed).receptacles) for seed in range(40)} <= sizes
    assert {len(drawn(seed, layout=MINI).receptacles) for seed in range(40)} == {3}


@pytest.mark.parametrize("seed", range(12))
def test_a_game_is_read_from_its_published_file_as_it_was(seed, tmp_path):
    game = drawn(seed, task_types=(TASK_TYPES[seed % 6],), layout=FULL if seed < 6 else MINI)
    found = read_game(publish(game, tmp_path / "trial"))
    kinds = {thing.kind for thing in game.things.values()}
    here = {receptacle.kind for receptacle in game.receptacles.values()}
    fits = {kind: held for kind in here if (held := game.fits.get(kind, frozenset()) & kinds)}
    assert seen_alike(found) == seen_alike(replace(game, fits=fits))


PUBLISHED_GRAMMAR = GRAMMAR % (
    "put a hot potato in diningtable",
    "lend",
    "You put the {o.name} in/on the {r.name}.",
    "put {o} in/on {r}",
)


def test_a_game_in_exactly_the_published_layout_is_read_and_solved(tmp_path):
    publish_made_up_game(tmp_path / "json_2.1.1", PUBLISHED_GRAMMAR)
    kwargs = {"data": "json_2.1.1", "task_types": TASK_TYPES, "commands": "all"}
    session = Alfworld(valid_kwargs(Alfworld, json.dumps(kwargs), str(tmp_path)))
    first = session.reset(0, "train")
    seen = "a cabinet 2, a cabinet 1, a countertop 1, a diningtable 1, a fridge 1, a microwave 1, and a sinkbasin 1"
    assert first.text == f"You are in the middle of a room. Looking quickly around you, you see {seen}."
    assert first.task == "put a hot potato in diningtable"
    told = {}
    for action in ("go to countertop 1", "open microwave 1", "examine cabinet 2", "take potato 1 from microwave 1"):
        told[action] = session.step(action).observation.text.partition(". ")[2]
    # it counts as being on the countertop too, whatever is done with it
    assert told["go to countertop 1"] == "On the countertop 1, you see a potato 1."
    assert session.step("examine countertop 1").observation.text == "On the countertop 1, you see a potato 1."
    for action in ("heat potato 1 with microwave 1", "go to diningtable 1", "put potato 1 in/on diningtable 1"):
        outcome = session.step(action)
        assert outcome.action_valid, action
    assert (outcome.won, outcome.reward) == (True, 1.0)


def test_older_files_are_read_with_their_own_wording(tmp_path):
    game = read_game(publish(drawn(0, layout=MINI, task_types=TASK_TYPES[:1]), tmp_path / "trial", old=True))
    assert (game.wording.put, game.wording.helps) == ("put {o} in/on {r}", False)
    house = Household(game)
    told = [house.commands()[command]() for command in solution(house)]
    assert told[0].startswith("You arrive at loc ")
    assert " in/on the " in told[-1]
    assert house.solved()


def test_a_tree_is_read_in_order_of_its_paths_and_seeds_go_through_it(tmp_path):
    games = [drawn(seed, layout=MINI, task_types=TASK_TYPES[:1]) for seed in range(5)]
    for number in (3, 0, 4, 1, 2):
        publish(games[number], tmp_path / "mine" / "train" / f"task-{number}" / "trial", solvable=number != 1)
    publish(games[0], tmp_path / "mine" / "train" / "pick-movable" / "trial")
    assert [folder.parent.name for folder in game_folders(tmp_path / "mine", "train")] == [
        f"task-{n}" for n in range(5)
    ]
    kwargs = valid_kwargs(Alfworld, json.dumps({"data": "mine"}), str(tmp_path))
    tasks = [Alfworld(kwargs).reset(seed, "train").task for seed in range(6)]
    assert tasks == [games[number].task for number in (0, 2, 2, 3, 4, 0)]


def test_what_is_no_game_is_refused_by_name(tmp_path):
    with pytest.raises(NoGameError, match="no train/"):
        game_folders(tmp_path, "train")
    with pytest.raises(NoGameError, match="trial"):
        read_game(tmp_path / "trial")
    spoilt = publish(drawn(0), tmp_path / "spoilt", pddl_problem="(:init) (:goal)")
    with pytest.raises(NoGameError, match="spoilt"):
        read_game(spoilt)


def test_words_above_the_data_leave_no_game_out(tmp_path):
    root = tmp_path / "my-movable-disk" / "json_2.1.1"
    folder = publish(drawn(0, layout=MINI), root / "train" / "task" / "trial")
    assert game_folders(root, "train") == (folder,)


@pytest.mark.parametrize("file", ["game.tw-pddl", "traj_data.json"])
@pytest.mark.parametrize(("spoilt", "words"), [('{"task_type"', "JSONDecodeError"), ("[]", "want a JSON object")])
def test_a_spoilt_file_is_named(file, spoilt, words, tmp_path):
    folder = publish(drawn(0, layout=MINI), tmp_path / "train" / "task" / "trial")
    (folder / file).write_text(spoilt)
    with pytest.raises(NoGameError, match=f"trial/{file}: {words}"):
        pick_folder(tmp_path, "train", 0, TASK_TYPES)
    with pytest.raises(NoGameError, match=f"trial/{file}: {words}"):
        read_game(folder)
