"""The figure of the plane: all that was measured is in it, with honest intervals."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from veil.report.toy_plot import draw_toy
from veil.toy_records import Cell, Cloud, ToyResult, mean_of_runs

ROWS = ("filter, entropy", "generator")


def result(runs: int = 5) -> ToyResult:
    cells = tuple(
        Cell(
            row=row,
            epsilon=epsilon,
            leak=tuple(0.6 + 0.01 * run + 0.1 * i for run in range(runs)),
            utility=tuple(0.7 + 0.01 * run for run in range(runs)),
            distance=(epsilon,) * runs,
        )
        for i, row in enumerate(ROWS)
        for epsilon in (0.1, 1.0)
    )
    points = ((-1.0, 1.0), (1.0, -1.0))
    return ToyResult(
        settings={},
        bayes=0.978,
        cells=cells,
        clouds=tuple(Cloud(name=name, points=points, s=(0, 1)) for name in ("", *ROWS)),
        cloud_epsilon=1.0,
        seconds=1.0,
    )


def test_the_interval_of_five_runs_is_students() -> None:
    """t(.975, 4 degrees) = 2.776; of one run nothing is known."""
    mean, low, high = mean_of_runs([1.0, 2.0, 3.0, 4.0, 5.0])
    reach = 2.7764 * math.sqrt(2.5 / 5)
    assert (mean, low, high) == pytest.approx((3, 3 - reach, 3 + reach), abs=1e-3)
    assert mean_of_runs([0.4]) == (0.4, 0.4, 0.4)


def test_the_figure_names_rows_levels_and_clouds(tmp_path: Path) -> None:
    svg, png = tmp_path / "toy.svg", tmp_path / "toy.png"
    draw_toy(result(), svg, png)
    text = svg.read_text("utf-8")
    for shown in (*ROWS, "chance 0.500", "0.978", "the points", "generator, ε = 1"):
        assert shown in text
    assert png.read_bytes().startswith(b"\x89PNG")


def test_the_same_result_gives_the_same_bytes_another_one_others(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.svg" for i in range(3)]
    for path, runs in zip(paths, (5, 5, 4), strict=True):
        draw_toy(result(runs), path)
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again
    assert first != other
