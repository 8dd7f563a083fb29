"""Draws solvable rooms by playing backwards from the solved state.

The search visits, layer by layer, all positions that are one more move away from the solved state. It continues with a
part of a layer that gets too wide; then a solution may be shorter than the number of moves, never longer.
"""

import random

from services.env.environments.sokoban.room import Position, Room

WALL_SHARE = 0.2
"""Share of the cells inside the border that are walls."""
MAX_WIDTH = 400
"""Positions of a layer that are followed; enough for every position of small rooms with one box."""
MAX_DRAWS = 2000
"""Rooms drawn before giving up; a few to a few dozen are needed."""
MAX_POSITIONS = 1_000_000
"""Positions looked at before giving up, some 10 CPU seconds; 8x8 with three boxes takes a few thousand."""


def draw_room(rng: random.Random, size: int, boxes: int) -> Room | None:
    """A connected room with as many targets as boxes; None where the draw left too little floor."""
    cells = [row * size + column for row in range(1, size - 1) for column in range(1, size - 1)]
    floor = largest_part([cell for cell in cells if rng.random() >= WALL_SHARE], size)
    if len(floor) < 2 * boxes + 2:
        return None
    return Room(size, frozenset(range(size**2)) - frozenset(floor), frozenset(rng.sample(floor, boxes)))


def draw_start(rng: random.Random, room: Room, moves: int) -> tuple[Position | None, int]:
    """A position that `moves` moves solve, no box on a target, or None; and how many positions were looked at."""
    floor = sorted(set(range(room.size**2)) - room.walls - room.targets)
    layer = [Position(player, room.targets) for player in floor]
    seen = set(layer)
    for _ in range(moves):
        further = dict.fromkeys(before for position in layer for before in room.before(position))
        layer = [position for position in further if position not in seen]
        seen.update(layer)
        if len(layer) > MAX_WIDTH:
            layer = rng.sample(layer, MAX_WIDTH)
    starts = [position for position in layer if not position.boxes & room.targets]
    return (rng.choice(starts) if starts else None), len(seen)


def largest_part(cells: list[int], size: int) -> list[int]:
    """The most cells that can be walked between, in order of number."""
    left, largest = set(cells), set[int]()
    for cell in cells:
        if cell not in left:
            continue
        part, border = {cell}, [cell]
        left.discard(cell)
        while border:
            at = border.pop()
            for neighbour in (at - size, at + size, at - 1, at + 1):
                if neighbour in left:
                    left.discard(neighbour)
                    part.add(neighbour)
                    border.append(neighbour)
        largest = max(largest, part, key=len)
    return sorted(largest)
