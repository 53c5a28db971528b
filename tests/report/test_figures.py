"""Plots and curves: limits that hold every point, labels that do not collide, honest averages."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_fakes import RUNS, audit, realistic, record

from veil.records import Audit, Doubt
from veil.report import curves, scatter, tradeoff, view
from veil.report.labels import Box, place
from veil.report.runs import Progress

SCORES = st.floats(0.0, 1.0)


def run(name: str, leak: float, keep: float, half: float = 0.02) -> Audit:
    around = {"interval": (leak - half, leak + half)}
    return audit(
        name,
        record("Male", leak, **around, reported=0.6),
        record("Male", 0.31, attack="majority", family="floor"),
        record("Smiling", keep, kind="utility", interval=(keep - half, keep + half), reported=0.7),
    )


@given(st.lists(st.tuples(SCORES, SCORES, st.floats(0.0, 0.2)), min_size=1, max_size=8))
def test_limits_hold_every_point_interval_level_and_reported_figure(
    figures: list[tuple[float, float, float]],
) -> None:
    audits = [run(f"run {i}", *three) for i, three in enumerate(figures)]
    (plot,) = tradeoff.tradeoffs(audits)
    (x0, x1), (y0, y1) = plot.limits()
    for leak, keep, half in figures:
        assert x0 < leak - half
        assert leak + half < x1
        assert y0 < keep - half
        assert keep + half < y1
    assert all(x0 < value < x1 for value in (0.31, 0.95, 0.6))  # floor, ceiling, reported
    assert all(y0 < value < y1 for value in (0.5, 0.95, 0.7))


def test_floors_that_differ_from_run_to_run_are_a_band() -> None:
    (plot,) = tradeoff.tradeoffs([realistic(name) for name in RUNS])
    levels = {level.label: (level.low, level.high) for level in plot.leak_levels}
    assert levels == {
        "majority": (0.5, 0.5),
        "label-only": (0.512, 0.512),
        "copy-the-task-head": (0.522, 0.541),
        "ceiling": (0.953, 0.953),
    }


def test_equal_floors_share_a_line() -> None:
    rows = [record("Male", 0.7), record("Smiling", 0.8, kind="utility")]
    floors = [record("Male", 0.5, attack=n, family="floor") for n in ("majority", "label-only")]
    (plot,) = tradeoff.tradeoffs([audit("x", *rows, *floors)])
    assert [level.label for level in plot.leak_levels] == ["label-only, majority", "ceiling"]


def test_refused_and_unmeasured_runs_are_left_out_by_name() -> None:
    refused = audit(
        "bad", *run("bad", 0.7, 0.8).records, refusals=(Doubt(id="overlap", text="Overlap."),)
    )
    half = audit("half", record("Male", 0.7))
    (plot,) = tradeoff.tradeoffs([run("good", 0.7, 0.8), refused, half])
    assert [point.label for point in plot.points] == ["good"]
    assert plot.left_out == ("bad (refused)", "half (not measured)")


def test_several_targets_have_a_plot_for_each_pair() -> None:
    rows = [record("Male", 0.7), record("Young", 0.6)]
    kept = [record(name, 0.8, kind="utility") for name in ("Smiling", "matching")]
    plots = tradeoff.tradeoffs([audit("x", *rows, *kept)])
    assert [(p.leaked, p.kept) for p in plots] == [
        ("Male", "Smiling"),
        ("Male", "matching"),
        ("Young", "Smiling"),
        ("Young", "matching"),
    ]


@pytest.mark.parametrize(("width", "height"), [(720, 440), (368, 400)])
def test_eight_crowded_labels_do_not_touch(width: int, height: int) -> None:
    cluster = [(0.70 + 0.004 * (i % 3), 0.89 + 0.004 * (i // 3)) for i in range(8)]
    audits = [run(f"defence {i}", leak, keep) for i, (leak, keep) in enumerate(cluster)]
    (plot,) = tradeoff.tradeoffs(audits)
    svg = scatter.draw(plot, "plot", width, height)
    places = re.findall(r'x="([\d.]+)" y="([\d.]+)"[^>]*>defence \d</text>', svg)
    found = [Box(float(x), float(y) - 8, float(x) + 58, float(y)) for x, y in places]
    assert len(found) == 8
    pairs = [(a, b) for i, a in enumerate(found) for b in found[:i]]
    assert all(a.overlap(b) == 0 for a, b in pairs)


@given(
    st.lists(st.tuples(st.floats(60, 540), st.floats(60, 340)), min_size=1, max_size=8, unique=True)
)
def test_labels_stay_inside_and_apart(points: list[tuple[float, float]]) -> None:
    bounds = Box(0, 0, 600, 400)
    marks = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    boxes = place(points, [(70.0, 12.0)] * len(points), marks, bounds)
    for index, box in enumerate(boxes):
        assert box.overlap(bounds) == pytest.approx(box.area)
        assert all(box.overlap(mark) == 0 for mark in marks)
        assert all(box.overlap(other) == 0 for other in boxes[:index])


def test_a_lone_label_lies_right_beside_its_point() -> None:
    (box,) = place([(100.0, 100.0)], [(40.0, 10.0)], [], Box(0, 0, 300, 300))
    assert abs(box.x0 - 100) < 20
    assert abs(box.y0 - 100) < 20


def progress(values: dict[float, float], axis: str = "epoch", split: str = "fit") -> list[Progress]:
    return [Progress("adversarial", split, {axis: x}, {"e/u": y}) for x, y in values.items()]


def test_curves_average_the_steps_of_an_epoch_and_keep_splits_apart() -> None:
    rows = [
        *progress({1: 2.0}),
        *progress({1: 4.0}),
        *progress({2: 1.0}),
        *progress({1: 9.0, 2: 8.0}, split="select"),
    ]
    (curve,) = curves.curves(rows)
    assert curve.axis == "epoch"
    assert curve.lines == {"fit": ((1, 3.0), (2, 1.0)), "select": ((1, 9.0), (2, 8.0))}


def test_curves_of_one_epoch_go_by_step() -> None:
    rows = [Progress("a", "fit", {"epoch": 1, "step": s}, {"e/u": float(s)}) for s in (10, 20)]
    (curve,) = curves.curves(rows)
    assert (curve.axis, curve.lines["fit"]) == ("step", ((10, 10.0), (20, 20.0)))


def test_long_curves_are_thinned_without_losing_their_mean() -> None:
    rows = progress({float(s): float(s % 7) for s in range(14000)}, axis="step")
    (curve,) = curves.curves(rows)
    ys = [y for _, y in curve.lines["fit"]]
    assert len(ys) == curves.MOST_POINTS
    assert sum(ys) / len(ys) == pytest.approx(3.0, abs=0.01)


def test_every_stage_and_term_has_a_panel() -> None:
    rows = [
        Progress("pretrain", "fit", {"epoch": 1}, {"a/x": 1.0, "b/y": 2.0}),
        Progress("adversarial", "select", {"epoch": 1}, {"a/x": 1.0}),
    ]
    found = curves.curves(rows)
    assert [(c.stage, c.term) for c in found] == [
        ("pretrain", "a/x"),
        ("pretrain", "b/y"),
        ("adversarial", "a/x"),
    ]
    assert "select from 1.000 to 1.000" in curves.describe(found[2])
    assert "<path" in curves.draw(found[2], "curve")


def test_the_worst_comes_first_and_then_the_order_of_select() -> None:
    rows = [
        record("Male", 0.6, attack="a", select=0.5),
        record("Male", 0.7, attack="b", select=0.9),
        record("Male", 0.8, attack="c", select=None),
        record("Male", 0.5, attack="majority", family="floor", select=0.99),
    ]
    assert [r.attack for r in view.attackers(audit("x", *rows), "Male")] == ["a", "b", "c"]


def test_own_and_fresh_heads_are_told_apart() -> None:
    given = realistic("AIA")
    own, fresh = view.own_head(given, "matching"), view.fresh_head(given, "matching")
    assert own is not None
    assert fresh is not None
    assert (own.attack, fresh.attack) == ("own head", "fresh mlp")
    assert view.own_head(audit("x", record("m", 0.7, kind="utility")), "m") is None


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["AIA on celeba", "Original on celeba"], ["AIA", "Original"]),
        (["AIA on celeba", "AIA on fairface"], ["AIA on celeba", "AIA on fairface"]),
        (["AIA", "AIA"], ["AIA (1)", "AIA (2)"]),
        (["AIA on celeba"], ["AIA on celeba"]),
        (["x y", "y"], ["x y", "y"]),
    ],
)
def test_short_names(names: list[str], short: list[str]) -> None:
    assert view.short_names(names) == short
