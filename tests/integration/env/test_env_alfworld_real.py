"""Our household engine against ALFWorld's own: every text, every list of commands, every success, step by step.

Skipped where the extra is not installed: pip install 'gigpo-platform[alfworld]' (Fast Downward is compiled, minutes).
"""

import json
import logging
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from importlib.util import find_spec

import pytest

from services.env.environments.alfworld.choice import GameKwargs
from services.env.environments.alfworld.engine import NOTHING_HAPPENS, Household
from services.env.environments.alfworld.environment import Alfworld, AlfworldKwargs
from services.env.environments.alfworld.game import TASK_TYPES, Game
from services.env.environments.alfworld.generator import Layout, draw_game
from services.env.environments.alfworld.published import read_game
from services.env.environments.alfworld.real import REQUIRES, RealHousehold, file_data, game_data
from services.env.environments.alfworld.real_environment import AlfworldReal
from tests.unit.env.published_game import publish_made_up_game

pytestmark = pytest.mark.skipif(
    any(find_spec(module) is None for module in REQUIRES),
    reason="ALFWorld's engine is not installed: pip install 'gigpo-platform[alfworld]'",
)
log = logging.getLogger(__name__)
SPLITS = ("train", "valid_seen", "valid_unseen")
DOING = {"heat", "cool", "clean", "use", "slice", "take", "move", "open"}
OLD = (
    ("You arrive at {r.name}.", "You arrive at {lend.name}."),
    ("move {o} to {r}", "put {o} in/on {r}"),
    ("You move the {o.name} to the {r.name}.", "You put the {o.name} in/on the {r.name}."),
)
"""What older versions of the data say."""


@dataclass
class Walk:
    """Lead both engines through one game after the other, by the same random commands."""

    steps: int = 0
    verbs: Counter[str] = field(default_factory=Counter)

    def through(self, real: RealHousehold, ours: Household, rng: random.Random, steps: int) -> None:
        assert ours.intro() == real.intro()
        for _ in range(steps):
            able = ours.commands() | ours.looking()
            assert sorted(able) == real.commands()
            command = self._choice(sorted(able), rng)
            told = able[command]() if command in able else NOTHING_HAPPENS
            assert told == real.step(command), command
            assert ours.solved() == real.solved(), command
            self.steps += 1
            if real.solved():
                break
        real.close()

    def _choice(self, able: list[str], rng: random.Random) -> str:
        """A random command; the rarer verbs of those that change something more often."""
        if rng.random() < 0.03:
            return "dance"
        by_verb = defaultdict(list)
        for command in able:
            by_verb[command.split()[0]].append(command)
        doing = sorted(set(by_verb) & DOING)
        if doing and rng.random() < 0.65:
            able = by_verb[min(doing, key=lambda verb: self.verbs[verb] + rng.random() * 3)]
        command = rng.choice(able)
        self.verbs[command.split()[0]] += 1
        return command


def drawn(seed: int, layout: Layout) -> Game:
    return draw_game(random.Random(seed), (TASK_TYPES[seed % 6],), SPLITS[seed // 6 % 3], layout)


def crowded(game: Game, rng: random.Random) -> Game:
    """Make a game like the published ones: receptacles share locations, some are open, things lie elsewhere than they
    stand, or in two receptacles."""
    places = [f"spot {number}" for number in range(len(game.receptacles) // 2)]
    receptacles = {
        name: replace(one, location=rng.choice(places), opened=one.openable and rng.random() < 0.2)
        for name, one in game.receptacles.items()
    }
    twice = {name: (rng.choice([*receptacles]),) if rng.random() < 0.2 else () for name in game.things}
    things = {
        name: replace(
            one,
            places=tuple(dict.fromkeys([*one.places, *twice[name]])),
            location=rng.choice([receptacles[one.places[0]].location] * 4 + places),
        )
        for name, one in game.things.items()
    }
    return replace(game, receptacles=receptacles, things=things)


@dataclass(frozen=True)
class Rooms:
    """Games of one kind to walk through, at most `steps` steps each."""

    layout: Layout
    games: int
    steps: int
    share_locations: bool = False
    must_do: frozenset[str] = frozenset(DOING)


SMALL = Rooms(Layout((3, 4, 6), 4), games=24, steps=40)
SHARED = Rooms(Layout((4, 6, 8), 6), games=24, steps=40, share_locations=True)
FULL = Rooms(Layout("all", "all"), games=12, steps=30, must_do=frozenset({"take", "move", "open"}))


@pytest.mark.timeout(600)  # the real engine does 46 to 213 steps in a CPU second
def test_our_engine_says_what_the_real_one_says_for_2000_steps():
    total = 0
    for rooms in (SMALL, SHARED, FULL):
        walk = Walk()
        for seed in range(rooms.games):
            rng = random.Random(seed)
            game = drawn(seed, rooms.layout)
            game = crowded(game, rng) if rooms.share_locations else game
            walk.through(RealHousehold(game_data(game)), Household(game), rng, rooms.steps)
        log.info("%d steps without a difference: %s", walk.steps, dict(walk.verbs))
        assert set(walk.verbs) >= rooms.must_do, rooms
        total += walk.steps
    assert total >= 2_000


@pytest.mark.parametrize("old", [False, True], ids=["of today", "of older data"])
def test_published_files_are_played_as_the_real_engine_plays_them(old, tmp_path):
    walk = Walk()
    for seed in range(6):
        game, rng = crowded(drawn(seed, Layout((5,), 6)), random.Random(seed)), random.Random(seed)
        data = game_data(game)
        for new, older in OLD if old else ():
            data["grammar"] = data["grammar"].replace(new, older)
        look = game.task_type == "look_at_obj_in_light"
        wanted = {"object_target": game.target, "parent_target": game.goal, "toggle_target": game.goal if look else ""}
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "game.tw-pddl").write_text(json.dumps(data))
        (folder / "traj_data.json").write_text(json.dumps({"task_type": game.task_type, "pddl_params": wanted}))
        real = RealHousehold(file_data(folder / "game.tw-pddl"))
        walk.through(real, Household(read_game(folder)), rng, 25)
    log.info("%d steps without a difference", walk.steps)
    assert walk.steps > 75


def test_a_game_in_the_published_layout_is_played_as_the_real_engine_plays_it(tmp_path):
    words = game_data(drawn(0, SMALL.layout))
    grammar = re.sub(r"Your task is to: [^\"]*", "Your task is to: put a hot potato in diningtable.", words["grammar"])
    folder = publish_made_up_game(tmp_path, grammar, words["pddl_domain"])
    walk = Walk()
    for seed in range(4):
        walk.through(
            RealHousehold(file_data(folder / "game.tw-pddl")), Household(read_game(folder)), random.Random(seed), 60
        )
    log.info("%d steps without a difference: %s", walk.steps, dict(walk.verbs))
    assert walk.steps > 100


def test_real_sessions_that_take_turns_do_not_disturb_each_other():
    kwargs = GameKwargs(task_types=TASK_TYPES, receptacles=(4,), commands="all")
    games = [AlfworldReal(kwargs) for _ in range(6)]
    seen = [game.reset(seed, "train") for seed, game in enumerate(games)]
    ours = [Alfworld(AlfworldKwargs.model_validate(kwargs.model_dump())) for _ in games]
    assert seen == [game.reset(seed, "train") for seed, game in enumerate(ours)]
    rng = random.Random(0)
    for _ in range(12):
        actions = [rng.choice(observation.admissible_actions) for observation in seen]
        outcomes = [game.step(action) for game, action in zip(games, actions, strict=True)]
        assert outcomes == [game.step(action) for game, action in zip(ours, actions, strict=True)]
        seen = [outcome.observation for outcome in outcomes]
    for game in games:
        game.close()


def test_looking_about_does_not_change_the_real_engines_state():
    game = AlfworldReal(GameKwargs(commands="all"))
    game.reset(0, "train")
    before = game.state()
    for action in ("look", "inventory", "help", "dance"):
        game.step(action)
    assert game.state() == before
    game.step(game._commands[0])
    game.close()
