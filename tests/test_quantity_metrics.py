"""Scores of a quantity against closed forms, and an interval that covers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from veil import quantity_metrics
from veil.errors import VeilError
from veil.quantity_metrics import points_r2_interval, r2_interval

TRUTH = np.array([20.0, 30.0, 40.0, 70.0])


def test_r2_by_hand_and_out_of_sample() -> None:
    estimate = np.array([25.0, 30.0, 35.0, 60.0])
    assert quantity_metrics.r2(TRUTH, estimate, 40.0) == pytest.approx(1 - 150 / 1400)
    assert quantity_metrics.r2(TRUTH, estimate, 30.0) == pytest.approx(1 - 150 / 1800)
    assert quantity_metrics.r2(TRUTH, TRUTH, 40.0) == 1
    assert quantity_metrics.r2(TRUTH, np.full(4, 30.0), 30.0) == 0
    assert quantity_metrics.r2(TRUTH, -TRUTH, 40.0) < -1


def test_errors_and_shares_by_hand() -> None:
    estimate = np.array([25.0, 30.0, 34.9, 80.0])
    assert quantity_metrics.mean_absolute_error(TRUTH, estimate) == pytest.approx(
        (5 + 5.1 + 10) / 4
    )
    assert quantity_metrics.share_within(TRUTH, estimate, 5) == 0.5
    assert quantity_metrics.share_within(TRUTH, estimate, 4.9) == 0.25


def test_correlations_against_slow_sums() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=50)
    estimate = np.round(truth + rng.normal(size=50), 1)
    a, b = truth - sum(truth) / 50, estimate - sum(estimate) / 50
    by_hand = sum(a * b) / math.sqrt(sum(a * a) * sum(b * b))
    assert quantity_metrics.correlation(truth, estimate) == pytest.approx(by_hand)
    ranks = [[sum(v < w) + (sum(v == w) + 1) / 2 for w in v] for v in (truth, estimate)]
    expected = quantity_metrics.correlation(np.array(ranks[0]), np.array(ranks[1]))
    assert quantity_metrics.rank_correlation(truth, estimate) == pytest.approx(expected)
    assert quantity_metrics.rank_correlation(truth, np.exp(truth)) == pytest.approx(1)
    assert quantity_metrics.correlation(truth, np.exp(truth)) < 0.95


def test_what_cannot_be_scored_is_an_error() -> None:
    with pytest.raises(VeilError, match="all 2 values equal the baseline 3"):
        quantity_metrics.r2(np.array([3.0, 3.0]), np.array([1.0, 2.0]), 3.0)
    with pytest.raises(VeilError, match="one side is constant"):
        quantity_metrics.correlation(TRUTH, np.ones(4))
    with pytest.raises(VeilError, match="missing value"):
        quantity_metrics.r2(np.array([1.0, np.nan]), np.zeros(2), 0.0)
    with pytest.raises(VeilError, match="diverged"):
        quantity_metrics.mean_absolute_error(np.zeros(2), np.array([1.0, np.inf]))
    with pytest.raises(VeilError, match=r"\(4, 1\) estimates of \(4,\) values"):
        quantity_metrics.share_within(TRUTH, TRUTH[:, None], 5)


def test_scores_leave_out_what_a_constant_estimate_cannot_have() -> None:
    found = quantity_metrics.quantity_scores(TRUTH, np.full(4, 40.0), 40.0)
    assert found == {"r2": 0.0, "mae": 15.0, "within_5": 0.25}
    assert set(quantity_metrics.quantity_scores(TRUTH, TRUTH, 40.0)) == {
        *found,
        "correlation",
        "rank_correlation",
    }


def ages(
    rng: np.random.Generator, people: int, photos: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Ages and estimates of people with 1..`photos` photos each; the error is the person's.

    The true R2 is 0.5: errors and ages have the same deviations but for the factor, for each of
    any number of photos alike.
    """
    count = rng.integers(1, photos + 1, size=people)
    age, error = rng.normal(size=people), rng.normal(size=people) * math.sqrt(0.5)
    return np.repeat(age, count), np.repeat(age + error, count), np.repeat(np.arange(people), count)


@pytest.mark.parametrize("photos", [1, 8])
def test_the_interval_covers_when_people_have_many_photos(photos: int) -> None:
    """300 data sets: 0.95 +- 0.038 with probability 0.998. Rows taken for people miss it."""
    rng = np.random.default_rng(photos)
    held, held_by_rows = 0, 0
    for seed in range(300):
        age, estimate, people = ages(rng, 120, photos)
        low, high = r2_interval(age, estimate, 0.0, people, seed, resamples=500)
        held += low <= 0.5 <= high
        low, high = r2_interval(age, estimate, 0.0, None, seed, resamples=200)
        held_by_rows += low <= 0.5 <= high
    assert abs(held / 300 - 0.95) < 0.04
    assert (held_by_rows / 300 < 0.88) == (photos == 8)


def test_the_interval_equals_resampling_row_by_row() -> None:
    rng = np.random.default_rng(0)
    age, estimate, people = ages(rng, 150, 3)
    rows = [np.flatnonzero(people == p) for p in range(150)]
    slow = []
    for _ in range(3000):
        drawn = np.concatenate([rows[p] for p in rng.integers(150, size=150)])
        slow.append(quantity_metrics.r2(age[drawn], estimate[drawn], 0.1))
    fast = r2_interval(age, estimate, 0.1, people, 0, resamples=3000)
    reach = math.sqrt(150 / 149) * 1.9760  # t quantile of 149 degrees of freedom
    tail = 0.5 * math.erfc(reach / math.sqrt(2))
    assert fast == pytest.approx(tuple(np.quantile(slow, [tail, 1 - tail])), abs=0.03)
    assert fast == r2_interval(age, estimate, 0.1, people, 0, resamples=3000)


# Two faces of three points, the eyes 4 and 10 apart.
POINTS = np.array([[0.0, 0, 4, 0, 2, 5], [10.0, 10, 18, 16, 0, 0]])


def test_normalised_mean_errors_by_hand() -> None:
    """Off by 3-4-5 at one point of three, and by one pixel at all of them."""
    estimate = POINTS + np.array([[3.0, -4, 0, 0, 0, 0], [1.0, 0, 0, -1, 0, 1]])
    found = quantity_metrics.normalised_mean_errors(POINTS, estimate)
    assert found == pytest.approx([5 / 3 / 4, 1 / 10])
    assert (quantity_metrics.normalised_mean_errors(POINTS, POINTS) == 0).all()


def test_squared_z_errors_by_hand_leave_out_what_does_not_vary() -> None:
    estimate = POINTS + np.array([[2.0, 0, 0, 3, 9, 0], [0.0, 0, 0, 0, 0, 1]])
    deviation = np.array([1.0, 2, 2, 3, 0, 5])
    found = quantity_metrics.squared_z_errors(POINTS, estimate, deviation)
    assert found == pytest.approx([(4 + 1) / 5, 0.04 / 5])


def test_r2_of_points_is_the_mean_over_coordinates_that_vary() -> None:
    rng = np.random.default_rng(0)
    truth, estimate = rng.normal(size=(2, 40, 4)) * np.array([1, 2, 3, 100])
    baseline = np.array([0.1, 0.0, -1.0, 3.0])
    each = [quantity_metrics.r2(truth[:, i], estimate[:, i], baseline[i]) for i in range(4)]
    assert quantity_metrics.points_r2(truth, estimate, baseline) == pytest.approx(np.mean(each))
    truth[:, 1] = baseline[1]
    expected = np.mean([each[0], each[2], each[3]])
    assert quantity_metrics.points_r2(truth, estimate, baseline) == pytest.approx(expected)


def test_the_interval_of_points_is_that_of_one_coordinate_given_twice() -> None:
    rng = np.random.default_rng(0)
    age, estimate, people = ages(rng, 150, 3)
    twice, estimates = (np.stack([column, column], 1) for column in (age, estimate))
    found = points_r2_interval(twice, estimates, np.array([0.1, 0.1]), people, 0)
    assert found == pytest.approx(r2_interval(age, estimate, 0.1, people, 0), abs=0.02)
    by_rows = points_r2_interval(twice, estimates, np.array([0.1, 0.1]), None, 0)
    assert by_rows[1] - by_rows[0] < found[1] - found[0]
    assert found == points_r2_interval(twice, estimates, np.array([0.1, 0.1]), people, 0)


def test_landmarks_that_cannot_be_scored_are_errors() -> None:
    with pytest.raises(VeilError, match="all 2 faces have their landmarks where all have them"):
        quantity_metrics.points_r2(np.ones((2, 2)), np.zeros((2, 2)), np.ones(2))
    with pytest.raises(VeilError, match=r"\(2, 6\) estimates of \(6, 2\) coordinates"):
        quantity_metrics.points_r2(POINTS.reshape(6, 2), POINTS, np.ones(2))
    with pytest.raises(VeilError, match="one point has no distance"):
        quantity_metrics.normalised_mean_errors(POINTS[:, :2], POINTS[:, :2])
    with pytest.raises(VeilError, match="row 1: the first two landmarks"):
        quantity_metrics.normalised_mean_errors(
            np.array([[0.0, 0, 1, 1], [2, 2, 2, 2]]), np.zeros((2, 4))
        )
