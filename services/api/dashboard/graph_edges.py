"""The edges of an anchor graph as curves, and the positions of their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.api.dashboard.anchor_graph import Transition

LABEL_WIDTH, LABEL_HEIGHT = 90.0, 13.0
"""Room of an action's name."""


@dataclass(frozen=True)
class Edge:
    """A curve for a transition, the middle of it, and how thick it is."""

    transition: Transition
    path: str
    x: float
    y: float
    width: float


def with_labels_apart(edges: Sequence[Edge]) -> tuple[Edge, ...]:
    """The labels of one state's actions are shown together: those that would lie on each other move down."""
    placed: list[Edge] = []
    for edge in sorted(edges, key=lambda edge: (edge.transition.source, edge.y)):
        for other in placed:
            together = other.transition.source == edge.transition.source
            if together and abs(other.x - edge.x) < LABEL_WIDTH and abs(other.y - edge.y) < LABEL_HEIGHT:
                edge = replace(edge, y=other.y + LABEL_HEIGHT)
        placed.append(edge)
    return tuple(placed)


def edge_of(
    link: Transition, places: Mapping[int, tuple[float, float]], radius: Mapping[int, float], column: float
) -> Edge:
    """The curve of a transition: straight on to the next column, in an arch around those between, back over the top."""
    (x1, y1), (x2, y2) = places[link.source], places[link.target]
    width = min(1.0 + 0.7 * link.times, 6.0)
    if link.source == link.target:
        top = y1 - radius[link.source]
        return Edge(
            link,
            _curve((x1 - 6, top + 3), (x1 - 22, top - 26), (x1 + 22, top - 26), (x1 + 6, top + 3)),
            x1,
            top - 20,
            width,
        )
    if x2 > x1:
        x1, x2 = x1 + radius[link.source], x2 - radius[link.target]
        half = (x2 - x1) / 2
        arch = (
            0.0 if x2 - x1 < column else 0.16 * (x2 - x1) * (1 if link.source % 2 else -1)
        )  # around the columns between
        path = _curve((x1, y1), (x1 + half, y1 + arch), (x2 - half, y2 + arch), (x2, y2))
        return Edge(link, path, x1 + half, (y1 + y2) / 2 + 0.75 * arch, width)
    lift = 28.0 + 0.12 * (x1 - x2)  # back in time: over the states between
    side = 22.0 if x1 == x2 else 0.0
    path = _curve((x1, y1), (x1 + side, y1 - lift), (x2 + side, y2 - lift), (x2, y2))
    return Edge(link, path, (x1 + x2) / 2 + 0.75 * side, (y1 + y2) / 2 - 0.75 * lift, width)


def _curve(*points: tuple[float, float]) -> str:
    start, *rest = (f"{x:.1f} {y:.1f}" for x, y in points)
    return f"M{start} C{' '.join(rest)}"
