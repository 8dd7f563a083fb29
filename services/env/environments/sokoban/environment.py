"""Sokoban as an environment.

Transcript (seed 0, train; # wall, _ floor, O target, X box, P player, √ box on target, S player on target):

    # # # # # #       # # # # # #       # # # # # #       # # # # # #
    # _ # _ _ #       # _ # _ _ #       # _ # _ _ #       # _ # _ _ #
    # _ _ _ _ #       # _ _ P _ #       # _ _ _ _ #       # _ _ _ _ #
    # _ P X # #       # _ _ X # #       # _ _ P # #       # _ _ _ # #
    # # _ _ O #       # # _ _ O #       # # _ X O #       # # _ P √ #
    # # # # # #       # # # # # #       # # # # # #       # # # # # #
        up, right         down              left, down, right
"""

import random
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gigpo.env.environment import Environment, EnvironmentKwargs, KwargsError, Observation, Outcome
from services.env.environments.choices import Choices
from services.env.environments.sokoban.drawing import MAX_DRAWS, MAX_POSITIONS, draw_room, draw_start
from services.env.environments.sokoban.room import DIRECTIONS, SYMBOLS, Position, Room
from services.env.environments.splits import in_test_split

TASK = "push every box X onto a target O"
MOVE_REWARD, BOX_REWARD, SOLVED_REWARD = -0.1, 1.0, 10.0
"""Rewards of each move, of each box that gets onto a target (or, negative, off it), and of the end: those of
gym-sokoban."""


class SokobanKwargs(EnvironmentKwargs):
    """Settings of Sokoban."""

    size: Choices[Annotated[int, Field(ge=5, le=15)]] = Field(
        (6,), description="Side of the square, border included; one of these is drawn for each task."
    )
    boxes: Choices[Annotated[int, Field(ge=1, le=8)]] = Field(
        (1,), description="Boxes, and as many targets; one of these is drawn for each task."
    )
    min_moves: int = Field(4, ge=1, le=200, description="Moves of the solution by which a room was made, at least.")
    max_moves: int = Field(
        12, ge=1, le=200, description="The same at most. Mind max_turns; there may be a shorter solution."
    )
    reward: Literal["success", "shaped"] = Field(
        "success",
        description="success: 1 for a solved room; shaped: -.1 a move, 1 for a box onto a target, -1 off it, 10 at the "
        "end.",
    )
    end_on_deadlock: bool = Field(
        False, description="End the episode when a box stands where it can never be pushed onto a target from."
    )
    max_turns: int = Field(15, ge=1, le=100_000, description="The episode is truncated after this many steps.")

    @model_validator(mode="after")
    def _a_range_of_moves(self) -> Self:
        if self.min_moves > self.max_moves:
            raise ValueError(f"min_moves: want at most max_moves, {self.max_moves}, got {self.min_moves}")
        return self


class Sokoban(Environment):
    """Sokoban: push every box onto a target. Each room can be solved; test rooms have layouts that train never has."""

    Kwargs = SokobanKwargs
    kwargs: SokobanKwargs
    prompt_template = "sokoban/v1"
    examples = ({}, {"size": [6, 7], "boxes": [2], "reward": "shaped", "end_on_deadlock": True})

    def reset(self, seed: int, split: str) -> Observation:
        self._room, self._position = self._drawn(random.Random(f"sokoban/{split}/{seed}"), test=split == "test")
        return self._observation()

    def step(self, action: str) -> Outcome:
        room, before = self._room, self._position
        step = room.steps.get(action.strip().lower())
        after = None if step is None else room.after(before, step)
        if after is None:
            return Outcome(observation=self._observation(), reward=self._reward(before, before), action_valid=False)
        self._position = after
        won = room.solved(after)
        lost = self.kwargs.end_on_deadlock and bool(after.boxes & room.dead)
        return Outcome(
            observation=self._observation(),
            reward=self._reward(before, after),
            won=won,
            terminated=won or lost,
            action_valid=True,  # actions in capitals count too
        )

    def state(self) -> object:
        room = self._room
        return (*(sorted(cells) for cells in (room.walls, room.targets, self._position.boxes)), self._position.player)

    @classmethod
    def vocabulary(cls) -> list[str]:
        return sorted({*SYMBOLS, *DIRECTIONS, *TASK.split()})

    def _drawn(self, rng: random.Random, *, test: bool) -> tuple[Room, Position]:
        kwargs = self.kwargs
        size, boxes = rng.choice(kwargs.size), rng.choice(kwargs.boxes)
        looked_at = 0
        for _ in range(MAX_DRAWS):
            room = draw_room(rng, size, boxes)
            if room is None or in_test_split(f"{size} {sorted(room.walls)} {sorted(room.targets)}") != test:
                continue
            start, positions = draw_start(rng, room, rng.randint(kwargs.min_moves, kwargs.max_moves))
            if start is not None:
                return room, start
            looked_at += positions
            if looked_at > MAX_POSITIONS:
                break
        raise KwargsError(
            f"size, boxes, min_moves, max_moves: no room of {size} with {boxes} boxes and {kwargs.min_moves} to "
            f"{kwargs.max_moves} moves was found"
        )

    def _reward(self, before: Position, after: Position) -> float:
        won = self._room.solved(after)
        if self.kwargs.reward == "success":
            return float(won)
        placed = len(after.boxes & self._room.targets) - len(before.boxes & self._room.targets)
        return MOVE_REWARD + BOX_REWARD * placed + SOLVED_REWARD * won

    def _observation(self) -> Observation:
        room, position = self._room, self._position
        able = (name for name in DIRECTIONS if room.after(position, room.steps[name]) is not None)
        return Observation(text=room.text(position), task=TASK, admissible_actions=tuple(able))
