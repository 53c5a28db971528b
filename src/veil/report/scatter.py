"""Drawing the privacy-utility plot: one directly labelled point for each run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from veil.report import words
from veil.report.labels import Box, place
from veil.report.svg import MUTED, PAPER, canvas, inline, run_color
from veil.report.tradeoff import Level, Point, Tradeoff, describe, extent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKER = 4.5  # half a marker, in pixels
LEFT, RIGHT, BOTTOM = 52, 16, 52  # room around the axes, in pixels


def draw(plot: Tradeoff, name: str, width: int, height: int) -> str:
    """The plot as inline SVG of `width` x `height` CSS pixels; `name` is unique in the page."""
    with canvas(width, height) as figure:
        rows = _level_rows(plot, width)
        top = 1 - (16 + 15 * (1 + max(rows, default=0))) / height
        across = 1 - (LEFT + RIGHT) / width
        axes = figure.add_axes((LEFT / width, BOTTOM / height, across, top - BOTTOM / height))
        (x0, x1), (y0, y1) = plot.limits()
        axes.set(xlim=(x0, x1), ylim=(y0, y1))
        axes.tick_params(length=3)
        axes.locator_params(axis="x", nbins=max(3, width // 90))
        axes.locator_params(axis="y", nbins=6)
        axes.xaxis.set_major_formatter("{x:.2f}")
        axes.yaxis.set_major_formatter("{x:.2f}")
        axes.set_xlabel(f"{plot.leaked} leaked  (← lower is better)", parse_math=False)
        axes.set_ylabel(f"{plot.kept} kept  (higher is better →)", parse_math=False)
        lines = _draw_levels(axes, plot, rows)
        for point in plot.points:
            _draw_point(axes, point)
        _draw_labels(figure, axes, plot, lines)
        return inline(figure, name, describe(plot))


def _level_rows(plot: Tradeoff, width: int) -> list[int]:
    """The row above the plot (0 = lowest) that each leakage level's label takes.

    Labels start at their line; one that would run into the label before it moves a row up.
    """
    (x0, x1), _ = plot.limits()
    ends: list[float] = []
    rows = []
    for level in plot.leak_levels:
        start, length = _level_label(level, x0, x1, width)
        row = next((r for r, end in enumerate(ends) if end < start), len(ends))
        ends[row : row + 1] = [start + length + 10]
        rows.append(row)
    return rows


def _level_label(level: Level, x0: float, x1: float, width: int) -> tuple[float, float]:
    """(start, length) in pixels of the label, pushed left where it would leave the figure."""
    length = 5.6 * len(_level_text(level))
    middle = LEFT + (width - LEFT - RIGHT) * ((level.low + level.high) / 2 - x0) / (x1 - x0)
    return max(2.0, min(middle - length / 2, width - length - 2)), length


def _level_text(level: Level) -> str:
    low, high = words.figure(level.low, 2), words.figure(level.high, 2)
    return f"{level.label} {low}" if low == high else f"{level.label} {low}–{high}"


def _draw_levels(axes: Axes, plot: Tradeoff, rows: Sequence[int]) -> list[Any]:
    """Lines (bands where runs differ) of all levels; returns what labels should not cover."""
    (x0, x1), _ = plot.limits()
    width = axes.figure.bbox.width
    style: dict[str, Any] = {"color": MUTED, "linewidth": 1, "dashes": (3, 3), "zorder": 1}
    texts = []
    for level, row in zip(plot.leak_levels, rows, strict=True):
        if level.is_line:
            axes.axvline(level.low, **style)
        else:
            axes.axvspan(level.low, level.high, color=MUTED, alpha=0.14, linewidth=0, zorder=0)
        start, length = _level_label(level, x0, x1, round(width))
        text = axes.annotate(
            _level_text(level),
            ((start + length / 2) / width, 1.0),
            xycoords=("figure fraction", "axes fraction"),
            xytext=(0, 6 + 15 * row),
            textcoords="offset points",
            ha="center",
            color=MUTED,
            fontsize=10,
            parse_math=False,
        )
        texts.append(text)
    for level in plot.keep_levels:
        if level.is_line:
            axes.axhline(level.low, **style)
        else:
            axes.axhspan(level.low, level.high, color=MUTED, alpha=0.14, linewidth=0, zorder=0)
        text = axes.annotate(
            _level_text(level),
            (0.0, level.high),
            xycoords=("axes fraction", "data"),
            xytext=(4, 3),
            textcoords="offset points",
            color=MUTED,
            fontsize=10,
            parse_math=False,
        )
        texts.append(text)
    return texts


def _draw_point(axes: Axes, point: Point) -> None:
    color = run_color(point.index)
    low, high = extent(point.leak, point.x)
    bottom, top = extent(point.keep, point.y)
    axes.plot((low, high), (point.y, point.y), color=color, linewidth=1.6, alpha=0.55, zorder=2)
    axes.plot((point.x, point.x), (bottom, top), color=color, linewidth=1.6, alpha=0.55, zorder=2)
    axes.plot(
        point.x, point.y, "o", color=color, markersize=2 * MARKER, markeredgecolor=PAPER, zorder=4
    )
    if point.reported:
        x, y = point.reported
        path: dict[str, Any] = {"color": color, "linewidth": 0.9, "linestyle": ":", "zorder": 1}
        axes.plot((point.x, x), (point.y, y), **path)
        axes.plot(
            x,
            y,
            "o",
            markerfacecolor=PAPER,
            markeredgecolor=color,
            markeredgewidth=1.4,
            markersize=2 * MARKER - 1,
            zorder=3,
        )


def _draw_labels(figure: Figure, axes: Axes, plot: Tradeoff, texts: Sequence[Any]) -> None:
    """Each run's name beside its point in its colour, with a line where it had to move away."""

    def pixel(x: float, y: float) -> tuple[float, float]:
        across, up = axes.transData.transform((x, y))
        return float(across), float(up)

    centers = [pixel(p.x, p.y) for p in plot.points]
    hollow = [pixel(*p.reported) for p in plot.points if p.reported]
    obstacles = [
        Box(x - MARKER - 2, y - MARKER - 2, x + MARKER + 2, y + MARKER + 2)
        for x, y in [*centers, *hollow]
    ]
    for point, (x, y) in zip(plot.points, centers, strict=True):
        low, high = (pixel(bound, point.y)[0] for bound in extent(point.leak, point.x))
        bottom, top = (pixel(point.x, bound)[1] for bound in extent(point.keep, point.y))
        obstacles += [Box(low, y - 2, high, y + 2), Box(x - 2, bottom, x + 2, top)]
    obstacles += [Box(*text.get_window_extent().extents) for text in texts]
    for level in plot.leak_levels:
        if level.is_line:
            x = pixel(level.low, 0)[0]
            obstacles.append(Box(x - 1, axes.bbox.y0, x + 1, axes.bbox.y1))
    for level in plot.keep_levels:
        if level.is_line:
            y = pixel(0, level.low)[1]
            obstacles.append(Box(axes.bbox.x0, y - 1, axes.bbox.x1, y + 1))

    names = [figure.text(0, 0, _clipped(p.label), parse_math=False) for p in plot.points]
    extents = [name.get_window_extent() for name in names]
    boxes = place(
        centers, [(e.width, e.height) for e in extents], obstacles, Box(*axes.bbox.extents)
    )
    for point, name, box, (x, y) in zip(plot.points, names, boxes, centers, strict=True):
        color = run_color(point.index)
        name.set(transform=None, position=(box.x0, box.y0), va="bottom", color=color, zorder=5)
        end = min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
        if (end[0] - x) ** 2 + (end[1] - y) ** 2 > 18**2:
            figure.add_artist(_leader((x, y), end, color))


def _leader(start: tuple[float, float], end: tuple[float, float], color: str) -> Any:
    from matplotlib.lines import Line2D

    xs, ys = zip(start, end, strict=True)
    return Line2D(xs, ys, transform=None, color=color, linewidth=0.8, zorder=1)


def _clipped(label: str) -> str:
    return label if len(label) <= 28 else f"{label[:27]}…"
