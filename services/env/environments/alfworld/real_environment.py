"""The same household, played by ALFWorld's own engine."""

from gigpo.env.environment import Capabilities, CostClass, Environment, Observation, Outcome
from services.env.environments.alfworld.choice import FULL_ROOMS, SPLITS, GameKwargs, named_game
from services.env.environments.alfworld.game import TASK_TYPES
from services.env.environments.alfworld.published import GAME_FILE
from services.env.environments.alfworld.real import REQUIRES, RealHousehold, file_data, game_data

LOOKING = frozenset({"look", "inventory", "help", "examine"})
"""Verbs that only tell something."""


class AlfworldReal(Environment):
    """The environment `alfworld` with the published engine (alfworld, textworld, Fast Downward) in place of ours: the
    same games, commands and texts, some hundred times slower."""

    Kwargs = GameKwargs
    splits = SPLITS
    capabilities = Capabilities(thread_safe=False, cost_class=CostClass.MODERATE)
    requires = REQUIRES
    extra = "alfworld"
    prompt_template = "alfworld/v1"
    examples = ({}, {"task_types": list(TASK_TYPES), "receptacles": [4, 6], "commands": "all"}, FULL_ROOMS)
    kwargs: GameKwargs
    _house: RealHousehold | None = None

    def reset(self, seed: int, split: str) -> Observation:
        game, folder = named_game(self.kwargs, seed, split)
        self._task = game.task
        self._house = RealHousehold(game_data(game) if folder is None else file_data(folder / GAME_FILE))
        return self._observe(self._house, self._house.intro())

    def step(self, action: str) -> Outcome:
        house, action = self._playing(), " ".join(action.split())
        valid = action in self._commands
        said = house.step(action if valid else "")
        won = house.solved()
        seen = self._observe(house, said)
        return Outcome(observation=seen, reward=float(won), won=won, terminated=won, action_valid=valid)

    def state(self) -> object:
        return self._task, self._playing().state()

    def close(self) -> None:
        if self._house is not None:
            self._house.close()
            self._house = None

    def _playing(self) -> RealHousehold:
        assert self._house is not None
        return self._house

    def _observe(self, house: RealHousehold, said: str) -> Observation:
        commands = house.commands()
        if self.kwargs.commands == "core":
            commands = [command for command in commands if command.split(" ", 1)[0] not in LOOKING]
        self._commands = tuple(commands)
        return Observation(text=said, task=self._task, admissible_actions=self._commands)
