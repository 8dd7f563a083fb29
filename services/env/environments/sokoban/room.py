"""The rules: positions, moves, and when a room is solved or lost."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

WALL, FLOOR, TARGET, BOX, BOX_ON_TARGET, PLAYER, PLAYER_ON_TARGET = SYMBOLS = "#_OX√PS"
DIRECTIONS = ("up", "down", "left", "right")


class Position(NamedTuple):
    """The part of a room that changes while it is played."""

    player: int
    boxes: frozenset[int]


@dataclass(frozen=True)
class Room:
    """The part that does not change. Cells are numbered row by row; the border is wall."""

    size: int
    walls: frozenset[int]
    targets: frozenset[int]

    @cached_property
    def steps(self) -> dict[str, int]:
        """Direction -> what it adds to a cell's number."""
        return dict(zip(DIRECTIONS, (-self.size, self.size, -1, 1), strict=True))

    @cached_property
    def dead(self) -> frozenset[int]:
        """Floor from which a box can never be pushed onto any target, wherever the player stands and alone in the room.
        Positions can be lost for other reasons too."""
        live, border = set(self.targets), list(self.targets)
        while border:
            cell = border.pop()
            for step in self.steps.values():
                came_from, stood_on = cell - step, cell - 2 * step
                if came_from not in live and came_from not in self.walls and stood_on not in self.walls:
                    live.add(came_from)
                    border.append(came_from)
        return frozenset(range(self.size**2)) - self.walls - live

    def after(self, position: Position, step: int) -> Position | None:
        """The position after a step, a box pushed where one is in the way; None where nothing can move."""
        to, beyond = position.player + step, position.player + 2 * step
        if to in self.walls:
            return None
        if to not in position.boxes:
            return Position(to, position.boxes)
        if beyond in self.walls or beyond in position.boxes:
            return None
        return Position(to, position.boxes - {to} | {beyond})

    def before(self, position: Position) -> list[Position]:
        """Every position from which one step leads to this one."""
        found = []
        for step in self.steps.values():
            stood_on, pushed = position.player - step, position.player + step
            if stood_on in self.walls or stood_on in position.boxes:
                continue
            found.append(Position(stood_on, position.boxes))
            if pushed in position.boxes:
                found.append(Position(stood_on, position.boxes - {pushed} | {position.player}))
        return found

    def solved(self, position: Position) -> bool:
        """Whether every box is on a target."""
        return position.boxes == self.targets

    def text(self, position: Position) -> str:
        """The board, a symbol for each cell."""
        lines = (range(row, row + self.size) for row in range(0, self.size**2, self.size))
        return "\n".join(" ".join(self._symbol(cell, position) for cell in line) for line in lines)

    def _symbol(self, cell: int, position: Position) -> str:
        on_target = cell in self.targets
        if cell in self.walls:
            return WALL
        if cell == position.player:
            return PLAYER_ON_TARGET if on_target else PLAYER
        if cell in position.boxes:
            return BOX_ON_TARGET if on_target else BOX
        return TARGET if on_target else FLOOR
