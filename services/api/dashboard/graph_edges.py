"""The edges of an anchor graph as curves, and the positions of their labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from services.api.dashboard.anchor_graph import Transition

CHARACTER_WIDTH, LABEL_HEIGHT = 6.2, 13.0
"""Room of an action's name at its font size."""
LABEL_CHARACTERS = 22
"""Longer names are cut."""
_ALONG = (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74)
"""Places on a curve where its label may stand, the best first."""
_ASIDE = (0.0, -12.0, 12.0, -24.0, 24.0, -36.0, 36.0, -48.0, 48.0)
"""How far above or below the curve, where there is no room on it."""

Point = tuple[float, float]
Curve = tuple[Point, Point, Point, Point]


@dataclass(frozen=True)
class Box:
    """A rectangle that nothing may be written over."""

    x: float
    y: float
    """Its middle."""
    width: float
    height: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        wide = min((self.width + other.width) / 2 - abs(self.x - other.x), self.width, other.width)
        high = min((self.height + other.height) / 2 - abs(self.y - other.y), self.height, other.height)
        return max(wide, 0.0) * max(high, 0.0)


@dataclass(frozen=True)
class Edge:
    """A curve for a transition, the middle of its label, and how thick it is."""

    transition: Transition
    curve: Curve
    x: float
    y: float
    width: float

    @property
    def path(self) -> str:
        """The curve as SVG writes it."""
        start, *rest = (f"{x:.1f} {y:.1f}" for x, y in self.curve)
        return f"M{start} C{' '.join(rest)}"

    @property
    def label(self) -> Box:
        """Place of the action's name."""
        letters = min(len(self.transition.action), LABEL_CHARACTERS)
        return Box(self.x, self.y, max(letters, 1) * CHARACTER_WIDTH, LABEL_HEIGHT)


def with_labels_apart(edges: Sequence[Edge], nodes: Iterable[Box], width: float, height: float) -> tuple[Edge, ...]:
    """The labels where they lie on no node, on none of the labels that are shown with them, and inside the drawing.

    The labels of one state's actions are shown together. Where there is no such place, the one with the least overlap.
    """
    taken, placed = list(nodes), list[Edge]()
    for edge in sorted(edges, key=lambda edge: (edge.transition.source, edge.y)):
        together = [one.label for one in placed if one.transition.source == edge.transition.source]
        placed.append(min(_places(edge), key=lambda one: _cost(one.label, [*taken, *together], width, height)))
    return tuple(placed)


def _places(edge: Edge) -> Iterator[Edge]:
    """The best first: `min` takes the first of equals."""
    for aside in _ASIDE:
        for along in _ALONG:
            x, y = _at(edge.curve, along)
            yield replace(edge, x=x, y=y + aside)


def _cost(label: Box, taken: Sequence[Box], width: float, height: float) -> float:
    inside = Box(width / 2, height / 2, width, height)
    outside = label.width * label.height - label.overlap(inside)
    return outside + sum(label.overlap(other) for other in taken)


def _at(curve: Curve, t: float) -> Point:
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
    x, y = (sum(weight * point[axis] for weight, point in zip(weights, curve, strict=True)) for axis in (0, 1))
    return x, y


def edge_of(link: Transition, places: Mapping[int, Point], radius: Mapping[int, float], column: float) -> Edge:
    """The curve of a transition: straight on to the next column, in an arch around those between, back over the top."""
    curve = _curve(link, places, radius, column)
    x, y = _at(curve, 0.5)
    return Edge(link, curve, x, y, min(1.0 + 0.7 * link.times, 6.0))


def _curve(link: Transition, places: Mapping[int, Point], radius: Mapping[int, float], column: float) -> Curve:
    (x1, y1), (x2, y2) = places[link.source], places[link.target]
    if link.source == link.target:
        top = y1 - radius[link.source]
        return (x1 - 6, top + 3), (x1 - 22, top - 26), (x1 + 22, top - 26), (x1 + 6, top + 3)
    if x2 > x1:
        x1, x2 = x1 + radius[link.source], x2 - radius[link.target]
        half = (x2 - x1) / 2
        side = 1 if link.source % 2 else -1
        arch = 0.0 if x2 - x1 < column else 0.16 * (x2 - x1) * side  # around the columns between
        return (x1, y1), (x1 + half, y1 + arch), (x2 - half, y2 + arch), (x2, y2)
    lift = 28.0 + 0.12 * (x1 - x2)  # back in time: over the states between
    side = 22 if x1 == x2 else 0
    return (x1, y1), (x1 + side, y1 - lift), (x2 + side, y2 - lift), (x2, y2)
