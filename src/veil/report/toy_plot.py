"""The figure of the experiment in the plane: leakage and utility by budget, and clouds of points.

Figures 4 and 5 of Martinsson et al. (arXiv 2006.08039), of our own measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veil.toy_records import Cell, Cloud, ToyResult, mean_of_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHANCE = 0.5
INK, MUTED = "#1c1b19", "#6f6b63"
# Told apart by the colour-blind too (Okabe and Ito 2008), and by their markers in grey print.
COLOURS = ("#d55e00", "#009e73", "#0072b2", "#cc79a7")
MARKERS = ("s", "^", "D", "o")
CLASSES = ("#e69f00", "#0072b2")
REACH = 3.6  # half the side of a cloud's panel: the points' own units
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "toy",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
Figures = Callable[[Cell], tuple[float, ...]]


def draw_toy(result: ToyResult, *paths: Path) -> None:
    """Write the figure to every path, each in the format that its suffix says (.svg, .png).

    Above: what a fresh adversary reads, and the utility score, by budget, and one
    against the other; means and 95 % intervals over the runs. Below: held-out points before and
    after.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(11, 6.6), layout="constrained")
        FigureCanvasAgg(figure)
        _draw(figure, result)
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else {}
            figure.savefig(path, dpi=120, facecolor="white", metadata=metadata)


def _draw(figure: Figure, result: ToyResult) -> None:
    grid = figure.add_gridspec(2, 1, height_ratios=(1.25, 1))
    upper, lower = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    leak, utility, both = upper.subplots(1, 3)
    _by_budget(leak, result, lambda cell: cell.leak)
    leak.set_ylabel("fresh adversary's accuracy (lower is better)")
    # Where points are likely to be elsewhere: little is hidden at the left, much at the right.
    for level, text, at, side in (
        (result.bayes, "best on the points themselves", 0.98, "right"),
        (CHANCE, "chance", 0.02, "left"),
    ):
        leak.axhline(level, color=MUTED, linewidth=0.8, linestyle="--", zorder=1)
        leak.annotate(
            f"{text} {level:.3f}",
            (at, level),
            ha=side,
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            color=MUTED,
            fontsize=8,
        )
    leak.set_ylim(0.45, 1.05)
    _by_budget(utility, result, lambda cell: cell.utility)
    utility.set_ylabel("utility score (higher is better)")
    utility.set_ylim(0, 1)
    _tradeoff(both, result)
    upper.legend(
        *leak.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False
    )
    panels = lower.subplots(1, len(result.clouds), sharex=True, sharey=True)
    for axes, cloud in zip(panels, result.clouds, strict=True):
        _cloud(axes, cloud, result.cloud_epsilon)


def _by_budget(axes: Axes, result: ToyResult, of: Figures) -> None:
    for index, row in enumerate(result.rows):
        cells = [cell for cell in result.cells if cell.row == row]
        means = [mean_of_runs(of(cell)) for cell in cells]
        axes.errorbar(
            [cell.epsilon for cell in cells],
            [mean for mean, _, _ in means],
            yerr=_reach(means),
            label=row,
            **_line(index),
        )
    axes.set_xlabel("budget ε (mean distance)")


def _tradeoff(axes: Axes, result: ToyResult) -> None:
    for index, row in enumerate(result.rows):
        cells = [cell for cell in result.cells if cell.row == row]
        leaks = [mean_of_runs(cell.leak) for cell in cells]
        utilities = [mean_of_runs(cell.utility) for cell in cells]
        axes.errorbar(
            [mean for mean, _, _ in leaks],
            [mean for mean, _, _ in utilities],
            xerr=_reach(leaks),
            yerr=_reach(utilities),
            **_line(index),
        )
    for level in (CHANCE, result.bayes):
        axes.axvline(level, color=MUTED, linewidth=0.8, linestyle="--", zorder=1)
    axes.set(xlim=(0.45, 1.05), ylim=(0, 1))
    axes.set_xlabel("fresh adversary's accuracy")
    axes.set_ylabel("utility (upper left is better)")


def _reach(means: list[tuple[float, float, float]]) -> list[list[float]]:
    """How far intervals reach below and above their means, as matplotlib wants it."""
    return [[mean - low for mean, low, _ in means], [high - mean for mean, _, high in means]]


def _line(index: int) -> dict[str, Any]:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 5,
        "linewidth": 1.3,
        "elinewidth": 0.9,
        "capsize": 2.5,
        "alpha": 0.9,
    }


def _cloud(axes: Axes, cloud: Cloud, epsilon: float) -> None:
    for value, colour in enumerate(CLASSES):
        chosen = [point for point, s in zip(cloud.points, cloud.s, strict=True) if s == value]
        across, up = ([point[i] for point in chosen] for i in (0, 1))
        axes.plot(across, up, ".", color=colour, markersize=3.5, alpha=0.7, markeredgewidth=0)
    reach = (-REACH, REACH)
    axes.plot(reach, reach, color=MUTED, linewidth=0.8, linestyle=":", zorder=1)
    axes.set(xlim=reach, ylim=reach, aspect="equal")
    axes.set_title(
        f"{cloud.name}, ε = {epsilon:g}" if cloud.name else "the points, coloured by class",
        fontsize=9,
    )
