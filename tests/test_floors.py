"""Floors against enumerations of all maps and slow loops."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from veil.floors import Floors, best_map, copy_floor, floors, majority_accuracy
from veil.metrics import balanced_accuracy


def test_the_best_map_beats_every_other_map() -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 4, 300)
    s = np.where(rng.random(300) < 0.6, y % 3, rng.integers(0, 3, 300))
    best = balanced_accuracy(s, best_map(y, s, 4)[y])
    every = [balanced_accuracy(s, np.array(m)[y]) for m in product(range(3), repeat=4)]
    assert best == pytest.approx(max(every))


def test_floors_of_a_recorded_table() -> None:
    """n(s, y) = 40 10 / 12 38: copying y is right for 0.78 of either measure; V = 0.56."""
    s = np.repeat([0, 0, 1, 1], [40, 10, 12, 38])
    y = np.repeat([0, 1, 0, 1], [40, 10, 12, 38])
    found = floors(y, s, y, s, test_answer=y)
    assert (found.majority, found.label_only, found.copy) == pytest.approx((0.5, 0.78, 0.78))
    assert found.highest == pytest.approx(0.78)
    for utility, floor in ((0.95, 0.73), (0.8, 0.58), (0.6, 0.38)):
        assert copy_floor(0.78, utility) == pytest.approx(floor)
    assert floors(None, s, None, s) == Floors(0.5)


def test_copying_the_answer_never_falls_below_the_copy_floor() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        s = rng.integers(0, 3, 60)
        y = np.where(rng.random(60) < rng.random(), s % 2, rng.integers(0, 2, 60))
        answer = np.where(rng.random(60) < rng.random(), y, rng.integers(0, 2, 60))
        found = floors(y, s, y, s, answer)
        copied = balanced_accuracy(s, best_map(y, s, 2)[answer])
        assert found.copy is not None
        assert copied >= found.copy - 1e-12


def test_floors_ignore_rows_without_a_useful_label() -> None:
    s, y = np.array([0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, -1])
    assert floors(y, s, y, s).label_only == 1.0
    assert floors(np.full(5, -1), s, y, s) == Floors(0.5)


def test_majority_accuracy() -> None:
    assert majority_accuracy(np.array([1, 1, 0, 1])) == 0.75
