"""The household as an environment, played by our own engine.

Transcript (task: put a book in shelf; three receptacles, core commands):

    You are in the middle of a room. Looking quickly around you, you see a desk 1, a drawer 1, and a shelf 1.
    go to drawer 1              You arrive at drawer 1. The drawer 1 is closed.
    open drawer 1               You open the drawer 1. The drawer 1 is open. In it, you see a book 1.
    take book 1 from drawer 1   You pick up the book 1 from the drawer 1.
    go to shelf 1               You arrive at shelf 1. On the shelf 1, you see nothing.
    move book 1 to shelf 1      You move the book 1 to the shelf 1.
"""

from typing import Literal

from pydantic import Field

from gigpo.env.environment import Environment, Observation, Outcome
from services.env.environments.alfworld.assignment import PHRASES
from services.env.environments.alfworld.choice import FULL_ROOMS, SPLITS, GameKwargs, named_game
from services.env.environments.alfworld.engine import CONDITIONS, HELP, NOTHING_HAPPENS, Command, Household
from services.env.environments.alfworld.floor_plans import PLANS
from services.env.environments.alfworld.game import CHANGE_OF, TASK_TYPES

SHOWN = {"clean": "clean", "hot": "hot", "cool": "cold", "sliced": "sliced", "toggled": "on"}
"""Mark -> the word for it in the view `state`."""
HIGHEST_NUMBER = 60
SENTENCES = (
    "You are in the middle of a room. Looking quickly around you, you see nothing. You arrive at On the The is closed. "
    "is open. In it, You open the You close the You pick up the from the You move the to the You turn on the using the "
    "You sliced the with the You are facing the Next to it, You are carrying: You are not carrying anything. This is a "
    "normal There's nothing special about Nothing happens. This is on. and at see hold checked . , go to open close "
    "take from move use with look inventory examine help slice heat clean cool closed middle nothing"
)


class AlfworldKwargs(GameKwargs):
    """Settings of the household."""

    view: Literal["feedback", "state"] = Field(
        "feedback",
        description="feedback: what the command led to, as in ALFWorld; state: what is around, what is held and which "
        "places were looked into, for agents without memory.",
    )


class Alfworld(Environment):
    """ALFWorld's household tasks in text: rooms of the official floor plans from 3 receptacles up, or the user's own
    copy of the published games. The valid splits ask for what train never asks for, valid_unseen in other rooms."""

    Kwargs = AlfworldKwargs
    splits = SPLITS
    kwargs: AlfworldKwargs
    prompt_template = "alfworld/v1"
    examples = (
        {},
        {"view": "state", "receptacles": [4, 6], "task_types": list(TASK_TYPES), "commands": "all"},
        {"receptacles": [3], "task_types": list(CHANGE_OF), "commands": "all"},
        FULL_ROOMS,
    )

    def reset(self, seed: int, split: str) -> Observation:
        game, _ = named_game(self.kwargs, seed, split)
        self._house = Household(game)
        return self._observe(self._house.intro())

    def step(self, action: str) -> Outcome:
        command = self._commands.get(" ".join(action.split()))
        said = NOTHING_HAPPENS if command is None else command()
        won = command is not None and self._house.solved()
        seen = self._observe(said)
        return Outcome(observation=seen, reward=float(won), won=won, terminated=won, action_valid=command is not None)

    def state(self) -> object:
        game, checked = self._house.game, self._house.visited if self.kwargs.view == "state" else ()
        things = [(name, thing.places) for name, thing in game.things.items()]
        return game.task, list(game.receptacles), things, self._house.state(), sorted(checked)

    @classmethod
    def vocabulary(cls) -> list[str]:
        numbers = {f"{number}{mark}" for number in range(1, HIGHEST_NUMBER + 1) for mark in ("", ",", ".")}
        phrases = " ".join(phrase for phrases in PHRASES.values() for phrase in phrases)
        conditions = " ".join(words for _, words in CONDITIONS)
        texts = f"{SENTENCES} {HELP} {phrases} {conditions} {' '.join(SHOWN.values())} put in/on loc"
        return sorted({*texts.split(), *numbers, *PLANS.classes} - {"{target}", "{goal}"})

    def _observe(self, said: str) -> Observation:
        house = self._house
        self._commands: dict[str, Command] = house.commands()
        if self.kwargs.commands == "all":
            self._commands |= house.looking()
        return Observation(
            text=said if self.kwargs.view == "feedback" else self._everything(),
            task=house.game.task,
            admissible_actions=tuple(sorted(self._commands)),
        )

    def _everything(self) -> str:
        """The agent's place, the things that it sees or holds, the places searched: words without their marks."""
        house = self._house
        around = [f"at {place} . see {self._seen_in(place)} ." for place in house.here]
        around = around or [f"at middle . see {' , '.join(house.game.receptacles)} ."]
        held = self._marked(house.held) if house.held else "nothing"
        checked = " , ".join(name for name in house.game.receptacles if name in house.visited) or "nothing"
        return f"{' '.join(around)} hold {held} . checked {checked} ."

    def _seen_in(self, receptacle: str) -> str:
        if self._house.is_shut(receptacle):
            return "closed"
        return " , ".join(self._marked(name) for name in self._house.inside(receptacle)) or "nothing"

    def _marked(self, name: str) -> str:
        return " ".join([name, *(word for mark, word in SHOWN.items() if name in self._house.marks[mark])])
