"""What leaks against what survives, as data: the points, levels and limits of a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from veil.records import Audit, Record
from veil.report import view, words

SAME = 0.005  # levels closer than this are one line


@dataclass(frozen=True)
class Point:
    """One run: the record on each axis, and the paper's own figures where both are known."""

    index: int
    label: str
    leak: Record
    keep: Record
    x: float
    y: float
    reported: tuple[float, float] | None


@dataclass(frozen=True)
class Level:
    """A floor or ceiling; `low` < `high` where it differs from run to run."""

    label: str
    low: float
    high: float

    @property
    def is_line(self) -> bool:
        """Whether one line shows it; a band otherwise."""
        return self.high - self.low < SAME


@dataclass(frozen=True)
class Tradeoff:
    """Everything one plot shows.

    Attributes:
        leaked: target on the x axis; kept: target on the y axis.
        points: the runs with both figures; left_out: labels of those without, or refused.
        leak_levels: floors and ceiling of the leakage; keep_levels: of the utility.
    """

    leaked: str
    kept: str
    points: tuple[Point, ...]
    left_out: tuple[str, ...]
    leak_levels: tuple[Level, ...]
    keep_levels: tuple[Level, ...]

    def limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """((x low, x high), (y low, y high)): every point, interval, level and reported figure."""
        return (
            _limits(
                [bound for p in self.points for bound in extent(p.leak, p.x)]
                + [p.reported[0] for p in self.points if p.reported]
                + [end for level in self.leak_levels for end in (level.low, level.high)]
            ),
            _limits(
                [bound for p in self.points for bound in extent(p.keep, p.y)]
                + [p.reported[1] for p in self.points if p.reported]
                + [end for level in self.keep_levels for end in (level.low, level.high)]
            ),
        )


def extent(record: Record, score: float) -> tuple[float, float]:
    """The interval, or the score alone where there is none."""
    return record.interval or (score, score)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.07 * max(high - low, 0.15)
    return low - margin, high + margin


def tradeoffs(audits: Sequence[Audit]) -> list[Tradeoff]:
    """One plot for each pair of an attacked and a useful target that some run measured."""
    pairs = product(view.attacked(audits), view.useful(audits))
    plots = (_tradeoff(audits, leaked, kept) for leaked, kept in pairs)
    return [plot for plot in plots if plot.points]


def _tradeoff(audits: Sequence[Audit], leaked: str, kept: str) -> Tradeoff:
    points = []
    left_out = []
    drawn = []
    labels = view.short_names([audit.name for audit in audits])
    for index, (audit, label) in enumerate(zip(audits, labels, strict=True)):
        leak, keep = view.worst(audit, leaked), view.worst(audit, kept)
        if leak is None or keep is None or leak.score is None or keep.score is None:
            left_out.append(f"{label} (not measured)")
        elif audit.verdict == "refused":
            left_out.append(f"{label} (refused)")
        else:
            own = view.reported(audit, leaked), view.reported(audit, kept)
            reported = None if own[0] is None or own[1] is None else (own[0], own[1])
            points.append(Point(index, label, leak, keep, leak.score, keep.score, reported))
            drawn.append(audit)
    return Tradeoff(
        leaked,
        kept,
        tuple(points),
        tuple(left_out),
        _levels(drawn, leaked, ceiling="ceiling"),
        _levels(drawn, kept, ceiling="original images"),
    )


def _levels(audits: Sequence[Audit], target: str, ceiling: str) -> tuple[Level, ...]:
    """The floors by name (or the highest alone, where they are not listed) and the ceiling."""
    found: dict[str, list[float]] = {}
    for audit in audits:
        chosen = view.worst(audit, target)
        floors = view.yardsticks(audit, target, view.FLOOR)
        for record in floors:
            if record.score is not None:
                found.setdefault(record.attack, []).append(record.score)
        if chosen is not None and chosen.floor is not None and not floors:
            found.setdefault("floor", []).append(chosen.floor)
        if chosen is not None and chosen.ceiling is not None:
            found.setdefault(ceiling, []).append(chosen.ceiling)
    levels: list[Level] = []
    for name, values in sorted(found.items(), key=lambda item: (min(item[1]), item[0])):
        low, high = min(values), max(values)
        last = levels[-1] if levels else None
        if last is not None and abs(low - last.low) < SAME and abs(high - last.high) < SAME:
            levels[-1] = Level(f"{last.label}, {name}", last.low, max(high, last.high))
        else:
            levels.append(Level(name, low, high))
    return tuple(levels)


def describe(plot: Tradeoff) -> str:
    """What the plot shows, for a reader who cannot see it."""
    points = "; ".join(
        f"{p.label}: leaks {words.figure(p.x, 2)}, keeps {words.figure(p.y, 2)}"
        for p in plot.points
    )
    return f"{plot.leaked} leaked against {plot.kept} kept. {points}."
