"""toy.json: what the experiment in the plane measured, as data. Its figure reads nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from veil.records import Finite, Frozen

LEVEL = 0.95


class Cell(Frozen):
    """One row of the experiment at one budget; every figure once for each run, on held-out points.

    Attributes:
        row: what was trained ("filter, entropy").
        epsilon: the budget, a mean distance.
        leak: accuracy of a fresh adversary, in [0, 1].
        distance: mean length of the points' ways, to be compared with epsilon.
        utility: 1 - distance / 2 (eq. 6).
    """

    row: str
    epsilon: Finite
    leak: tuple[Finite, ...]
    distance: tuple[Finite, ...]
    utility: tuple[Finite, ...]


class Cloud(Frozen):
    """Some held-out points of the first run, as they are or as a row releases them.

    Attributes:
        name: the row, "" for the points themselves.
        points: (n, 2) coordinates; s: their classes.
    """

    name: str
    points: tuple[tuple[Finite, Finite], ...]
    s: tuple[int, ...]


class ToyResult(Frozen):
    """The whole experiment.

    Attributes:
        settings: the resolved configuration.
        bayes: accuracy of the best classifier of the points themselves.
        cells: row by row, budgets rising.
        clouds: the points, then those of every row at the budget `cloud_epsilon`.
        seconds: wall time.
    """

    settings: dict[str, Any]
    bayes: Finite
    cells: tuple[Cell, ...]
    clouds: tuple[Cloud, ...]
    cloud_epsilon: Finite
    seconds: Finite

    @property
    def rows(self) -> tuple[str, ...]:
        """The names of the rows, in order."""
        return tuple(dict.fromkeys(cell.row for cell in self.cells))


def mean_of_runs(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high): Student's 95 % interval of the mean of independent runs.

    Of a single run nothing is known but its value: all three are that.
    """
    from scipy.stats import t

    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return mean, mean, mean
    variance = sum((value - mean) ** 2 for value in values) / (n - 1)
    reach = float(t.ppf((1 + LEVEL) / 2, n - 1)) * (variance / n) ** 0.5
    return mean, mean - reach, mean + reach
