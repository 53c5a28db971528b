"""Intervals and tests against closed forms, enumerations and slow loops.

That the intervals cover what they claim is shown by simulation in test_coverage.py.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from simulated import guesses
from veil import statistics
from veil.errors import VeilError
from veil.metrics import auc, auc_one_vs_rest, balanced_accuracy
from veil.pair_statistics import pair_interval, weighted_auc


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (0, 20, 0.0, 0.16843347098308531),
        (37, 60, 0.48211495143116145, 0.73929294198400075),
        (766, 1000, 0.73849807618443331, 0.79192591962459025),
        (3, 3, 0.29240177382128674, 1.0),
        (0, 1, 0.0, 0.975),
    ],
)
def test_clopper_pearson_of_recorded_counts(k: int, n: int, low: float, high: float) -> None:
    """Exact beta quantiles (scipy 1.x, statsmodels agree)."""
    assert statistics.clopper_pearson(k, n) == pytest.approx((low, high), rel=1e-9, abs=1e-12)


def test_clopper_pearson_ends_are_where_the_binomial_tails_are() -> None:
    low, high = statistics.clopper_pearson(7, 30)
    above = sum(math.comb(30, j) * low**j * (1 - low) ** (30 - j) for j in range(7, 31))
    below = sum(math.comb(30, j) * high**j * (1 - high) ** (30 - j) for j in range(8))
    assert (above, below) == pytest.approx((0.025, 0.025))
    with pytest.raises(VeilError, match="4 of 3"):
        statistics.clopper_pearson(4, 3)


def test_the_one_sided_bound_is_the_lower_end_at_twice_the_tail() -> None:
    """Recorded exact values of 20/20 and 1/50 (15a, out_cp_95_one_sided_lower)."""
    assert statistics.clopper_pearson(20, 20, level=0.9)[0] == pytest.approx(0.8608916593)
    assert statistics.clopper_pearson(1, 50, level=0.9)[0] == pytest.approx(0.00102533, rel=1e-5)


def test_the_effective_interval_of_independent_trials_is_clopper_pearson() -> None:
    for k, n in ((37, 60), (1, 50), (50, 50), (0, 20)):
        p, one = k / n, max(k / n * (1 - k / n), 1e-9)
        found = statistics.effective_interval(p, one, one / n, n, freedom=1e9)
        assert found == pytest.approx(statistics.clopper_pearson(k, n), abs=1e-6)
    alike = statistics.effective_interval(1.0, 0.0, 0.0, 30, freedom=1e9)
    assert alike == pytest.approx(statistics.clopper_pearson(30, 30), abs=1e-6)
    few, many = (statistics.effective_interval(0.7, 0.21, 0.001, 30, f) for f in (3, 300))
    assert few[0] < many[0] < 0.7 < many[1] < few[1]


def test_a_class_of_one_person_could_be_anything() -> None:
    label = np.repeat([0, 1, 2], [30, 30, 4])
    right = np.arange(64) % 3 > 0
    people = np.concatenate([np.arange(60), np.full(4, 60)])
    found = statistics.cluster_bootstrap(right, label, people, seed=0)
    rest = label < 2
    low, high = statistics.cluster_bootstrap(right[rest], label[rest], people[rest], seed=0)
    assert found == pytest.approx((2 / 3 * low, 2 / 3 * high + 1 / 3))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_auc_interval_has_the_width_of_a_slow_bootstrap(classes: int) -> None:
    rng = np.random.default_rng(3)
    person = np.repeat(np.arange(60), 4)
    label = person % classes
    own = rng.normal(size=(60, classes))[person]
    score = np.eye(classes)[label] + own + rng.normal(size=own.shape)
    rows = [np.flatnonzero(person == p) for p in range(60)]
    slow = []
    for _ in range(500):
        drawn = np.concatenate([rows[p] for p in rng.integers(0, 60, 60)])
        slow.append(auc_one_vs_rest(label[drawn], score[drawn]))
    low, high = statistics.auc_interval(label, score, person)
    assert low < auc_one_vs_rest(label, score) < high
    # Student's t and the exact ends make it wider than 3.92 standard errors, by little.
    assert 3.92 * np.std(slow) * 0.95 < high - low < 3.92 * np.std(slow) * 1.25
    assert statistics.auc_interval(label, score, None)[0] > low


def test_auc_intervals_of_perfect_rankings_and_of_too_few_people() -> None:
    label = np.repeat([0, 1], 10)
    score = np.stack([-label, label], axis=1).astype(np.float64)
    low, high = statistics.auc_interval(label, score, None)
    assert high == 1.0
    assert 0.5 < low < 0.9
    assert statistics.auc_interval(label, score, label) == (0.0, 1.0)


def test_floor_tests_have_closed_forms_and_agree_with_the_interval() -> None:
    """Standard error 0.02: z = 2 above, 1 below; TOST reaches 1.6449 standard errors."""
    reach = 1.959964 * 0.02
    p, margin = statistics.floor_tests((0.54 - reach, 0.54 + reach), 0.54, 0.5)
    assert p == pytest.approx(0.0227501, abs=1e-6)
    assert margin == pytest.approx(0.04 + 1.644854 * 0.02, abs=1e-6)
    p, margin = statistics.floor_tests((0.48 - reach, 0.48 + reach), 0.48, 0.5)
    assert p == pytest.approx(0.8413447, abs=1e-6)
    assert margin == pytest.approx(0.02 + 1.644854 * 0.02, abs=1e-6)
    for floor in np.linspace(0.5, 0.7, 41):
        below = statistics.floor_tests((0.553, 0.63), 0.6, float(floor))[0] < 0.025
        assert below == (floor < 0.553)
    assert statistics.floor_tests((1.0, 1.0), 1.0, 0.5) == (0.0, 0.5)
    assert statistics.floor_tests((0.5, 0.5), 0.5, 0.5) == (1.0, 0.0)


def test_pair_intervals_know_perfection_and_single_people() -> None:
    same = np.repeat([True, False], 20)
    people = np.stack([np.arange(40) % 10, (np.arange(40) + ~same) % 10], axis=1)
    low, high = pair_interval("verification_accuracy", same, 1.0 * ~same, 0.5, people, seed=0)
    assert high == 1.0
    assert 0.6 < low < 0.8  # 10 people: Clopper-Pearson of 10/10 at Student's t is 0.63
    nobody = np.zeros((40, 2), dtype=np.int64)
    assert pair_interval("auc", same, 1.0 * ~same, 0.5, nobody, seed=0) == (0.0, 1.0)


def test_weighted_area_equals_a_loop_over_repeated_pairs() -> None:
    """Whole numbers as weights: the same as repeating each pair so many times."""
    rng = np.random.default_rng(5)
    same, distance = rng.random(30) < 0.5, rng.integers(0, 6, 30).astype(np.float64)
    weights = rng.integers(0, 4, size=(3, 30)).astype(np.float64)
    found = weighted_auc(same, distance)(weights)
    for row, area in zip(weights.astype(np.int64), found, strict=True):
        assert area == pytest.approx(auc(np.repeat(same, row), -np.repeat(distance, row)))


def test_independent_accuracy_is_exact() -> None:
    label = np.array([0, 1] * 30)
    predicted = np.where(np.arange(60) < 37, label, 1 - label)
    expected = statistics.clopper_pearson(37, 60)
    assert statistics.interval_for("accuracy", label, predicted, None, seed=0) == expected
    unknown = np.full(60, -1)
    assert statistics.interval_for("accuracy", label, predicted, unknown, seed=0) == expected


def test_perfect_and_hopeless_guesses_keep_a_margin() -> None:
    """Twenty right of twenty cannot exclude 90 %: one more unit stands for the unseen."""
    label, people = np.repeat([0, 1], 10), np.arange(20)
    right = np.ones(20, dtype=bool)
    low, high = statistics.cluster_bootstrap(right, label, people, seed=0)
    assert high == 1.0
    assert 0.7 < low < 0.95
    low, high = statistics.cluster_bootstrap(~right, label, people, seed=0)
    assert low == 0.0
    assert 0.05 < high < 0.3
    assert statistics.cluster_bootstrap(right, label, np.zeros(20, dtype=np.int64), 0) == (0, 1)


def test_intervals_repeat_with_the_seed_and_follow_the_data() -> None:
    rng = np.random.default_rng(0)
    label, right, person = guesses(rng, (0.7, 0.6), 100, (1, 4), 0.1)
    one = statistics.cluster_bootstrap(right, label, person, seed=1)
    assert one == statistics.cluster_bootstrap(right, label, person, seed=1)
    assert one != statistics.cluster_bootstrap(right, label, person, seed=2)
    order = rng.permutation(len(label))
    renamed = person.max() - person[order]
    assert one == statistics.cluster_bootstrap(right[order], label[order], renamed, seed=1)
    predicted = np.where(right, label, 1 - label)
    assert one[0] < balanced_accuracy(label, predicted) < one[1]
    assert one == statistics.interval_for("balanced_accuracy", label, predicted, person, seed=1)


def test_bootstrap_of_types_equals_a_bootstrap_of_rows() -> None:
    rng = np.random.default_rng(7)
    label, right, person = guesses(rng, (0.7, 0.6), 50, (1, 3), 0.2)
    rows = [np.flatnonzero(person == p) for p in range(50)]
    slow = []
    for _ in range(1500):
        drawn = np.concatenate([rows[p] for p in rng.integers(0, 50, 50)])
        slow.append(np.mean([right[drawn][label[drawn] == k].mean() for k in (0, 1)]))
    low, high = statistics.cluster_bootstrap(right, label, person, seed=0)
    # The interval reaches a little further out than plain percentiles.
    plain = np.quantile(slow, [0.025, 0.975])
    assert low == pytest.approx(plain[0], abs=0.03)
    assert high == pytest.approx(plain[1], abs=0.03)
    assert high - low >= plain[1] - plain[0] - 0.01


def test_unknown_people_are_each_their_own() -> None:
    units = statistics.people_of(np.array([5, -1, 5, -1, 2]), 5)
    assert units[0] == units[2]
    assert len(set(units.tolist())) == 4
    assert statistics.people_of(None, 3).tolist() == [0, 1, 2]


def test_the_interval_of_a_mean_is_that_of_people() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 0.1, 200)
    low, high = statistics.mean_interval(values, None, 0)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.08)
    assert low < values.mean() < high
    people = np.repeat(np.arange(200), 4)
    thrice = statistics.mean_interval(np.repeat(values, 4), people, 0)
    assert thrice == pytest.approx((low, high), abs=2e-3)  # copies of a picture add nothing
    unknown = statistics.mean_interval(np.repeat(values, 4), None, 0)
    assert unknown[1] - unknown[0] < 0.6 * (high - low)
    alone = statistics.mean_interval(values, np.zeros(200, dtype=np.int64), 0)
    assert alone == (values.min(), values.max())


def test_the_interval_of_a_mean_covers_for_few_people() -> None:
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(8), 3)
    hits = 0
    for trial in range(200):
        values = np.repeat(rng.normal(0, 1, 8), 3) + rng.normal(0, 0.3, 24)
        low, high = statistics.mean_interval(values, people, trial, resamples=400)
        hits += low <= 0 <= high
    assert hits >= 180
