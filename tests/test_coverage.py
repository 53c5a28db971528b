"""Intervals cover what they claim, tests err as rarely as they claim: by simulation.

Each test draws data sets whose truth is known and counts. With 400 data sets and a true coverage
of 95 %, the share lies above 0.917 with probability 0.998 (binomial); rates of error are judged
alike. The long run is benchmarks/audit_credibility.py, its table in docs/statistics.md.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from simulated import guesses
from veil import statistics
from veil.attacks.pairs import draw_pairs
from veil.metrics import auc
from veil.pair_statistics import pair_interval
from veil.scoring import balanced_bits, balanced_bits_low
from veil.statistics import Interval, floor_tests

SETS = 400
SLACK = 0.033
NORMAL = NormalDist()
MARGIN = 0.05


def coverage(intervals: list[Interval], truth: float) -> float:
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def at_most(rate: float, sets: int = SETS) -> float:
    """A share of `sets` that a true rate exceeds with probability 0.001."""
    return rate + 3.1 * math.sqrt(rate * (1 - rate) / sets)


@pytest.mark.parametrize(
    ("recall", "people", "photos", "likeness", "rare"),
    [
        ((0.5, 0.5), 60, (1, 1), 0.0, None),
        ((0.7, 0.6), 300, (1, 1), 0.0, 0.1),
        ((0.9, 0.3), 60, (2, 8), 0.3, None),
        ((0.6, 0.3, 0.4, 0.5), 120, (2, 8), 0.3, None),
        ((0.9, 0.9), 300, (2, 8), 0.3, 0.1),
    ],
)
def test_balanced_accuracy_intervals_cover(
    recall: tuple[float, ...],
    people: int,
    photos: tuple[int, int],
    likeness: float,
    rare: float | None,
) -> None:
    intervals = []
    for i in range(SETS):
        label, right, person = guesses(
            np.random.default_rng(i), recall, people, photos, likeness, rare
        )
        intervals.append(statistics.cluster_bootstrap(right, label, person, seed=i, resamples=300))
    found = coverage(intervals, float(np.mean(recall)))
    assert 0.95 - SLACK <= found <= 0.95 + SLACK


@pytest.mark.parametrize(("classes", "people"), [(2, 60), (2, 1000), (4, 200)])
def test_intervals_near_one_are_never_narrow(classes: int, people: int) -> None:
    """At recall 0.99 most small sets hold no mistake at all: wide is right, narrow is wrong."""
    intervals = []
    for i in range(SETS):
        label, right, person = guesses(np.random.default_rng(i), (0.99,) * classes, people)
        intervals.append(statistics.cluster_bootstrap(right, label, person, seed=i, resamples=300))
    assert coverage(intervals, 0.99) >= 0.95 - SLACK
    assert np.mean([low for low, _ in intervals]) > 0.85


def test_clopper_pearson_covers_whatever_the_accuracy() -> None:
    for p in (0.5, 0.9, 0.99):
        right = np.random.default_rng(0).binomial(60, p, SETS)
        assert coverage([statistics.clopper_pearson(int(k), 60) for k in right], p) >= 0.95 - SLACK


def test_ignoring_people_would_not_cover() -> None:
    """The negative control: photos of one person counted as independent rows."""
    kept, naive = [], []
    for i in range(100):
        rng = np.random.default_rng(i)
        label, right, person = guesses(rng, (0.6, 0.6), 40, (1, 30), 0.4)
        predicted = np.where(right, label, 1 - label)
        kept.append(statistics.interval_for("accuracy", label, predicted, person, seed=i))
        naive.append(statistics.interval_for("accuracy", label, predicted, None, seed=i))
    assert coverage(kept, 0.6) >= 0.88
    assert coverage(naive, 0.6) <= 0.75


@pytest.mark.parametrize("metric", ["verification_accuracy", "auc"])
@pytest.mark.parametrize("own", [0.0, 0.7])
def test_pair_intervals_cover(metric: Literal["verification_accuracy", "auc"], own: float) -> None:
    """Distances N(0, 1) and N(1.5, 1), shifted by both people's own N(0, own^2).

    The interval is wide where pairs are independent (nothing of their own), never narrow.
    """
    centre, threshold = 1.5, 0.75
    of_same, of_two = math.sqrt(1 + own**2), math.sqrt(1 + 2 * own**2)
    truth = {
        "verification_accuracy": 0.5 * NORMAL.cdf(threshold / of_same)
        + 0.5 * NORMAL.cdf((centre - threshold) / of_two),
        "auc": NORMAL.cdf(centre / math.hypot(of_same, of_two)),
    }[metric]
    identity = np.repeat(np.arange(60), 5)
    intervals, middles = [], []
    for i in range(80):
        rng = np.random.default_rng(i)
        asked = draw_pairs(identity, seed=i, count=400)
        people = np.stack([identity[asked.left], identity[asked.right]], axis=1)
        shift = rng.normal(size=60) * own
        extra = np.where(asked.same, shift[people[:, 0]], shift[people].sum(axis=1))
        distance = rng.normal(size=400) + np.where(asked.same, 0.0, centre) + extra
        interval = pair_interval(
            metric, asked.same, distance, threshold, people, seed=i, resamples=200
        )
        intervals.append(interval)
        right = (distance <= threshold) == asked.same
        middles.append(right.mean() if metric != "auc" else auc(asked.same, -distance))
    assert coverage(intervals, truth) >= 0.88  # 0.95 less three binomial errors of 80 sets
    # 3.92 standard errors are what an interval of the right width spans.
    width = float(np.mean([high - low for low, high in intervals]))
    assert width <= 1.7 * 3.92 * float(np.std(middles))


@pytest.mark.parametrize(("people", "separation"), [(60, 0.0), (60, 1.5), (200, 3.0)])
def test_auc_intervals_cover(people: int, separation: float) -> None:
    """Scores N(separation y, 1), half of whose variance a person's five photos share."""
    intervals = []
    person = np.repeat(np.arange(people), 5)
    label = person % 2
    for i in range(SETS):
        rng = np.random.default_rng(i)
        noise = rng.normal(size=people)[person] + rng.normal(size=len(person))
        score = separation * label + noise / math.sqrt(2)
        both = np.stack([-score, score], axis=1)
        intervals.append(statistics.auc_interval(label, both, person))
    found = coverage(intervals, NORMAL.cdf(separation / math.sqrt(2)))
    assert 0.95 - SLACK <= found <= 0.95 + SLACK + 0.01


@pytest.mark.parametrize(
    ("recall", "people", "photos", "likeness"),
    [
        ((0.5, 0.5), 60, (1, 1), 0.0),
        ((0.5, 0.5), 100, (2, 8), 0.3),
        ((0.25, 0.25, 0.25, 0.25), 200, (1, 1), 0.0),
        ((0.8, 0.8), 200, (1, 1), 0.0),
    ],
)
def test_floor_tests_err_as_rarely_as_they_claim(
    recall: tuple[float, ...], people: int, photos: tuple[int, int], likeness: float
) -> None:
    """At the floor itself "above" is wrong, at floor + margin "equivalent" is: 5 % of the time."""
    truth, above, equivalent, noticed = float(np.mean(recall)), 0, 0, 0
    for i in range(SETS):
        label, right, person = guesses(np.random.default_rng(i), recall, people, photos, likeness)
        score = float(np.mean([right[label == k].mean() for k in np.unique(label)]))
        interval = statistics.cluster_bootstrap(right, label, person, seed=i, resamples=300)
        above += floor_tests(interval, score, truth)[0] < 0.05
        equivalent += floor_tests(interval, score, truth - MARGIN)[1] < MARGIN
        noticed += floor_tests(interval, score, truth - 0.25)[0] < 0.05
    assert above / SETS <= at_most(0.05)
    assert equivalent / SETS <= at_most(0.05)
    assert noticed / SETS > 0.9  # the negative control: a test that never speaks errs never


def independent(
    rng: np.random.Generator, people: int, photos: int, boldness: float
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Log-probabilities, alike within people, that have nothing to do with the classes."""
    person = np.repeat(np.arange(people), photos)
    odds = boldness * rng.normal(size=people)[person]
    log_p = -np.logaddexp(0, np.stack([odds, -odds], axis=1))
    return log_p.astype(np.float32), rng.integers(0, 2, people)[person], person


@pytest.mark.parametrize(("people", "photos"), [(60, 1), (300, 1), (100, 5)])
def test_bits_are_rarely_claimed_where_there_are_none(people: int, photos: int) -> None:
    """Timid guesses are the hard case: the point estimate is above zero nearly half of the time."""
    claimed, estimated, ignoring = 0, 0, 0
    for i in range(SETS):
        log_p, label, person = independent(np.random.default_rng(i), people, photos, 0.02)
        claimed += balanced_bits_low(log_p, label, person) > 0
        estimated += balanced_bits(log_p, label) > 0
        ignoring += balanced_bits_low(log_p, label, None) > 0
    assert claimed / SETS <= at_most(0.05)
    assert estimated / SETS > 0.3
    if photos > 1:
        assert ignoring / SETS > 0.1


@pytest.mark.parametrize(("n", "mistakes"), [(60, 0.01), (300, 0.01), (1000, 0.001), (300, 0.3)])
def test_bits_are_not_overstated_where_mistakes_are_rare(n: int, mistakes: float) -> None:
    """A calibrated guess: the truth is 1 - H(mistakes); most small sets hold no mistake."""
    truth = 1 + mistakes * np.log2(mistakes) + (1 - mistakes) * np.log2(1 - mistakes)
    over, lows = 0, []
    for i in range(SETS):
        rng = np.random.default_rng(i)
        label = rng.integers(0, 2, n)
        said = np.where(rng.random(n) < mistakes, 1 - label, label)
        p = np.where(np.eye(2)[said] == 1, 1 - mistakes, mistakes)
        lows.append(balanced_bits_low(np.log(p).astype(np.float32), label, None))
        over += lows[-1] > truth
    assert over / SETS <= at_most(0.05)
    assert np.mean(lows) > truth / 3
