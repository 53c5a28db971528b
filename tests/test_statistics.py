"""Intervals that cover what they claim, floors against enumerations.

Each coverage test draws data sets whose true score is known and counts how often the interval
holds it. With 400 data sets and a true coverage of 95 %, the count lies in 0.95 +- 0.033 with
probability 0.998 (binomial).
"""

from __future__ import annotations

import math
from itertools import product
from statistics import NormalDist
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from veil import statistics
from veil.attacks.pairs import draw_pairs
from veil.errors import VeilError
from veil.metrics import auc, balanced_accuracy
from veil.statistics import Interval

SETS = 400
SLACK = 0.033


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


def guesses(
    rng: np.random.Generator, recall: tuple[float, ...], people: int, photos: int, likeness: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Labels, right guesses and person of 1..`photos` photos each of `people` people.

    A person's photos share the label and a success probability whose intra-class correlation is
    `likeness`; the first class is twice as frequent as each other one.
    """
    share = np.array([2.0] + [1.0] * (len(recall) - 1))
    label = rng.choice(len(recall), size=people, p=share / share.sum())
    success = np.array(recall)[label]
    if likeness:
        strength = (1 - likeness) / likeness
        success = rng.beta(success * strength, (1 - success) * strength)
    person = np.repeat(np.arange(people), rng.integers(1, photos + 1, people))
    return label[person], rng.random(len(person)) < success[person], person


def coverage(intervals: list[Interval], truth: float) -> float:
    return float(np.mean([low <= truth <= high for low, high in intervals]))


@pytest.mark.parametrize(
    ("recall", "people", "photos", "likeness"),
    [
        ((0.7, 0.6), 300, 1, 0.0),
        ((0.9, 0.3), 60, 12, 0.3),
        ((0.6, 0.3, 0.4), 120, 5, 0.1),
        ((0.98, 0.95), 120, 3, 0.0),
    ],
)
def test_balanced_accuracy_intervals_cover(
    recall: tuple[float, ...], people: int, photos: int, likeness: float
) -> None:
    truth = float(np.mean(recall))
    intervals = []
    for i in range(SETS):
        rng = np.random.default_rng(i)
        label, right, person = guesses(rng, recall, people, photos, likeness)
        intervals.append(statistics.cluster_bootstrap(right, label, person, seed=i, resamples=300))
    assert 0.95 - SLACK <= coverage(intervals, truth) <= 0.95 + SLACK


def test_ignoring_people_would_not_cover() -> None:
    """The negative control: photos of one person counted as independent rows."""
    kept, naive = [], []
    for i in range(100):
        rng = np.random.default_rng(i)
        label, right, person = guesses(rng, (0.6, 0.6), 40, 30, 0.4)
        predicted = np.where(right, label, 1 - label)
        kept.append(statistics.interval_for("accuracy", label, predicted, person, seed=i))
        naive.append(statistics.interval_for("accuracy", label, predicted, None, seed=i))
    assert coverage(kept, 0.6) >= 0.88
    assert coverage(naive, 0.6) <= 0.75


@pytest.mark.parametrize("metric", ["verification_accuracy", "auc"])
@pytest.mark.parametrize("difference", [0.0, 0.7])
def test_pair_intervals_cover(
    metric: Literal["verification_accuracy", "auc"], difference: float
) -> None:
    """Distances N(0, 1) and N(1.5, 1), shifted by both people's own N(0, difference^2).

    The interval is wide where pairs are independent (no difference), never narrow.
    """
    centre, threshold, normal = 1.5, 0.75, NormalDist()
    of_same, of_two = math.sqrt(1 + difference**2), math.sqrt(1 + 2 * difference**2)
    truth = {
        "verification_accuracy": 0.5 * normal.cdf(threshold / of_same)
        + 0.5 * normal.cdf((centre - threshold) / of_two),
        "auc": normal.cdf(centre / math.hypot(of_same, of_two)),
    }[metric]
    identity = np.repeat(np.arange(60), 5)
    intervals, middles = [], []
    for i in range(80):
        rng = np.random.default_rng(i)
        asked = draw_pairs(identity, seed=i, count=400)
        people = np.stack([identity[asked.left], identity[asked.right]], axis=1)
        shift = rng.normal(size=60) * difference
        own = np.where(asked.same, shift[people[:, 0]], shift[people].sum(axis=1))
        distance = rng.normal(size=400) + np.where(asked.same, 0.0, centre) + own
        low, high = statistics.pair_interval(
            metric, asked.same, distance, threshold, people, seed=i, resamples=300
        )
        intervals.append((low, high))
        right = (distance <= threshold) == asked.same
        middles.append(right.mean() if metric != "auc" else auc(asked.same, -distance))
    assert coverage(intervals, truth) >= 0.88  # 0.95 less three binomial errors of 80 sets
    # 3.92 standard errors are what an interval of the right width spans.
    width = float(np.mean([high - low for low, high in intervals]))
    assert width <= 1.7 * 3.92 * float(np.std(middles))


def test_weighted_area_equals_a_loop_over_repeated_pairs() -> None:
    """Whole numbers as weights: the same as repeating each pair so many times."""
    rng = np.random.default_rng(5)
    same, distance = rng.random(30) < 0.5, rng.integers(0, 6, 30).astype(np.float64)
    weights = rng.integers(0, 4, size=(3, 30)).astype(np.float64)
    found = statistics.weighted_auc(same, distance)(weights)
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
    label, right, person = guesses(rng, (0.7, 0.6), 100, 4, 0.1)
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
    label, right, person = guesses(rng, (0.7, 0.6), 50, 3, 0.2)
    rows = [np.flatnonzero(person == p) for p in range(50)]
    slow = []
    for _ in range(1500):
        drawn = np.concatenate([rows[p] for p in rng.integers(0, 50, 50)])
        slow.append(np.mean([right[drawn][label[drawn] == k].mean() for k in (0, 1)]))
    low, high = statistics.cluster_bootstrap(right, label, person, seed=0)
    # The expanded percentiles reach a little further out than the plain ones.
    plain = np.quantile(slow, [0.025, 0.975])
    assert low == pytest.approx(plain[0], abs=0.03)
    assert high == pytest.approx(plain[1], abs=0.03)
    assert high - low >= plain[1] - plain[0] - 0.01


def test_unknown_people_are_each_their_own() -> None:
    units = statistics.people_of(np.array([5, -1, 5, -1, 2]), 5)
    assert units[0] == units[2]
    assert len(set(units.tolist())) == 4
    assert statistics.people_of(None, 3).tolist() == [0, 1, 2]


def test_the_best_map_beats_every_other_map() -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 4, 300)
    s = np.where(rng.random(300) < 0.6, y % 3, rng.integers(0, 3, 300))
    best = balanced_accuracy(s, statistics.best_map(y, s, 4)[y])
    every = [balanced_accuracy(s, np.array(m)[y]) for m in product(range(3), repeat=4)]
    assert best == pytest.approx(max(every))


def test_floors_of_a_recorded_table() -> None:
    """n(s, y) = 40 10 / 12 38: copying y is right for 0.78 of either measure; V = 0.56."""
    s = np.repeat([0, 0, 1, 1], [40, 10, 12, 38])
    y = np.repeat([0, 1, 0, 1], [40, 10, 12, 38])
    found = statistics.floors(y, s, y, s, test_answer=y)
    assert (found.majority, found.label_only, found.copy) == pytest.approx((0.5, 0.78, 0.78))
    assert found.highest == pytest.approx(0.78)
    for utility, floor in ((0.95, 0.73), (0.8, 0.58), (0.6, 0.38)):
        assert statistics.copy_floor(0.78, utility) == pytest.approx(floor)
    assert statistics.floors(None, s, None, s) == statistics.Floors(0.5)


def test_copying_the_answer_never_falls_below_the_copy_floor() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        s = rng.integers(0, 3, 60)
        y = np.where(rng.random(60) < rng.random(), s % 2, rng.integers(0, 2, 60))
        answer = np.where(rng.random(60) < rng.random(), y, rng.integers(0, 2, 60))
        found = statistics.floors(y, s, y, s, answer)
        copied = balanced_accuracy(s, statistics.best_map(y, s, 2)[answer])
        assert found.copy is not None
        assert copied >= found.copy - 1e-12


def test_floors_ignore_rows_without_a_useful_label() -> None:
    s, y = np.array([0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, -1])
    assert statistics.floors(y, s, y, s).label_only == 1.0
    assert statistics.floors(np.full(5, -1), s, y, s) == statistics.Floors(0.5)


def test_majority_accuracy() -> None:
    assert statistics.majority_accuracy(np.array([1, 1, 0, 1])) == 0.75


def test_wilson_of_recorded_counts() -> None:
    assert statistics.wilson(1, 50) == pytest.approx((0.003539, 0.104954), abs=1e-6)
    assert statistics.wilson(37, 60) == pytest.approx((0.490176, 0.729117), abs=1e-6)
    assert statistics.wilson(0, 20) == pytest.approx((0.0, 0.161125), abs=1e-6)


def test_difference_interval_of_newcombe_1998() -> None:
    """Table II, method 10: 56/70 - 48/80 has [0.0524, 0.3339]; 10/10 - 0/10 [0.6075, 1]."""
    found = statistics.difference_interval(56, 70, 48, 80)
    assert found == pytest.approx((0.0524, 0.3339), abs=1e-4)
    found = statistics.difference_interval(10, 10, 0, 10)
    assert found == pytest.approx((0.6075, 1.0), abs=1e-4)


def test_equivalence_needs_evidence_not_only_closeness() -> None:
    assert statistics.equivalent(500, 1000, 505, 1000, margin=0.05)
    assert not statistics.equivalent(50, 100, 50, 100, margin=0.05)  # too few to tell
    assert not statistics.equivalent(500, 1000, 560, 1000, margin=0.05)  # apart


def test_equivalence_errs_at_its_stated_rate() -> None:
    """At a true difference equal to the margin, "equivalent" is wrong at most 5 % of the time."""
    rng = np.random.default_rng(0)
    first, second = rng.binomial(400, 0.5, 2000), rng.binomial(400, 0.6, 2000)
    wrong = [
        statistics.equivalent(int(a), 400, int(b), 400, margin=0.1)
        for a, b in zip(first, second, strict=True)
    ]
    assert np.mean(wrong) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)
