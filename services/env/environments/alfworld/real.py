"""ALFWorld's own engine: `alfworld`, `textworld` and Fast Downward, an extra that is not in the default install.

It must not be used from two threads, because its parser, the planner's options and stdout are globals of the process. A
worker carries out one order at a time, so its sessions take turns. Each session loads its own copy of the planner.
"""

import functools
import json
from collections.abc import Mapping
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

from services.env.environments.alfworld.game import Game
from services.env.environments.alfworld.pddl import problem

REQUIRES = ("alfworld", "textworld", "fast_downward")
WELCOME = "-= Welcome to TextWorld, ALFRED! =-"
HISTORY = ("checked", "examined", "not_")
"""Beginnings of facts that only record what was done; no command shows them."""


class RealHousehold:
    """One game being played by the real engine.

    Args:
        data: what a file game.tw-pddl holds: `pddl_domain`, `pddl_problem`, `grammar`.
    """

    def __init__(self, data: Mapping[str, str]) -> None:
        self._engine = _idle.pop() if _idle else _new_engine()
        self._engine.load(data)
        self._state = self._engine.reset()

    def intro(self) -> str:
        """The first thing that is said, without welcome and task."""
        return str(self._state.feedback).removeprefix(WELCOME).rpartition("Your task is to:")[0].strip()

    def commands(self) -> list[str]:
        """Everything that can be done now."""
        return [command.strip() for command in self._state.admissible_commands]

    def step(self, command: str) -> str:
        """Do it and tell what came of it."""
        self._state, _, _ = self._engine.step(command)
        return str(self._state.feedback)

    def solved(self) -> bool:
        """Whether the task is done."""
        return bool(self._state.won)

    def state(self) -> list[str]:
        """Every fact that holds, in order."""
        facts = (str(fact) for fact in self._state["_facts"])
        return sorted(fact for fact in facts if not fact.startswith(HISTORY))

    def close(self) -> None:
        """Leave the engine to the next session. To be called once, and last."""
        _idle.append(self._engine)


_idle: list[Any] = []
"""Engines without a session. Each holds its own copy of the planner's library, which cannot be unloaded: that leaves
an exit handler behind which crashes the process at its end."""


def _new_engine() -> Any:
    _remember()
    textworld = import_module("textworld")
    wrappers = import_module("alfworld.agents.environment.alfred_tw_env")
    infos = textworld.EnvInfos(won=True, admissible_commands=True)
    return wrappers.AlfredDemangler(import_module("textworld.envs").PddlEnv(infos))


def game_data(game: Game) -> dict[str, str]:
    """A game that was drawn here, as the real engine loads it."""
    info = import_module("alfworld.info")
    grammar = Path(info.ALFRED_TWL2_PATH).read_text().replace("UNKNOWN GOAL", game.task)
    return {"pddl_domain": Path(info.ALFRED_PDDL_PATH).read_text(), "pddl_problem": problem(game), "grammar": grammar}


def file_data(path: Path) -> dict[str, str]:
    """The content of a file game.tw-pddl."""
    data: dict[str, str] = json.loads(path.read_text())
    return data


@functools.cache
def _remember() -> None:
    """Let the engine keep what it would work out again at every reset and step from the same texts.

    It translates the problem four times to start a game and parses each command's template at every step; the answers
    depend on the texts alone. See docs/environments/alfworld.md for what this saves.
    """
    downward: Any = import_module("fast_downward")
    textgen: Any = import_module("textworld.envs.pddl.textgen")
    rule = import_module("textworld.logic").Rule
    downward.pddl2sas = functools.lru_cache(maxsize=16)(downward.pddl2sas)
    parse = functools.lru_cache(maxsize=65_536)(textgen._parse_and_convert)
    textgen._parse_and_convert = lambda *args, **kwargs: deepcopy(parse(*args, **kwargs))
    rule.parse_conjunctive_query = functools.lru_cache(maxsize=4096)(rule.parse_conjunctive_query)
