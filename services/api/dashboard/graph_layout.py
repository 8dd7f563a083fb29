"""The layout of an anchor graph's states: columns are steps, so that time runs from left to right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.api.dashboard.anchor_graph import SOLVED, UNSOLVED, AnchorGraph, GraphState, Transition
from services.api.dashboard.graph_edges import Box, Edge, edge_of, with_labels_apart

MOST_STATES = 160
"""Most circles that are drawn, as nobody can read more; the most visited states stay, and the table has them all."""
ROW, MARGIN = 92.0, 52.0
"""Distances, in the units of the drawing."""
WIDTH = 800.0
"""The width that the columns share where there are few; they don't come nearer than `COLUMN_LEAST`."""
COLUMN_LEAST, COLUMN_MOST = 92.0, 190.0
_SWEEPS = 4
"""Passes that bring connected states near each other; the order settles after a few."""
SHADES = 5


@dataclass(frozen=True)
class Node:
    """A circle for a state, or the square of an ending."""

    label: int
    x: float
    y: float
    radius: float
    return_shade: int
    """0 (lowest of the group) to SHADES - 1."""
    spread_shade: int
    state: GraphState | None
    """None: an ending."""


@dataclass(frozen=True)
class Drawing:
    """Everything in place."""

    width: float
    height: float
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    axis: tuple[tuple[float, int], ...]
    """The place of a column of states, and the step at which they were first reached."""
    hidden: int
    """States that were left out."""


def drawing(graph: AnchorGraph) -> Drawing:
    """Lay the graph out."""
    shown = sorted(graph.states, key=lambda state: (-state.seen.visits, state.label))[:MOST_STATES]
    kept = {state.label for state in shown} | {SOLVED, UNSOLVED}
    links = [one for one in graph.transitions if one.source in kept and one.target in kept]
    columns = _columns(sorted(shown, key=lambda state: state.label), links)
    column = min(max((WIDTH - 2 * MARGIN) / max(len(columns) - 1, 1), COLUMN_LEAST), COLUMN_MOST)
    height = max((len(labels) for labels in columns), default=1) * ROW + 2 * MARGIN
    places = {
        label: (MARGIN + x * column, (height - (len(labels) - 1) * ROW) / 2 + y * ROW)
        for x, labels in enumerate(columns)
        for y, label in enumerate(labels)
    }
    nodes = _nodes(shown, places)
    radius = {node.label: node.radius for node in nodes}
    width = 2 * MARGIN + max(len(columns) - 1, 0) * column
    boxes = [_box(node) for node in nodes]
    edges = with_labels_apart([edge_of(one, places, radius, column) for one in links], boxes, width, height)
    axis = sorted({(places[state.label][0], state.depth) for state in shown})
    return Drawing(width, height, nodes, edges, tuple(axis), len(graph.states) - len(shown))


def _columns(states: Sequence[GraphState], links: Sequence[Transition]) -> list[list[int]]:
    depths = sorted({state.depth for state in states})
    columns = [[state.label for state in states if state.depth == depth] for depth in depths]
    endings = {link.target for link in links} & {SOLVED, UNSOLVED}
    columns.append(sorted(endings, reverse=True))
    neighbours: dict[int, list[int]] = {}
    for link in links:
        neighbours.setdefault(link.source, []).append(link.target)
        neighbours.setdefault(link.target, []).append(link.source)
    for _ in range(_SWEEPS):
        for column in columns:
            position = {label: y - (len(c) - 1) / 2 for c in columns for y, label in enumerate(c)}
            column.sort(key=lambda label: _barycentre(label, neighbours.get(label, ()), position))
    return [column for column in columns if column]


def _barycentre(label: int, neighbours: Sequence[int], position: Mapping[int, float]) -> float:
    return sum(position[one] for one in neighbours) / len(neighbours) if neighbours else position[label]


def _nodes(states: Sequence[GraphState], places: Mapping[int, tuple[float, float]]) -> tuple[Node, ...]:
    returns = [state.seen.return_mean for state in states]
    widest = max((state.spread for state in states), default=0.0)
    nodes = [
        Node(
            label=state.label,
            x=places[state.label][0],
            y=places[state.label][1],
            radius=min(8 + 4.0 * math.sqrt(state.seen.visits), 28),
            return_shade=_shade(state.seen.return_mean, min(returns), max(returns)),
            spread_shade=_shade(state.spread, 0.0, widest),
            state=state,
        )
        for state in sorted(states, key=lambda state: (state.depth, places[state.label][1]))
    ]
    endings = [Node(label, *places[label], 13, 0, 0, None) for label in (SOLVED, UNSOLVED) if label in places]
    return (*nodes, *endings)


def _box(node: Node) -> Box:
    side = 2 * node.radius + 4
    if node.state is not None:
        return Box(node.x, node.y, side, side)
    return Box(node.x, node.y + 8, 64, side + 16)  # its name stands below it


def _shade(value: float, low: float, high: float) -> int:
    if high <= low:
        return 0
    return min(int((value - low) / (high - low) * SHADES), SHADES - 1)
