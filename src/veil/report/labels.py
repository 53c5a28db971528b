"""Placing point labels in a plot so that none covers another, a point or an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import cos, pi, sin


@dataclass(frozen=True)
class Box:
    """An axis-parallel rectangle, in pixels."""

    x0: float
    y0: float
    x1: float
    y1: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return max(0.0, width) * max(0.0, height)

    @property
    def area(self) -> float:
        return (self.x1 - self.x0) * (self.y1 - self.y0)


DISTANCES = (11.0, 20.0, 32.0, 48.0, 70.0, 100.0)
ANGLES = tuple(k * pi / 8 for k in (2, -2, 6, -6, 0, 8, 4, -4, 1, -1, 7, -7, 3, -3, 5, -5))


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    bounds: Box,
) -> list[Box]:
    """One box for each label, near its point.

    Greedy: labels in the most crowded places choose first, each taking the nearest of some
    hundred positions that covers least.

    Args:
        points: (x, y) of each point.
        sizes: (width, height) of each label.
        obstacles: what should not be covered either (points, intervals, lines).
        bounds: labels stay inside.

    Returns:
        The boxes, in the order of `points`.
    """
    crowding = [sum(1 / (1 + (x - u) ** 2 + (y - v) ** 2) for u, v in points) for x, y in points]
    placed: dict[int, Box] = {}
    for index in sorted(range(len(points)), key=lambda i: -crowding[i]):
        taken = [*obstacles, *placed.values()]
        candidates = [
            _beside(points[index], sizes[index], distance, angle)
            for distance, angle in product(DISTANCES, ANGLES)
        ]
        placed[index] = min(candidates, key=lambda box: _cost(box, taken, bounds))
    return [placed[index] for index in range(len(points))]


def _cost(box: Box, taken: Sequence[Box], bounds: Box) -> float:
    """Area covered or out of bounds; `min` keeps the first, hence nearest, of equal positions."""
    outside = box.area - box.overlap(bounds)
    return sum(box.overlap(other) for other in taken) + 10 * outside


def _beside(
    point: tuple[float, float], size: tuple[float, float], distance: float, angle: float
) -> Box:
    """The label's box, its nearest edge or corner `distance` from the point."""
    x, y = point[0] + distance * cos(angle), point[1] + distance * sin(angle)
    width, height = size
    x0 = x - width * (1 - cos(angle)) / 2
    y0 = y - height * (1 - sin(angle)) / 2
    return Box(x0, y0, x0 + width, y0 + height)
