"""The figures of `reclassify`: pictures beside their releases, and correlations as heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

INCHES = 1.2
RESOLUTION = 120
LEGIBLE = 12

Matrix = Sequence[Sequence[float | None]]


def draw_pictures(rows: Mapping[str, Tensor], path: Path) -> None:
    """A PNG with one row of pictures for each name, the name above it.

    Args:
        rows: name -> (k, c, h, w) in [0, 1], the same k for all.
        path: the file.
    """
    from matplotlib.figure import Figure

    columns = len(next(iter(rows.values())))
    figure = Figure(figsize=(INCHES * columns, (INCHES + 0.3) * len(rows)))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for (name, pictures), axes in zip(rows.items(), grid, strict=True):
        axes[0].set_title(name, loc="left", fontsize=9)
        for one, place in zip(pictures.clamp(0, 1).permute(0, 2, 3, 1).numpy(), axes, strict=True):
            place.imshow(one if one.shape[2] == 3 else one[..., 0], cmap="gray", vmin=0, vmax=1)
            place.set_axis_off()
    figure.savefig(path, format="png", dpi=RESOLUTION, bbox_inches="tight")


def draw_correlations(labels: Sequence[str], tables: Mapping[str, Matrix], path: Path) -> None:
    """A PNG with one heat map from -1 (blue) to 1 (red) for each table; undefined cells are grey.

    Args:
        labels: names of rows and columns.
        tables: title -> (k, k) correlations.
        path: the file.
    """
    from matplotlib.figure import Figure

    side = 1.6 + 0.45 * len(labels)
    figure = Figure(figsize=(side * len(tables) + 1, side + 0.8), layout="constrained")
    grid = figure.subplots(1, len(tables), squeeze=False)[0]
    for place, (title, table) in zip(grid, tables.items(), strict=True):
        values = np.array(table, dtype=np.float64)
        place.set_facecolor("lightgrey")
        drawn = place.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
        place.set_title(title, fontsize=10)
        place.set_xticks(range(len(labels)), labels, rotation=90, fontsize=8)
        place.set_yticks(range(len(labels)), labels if place is grid[0] else [], fontsize=8)
        for (i, j), value in np.ndenumerate(values):
            if len(labels) <= LEGIBLE and np.isfinite(value):
                colour = "white" if abs(value) > 0.6 else "black"
                place.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(drawn, ax=[*grid], shrink=0.8)
    figure.savefig(path, format="png", dpi=RESOLUTION, bbox_inches="tight")
