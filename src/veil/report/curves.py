"""Training curves: one small panel for each stage and loss term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from veil.report import words
from veil.report.runs import Progress
from veil.report.svg import MUTED, RUNS, canvas, inline

MOST_POINTS = 200
SPLITS = ("fit", "select")
Line = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Curve:
    """One term of one stage.

    Attributes:
        stage, term: whose curve ("adversarial", "encoder/utility").
        axis: what is on the x axis, "epoch" or "step".
        lines: split -> (x, y) pairs by rising x; several values at one x are averaged.
    """

    stage: str
    term: str
    axis: str
    lines: dict[str, Line]


def curves(progress: Sequence[Progress]) -> list[Curve]:
    """Every term of every stage, in the order in which they were recorded."""
    found = []
    for stage in dict.fromkeys(p.stage for p in progress):
        rows = [p for p in progress if p.stage == stage]
        epochs = {p.at["epoch"] for p in rows if "epoch" in p.at}
        axis = "epoch" if len(epochs) > 1 or not any("step" in p.at for p in rows) else "step"
        for term in dict.fromkeys(term for p in rows for term in p.terms):
            lines = {split: _line(rows, split, term, axis) for split in SPLITS}
            lines = {split: line for split, line in lines.items() if line}
            if lines:
                found.append(Curve(stage, term, axis, lines))
    return found


def _line(rows: Sequence[Progress], split: str, term: str, axis: str) -> Line:
    at: dict[float, list[float]] = {}
    for row in rows:
        if row.split == split and term in row.terms and axis in row.at:
            at.setdefault(row.at[axis], []).append(row.terms[term])
    pairs = [(x, float(np.mean(at[x]))) for x in sorted(at)]
    if len(pairs) <= MOST_POINTS:
        return tuple(pairs)
    bins = np.array_split(np.array(pairs), MOST_POINTS)
    return tuple((float(part[:, 0].mean()), float(part[:, 1].mean())) for part in bins)


def draw(curve: Curve, name: str) -> str:
    """The panel as inline SVG; `name` is unique in the page."""
    width, height = 236, 150
    with canvas(width, height) as figure:
        axes = figure.add_axes((44 / width, 34 / height, 1 - 56 / width, 1 - 62 / height))
        for split, line in curve.lines.items():
            xs, ys = zip(*line, strict=True)
            color = RUNS[0] if split == "select" else MUTED
            axes.plot(xs, ys, color=color, linewidth=1.5, marker="o" if len(xs) == 1 else "")
        axes.set_title(curve.term, loc="left", fontsize=11, pad=8, parse_math=False)
        axes.set_xlabel(curve.axis, fontsize=10, labelpad=2)
        axes.tick_params(length=3, labelsize=9)
        axes.locator_params(axis="x", nbins=4, integer=True)
        axes.locator_params(axis="y", nbins=4)
        axes.ticklabel_format(useOffset=False)
        return inline(figure, name, describe(curve))


def describe(curve: Curve) -> str:
    """What the panel shows, for a reader who cannot see it."""
    ends = "; ".join(
        f"{split} from {words.figure(line[0][1])} to {words.figure(line[-1][1])}"
        for split, line in curve.lines.items()
    )
    return f"{curve.term} in stage {curve.stage} by {curve.axis}: {ends}."
