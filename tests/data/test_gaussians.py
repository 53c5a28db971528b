"""The points in the plane: seeded, balanced, and as far apart as the closed form says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from veil.data.gaussians import bayes_accuracy, points
from veil.errors import VeilError


def test_the_best_accuracy_is_the_recorded_one() -> None:
    """04a_pcgan_sizes.npz, out_synthetic_bayes_accuracy_raw_x."""
    assert bayes_accuracy() == pytest.approx(0.97832412, abs=1e-8)


def test_the_nearer_mean_reaches_the_best_accuracy_and_no_more() -> None:
    x, s = points(3, 200_000)
    nearer = (x[:, 0] > x[:, 1]).astype(np.int64)
    p = bayes_accuracy()
    assert np.mean(nearer == s) == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / len(s)))
    by_one_coordinate = np.mean((x[:, 0] > 0) == s)
    assert by_one_coordinate < p - 0.04


@pytest.mark.parametrize(("value", "mean"), [(0, (-1, 1)), (1, (1, -1))])
def test_each_class_has_its_mean_and_deviation(value: int, mean: tuple[int, int]) -> None:
    x, s = points(0, 100_000)
    of_class = x[s == value].astype(np.float64)
    assert len(of_class) == 50_000
    assert of_class.mean(axis=0) == pytest.approx(mean, abs=0.02)
    assert np.cov(of_class.T) == pytest.approx(0.49 * np.eye(2), abs=0.02)


def test_same_seed_same_points_other_seed_others() -> None:
    x, s = points(5, 101)
    again, _ = points(5, 101)
    other, same_s = points(6, 101)
    assert (str(x.dtype), str(s.dtype)) == ("float32", "int64")
    assert np.array_equal(x, again)
    assert not np.isin(x, other).any()
    assert np.array_equal(s, same_s)
    assert np.bincount(s).tolist() == [51, 50]


def test_one_point_is_refused() -> None:
    with pytest.raises(VeilError, match="1 points hold no two classes"):
        points(0, 1)
