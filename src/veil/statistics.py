"""Intervals, floors and tests: how far a score can be trusted, and what is reached without trying.

The independent units of a face data set are people, not photos. Every interval here takes the
person of each row (`people`), resamples whole people, and is tested by simulation to cover.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from veil.errors import VeilError
from veil.metrics import Flags, Labels, Reals, accuracy, balanced_accuracy
from veil.seeds import seed_for

Interval = tuple[float, float]
Weights = NDArray[np.float64]
ClassMetric = Literal["accuracy", "balanced_accuracy"]
UNKNOWN = -1
RESAMPLES = 2000
CHUNK_ELEMENTS = 8_000_000


def clopper_pearson(k: int, n: int, level: float = 0.95) -> Interval:
    """The exact two-sided interval of a proportion, k of n independent trials.

    The lower end at level 0.9 is the one-sided 95 % bound.
    """
    from scipy.stats import beta

    if not 0 <= k <= n or n < 1:
        raise VeilError(f"no proportion: {k} of {n}")
    tail = (1 - level) / 2
    low = beta.ppf(tail, k, n - k + 1) if k else 0.0
    high = beta.ppf(1 - tail, k + 1, n - k) if k < n else 1.0
    return float(low), float(high)


def people_of(people: Labels | None, n: int) -> Labels:
    """(n,) unit numbers 0..m-1: one per person, one per row where the person is unknown (-1)."""
    if people is None:
        return np.arange(n, dtype=np.int64)
    each = np.where(people == UNKNOWN, people.max(initial=0) + 1 + np.arange(n), people)
    return np.unique(each, return_inverse=True)[1].astype(np.int64)


def interval_for(
    metric: ClassMetric,
    labels: Labels,
    predicted: Labels,
    people: Labels | None,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """The interval of an attribute attacker's score on test.

    Accuracy of independent rows is exact (Clopper-Pearson); all else is a bootstrap over people.

    Args:
        labels, predicted: (n,) classes.
        people: (n,) identities, -1 where unknown; None where all are.
    """
    right = predicted == labels
    units = people_of(people, len(labels))
    if metric == "balanced_accuracy":
        return cluster_bootstrap(right, labels, units, seed, level)
    if units.max() + 1 == len(units):
        return clopper_pearson(int(right.sum()), len(right), level)
    return cluster_bootstrap(right, np.zeros_like(labels), units, seed, level)


def cluster_bootstrap(
    right: Flags,
    labels: Labels,
    units: Labels,
    seed: int,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Interval of the balanced accuracy when whole units (people) are resampled.

    A unit enters only by its counts of right rows and of rows per class, so units with equal counts
    are one type, and a resample is one multinomial draw of types: 20,000 people with one photo
    each cost no more than twenty. A class guessed without fault (or always wrongly) would seem
    certain; one more unit of the opposite outcome stands for what its few units cannot show.

    Args:
        right: (n,) whether the row was guessed rightly.
        labels: (n,) classes, over which the recalls are averaged; all 0 gives the accuracy.
        units: (n,) unit numbers 0..m-1, as from `people_of`.
    """
    _, column = np.unique(labels, return_inverse=True)
    m, k = int(units.max()) + 1, int(column.max()) + 1
    counts = np.zeros((m, 2 * k))
    np.add.at(counts, (units, column), right)
    np.add.at(counts, (units, k + column), 1)
    holders = np.count_nonzero(counts[:, k:], axis=0)
    counts = np.vstack([counts, _opposites(counts, holders)])
    types, frequency = np.unique(counts, axis=0, return_counts=True)
    rng = np.random.default_rng(seed_for(seed, "bootstrap"))
    totals = rng.multinomial(len(counts), frequency / len(counts), size=resamples) @ types
    # A resample may miss a rare class; its mean is then over the classes it holds.
    recalls = _ratio(totals[:, :k], totals[:, k:])
    return _percentiles(np.nanmean(recalls, axis=1), m if m < 2 else max(2, holders.min()), level)


def pair_interval(
    metric: Literal["verification_accuracy", "auc"],
    same: Flags,
    distance: Reals,
    threshold: float,
    people: Labels,
    seed: int,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Interval of a verification score when people are resampled.

    A pair of two people weighs the product of the times each was drawn, a pair of one person the
    times that person was (Owen's pigeonhole bootstrap, Annals of Applied Statistics 2007). This is
    right when people make scores vary, and wide, never narrow, when pairs vary independently.

    Args:
        same: (p,) whether the pair shows one person; distance: (p,) smaller means same.
        threshold: "same" means distance <= threshold; not used by the AUC.
        people: (p, 2) the person on either side.
    """
    units = people_of(people.ravel(), people.size).reshape(people.shape)
    statistic: Callable[[Weights], Weights]
    if metric == "auc":
        statistic = weighted_auc(same, distance)
    else:
        right = ((distance <= threshold) == same).astype(np.float64)

        def statistic(weights: Weights) -> Weights:
            return _ratio(weights @ right, weights.sum(axis=1))

    m = int(units.max()) + 1
    values = [statistic(weights) for weights in _pair_weights(units, m, seed, resamples)]
    return _percentiles(np.concatenate(values), m, level)


@dataclass(frozen=True)
class Floors:
    """Balanced accuracies that no release supporting the task can be blamed for, in [0, 1].

    Attributes:
        majority: always one class, 1 / classes present.
        label_only: the best map from the true y to s.
        copy: what copying the task's answer must reach, A - (1 - u); None without answers.
    """

    majority: float
    label_only: float | None = None
    copy: float | None = None

    @property
    def highest(self) -> float:
        return max(f for f in (self.majority, self.label_only, self.copy) if f is not None)


def floors(
    learn_y: Labels | None,
    learn_s: Labels,
    test_y: Labels | None,
    test_s: Labels,
    test_answer: Labels | None = None,
) -> Floors:
    """All floors of a private label s beside a useful label y.

    Args:
        learn_y, learn_s: (m,) labels of attack and select, from which y -> s is learned.
        test_y, test_s: (n,) labels of test.
        test_answer: (n,) the task head's classes on the releases of test.

    The copy floor is counted with each private class weighing the same, in A and in u alike: as
    g(answer) errs only where g(y) or the answer does, A - (1 - u) bounds balanced accuracy too.
    """
    majority = 1 / len(np.unique(test_s))
    if learn_y is None or test_y is None:
        return Floors(majority)
    known, met = learn_y >= 0, test_y >= 0
    if not known.any() or not met.any():
        return Floors(majority)
    mapped = best_map(learn_y[known], learn_s[known], int(max(learn_y.max(), test_y.max())) + 1)
    agreement = balanced_accuracy(test_s[met], mapped[test_y[met]])
    if test_answer is None:
        return Floors(majority, agreement)
    utility = class_mean(test_answer[met] == test_y[met], test_s[met])
    return Floors(majority, agreement, copy_floor(agreement, utility))


def best_map(y: Labels, s: Labels, y_classes: int) -> Labels:
    """(y_classes,) the s to guess from each y for the highest balanced accuracy: argmax P(y|s)."""
    s_classes = int(s.max()) + 1
    table = np.bincount(s * y_classes + y, minlength=s_classes * y_classes)
    table = table.reshape(s_classes, y_classes)
    likelihood = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    guess: Labels = likelihood.argmax(axis=0)
    return guess


def class_mean(values: NDArray[np.bool_], labels: Labels) -> float:
    """Mean over the classes present of the mean of `values` within the class."""
    _, column = np.unique(labels, return_inverse=True)
    return float(np.mean(np.bincount(column, weights=values) / np.bincount(column)))


def copy_floor(agreement: float, utility: float) -> float:
    """A - (1 - u): what any release that supports a task at u lets an attacker reach.

    Args:
        agreement: A = P(s agrees with y under the best map), in [0, 1].
        utility: u = P(the task's answer is y), in [0, 1], under the same weighting of rows.
    """
    return agreement - (1 - utility)


def majority_accuracy(labels: Labels) -> float:
    """The accuracy of always naming the most frequent class."""
    return accuracy(labels, np.full_like(labels, np.bincount(labels).argmax()))


def difference_interval(k1: int, n1: int, k2: int, n2: int, level: float = 0.95) -> Interval:
    """Interval of p1 - p2 of independent samples (Newcombe 1998, method 10, from Wilson's)."""
    p1, p2 = k1 / n1, k2 / n2
    (low1, high1), (low2, high2) = wilson(k1, n1, level), wilson(k2, n2, level)
    below = np.hypot(p1 - low1, high2 - p2)
    above = np.hypot(high1 - p1, p2 - low2)
    return float(p1 - p2 - below), float(p1 - p2 + above)


def equivalent(k1: int, n1: int, k2: int, n2: int, margin: float, error: float = 0.05) -> bool:
    """Whether two proportions differ by less than `margin`: two one-sided tests (TOST)."""
    low, high = difference_interval(k1, n1, k2, n2, 1 - 2 * error)
    return -margin < low and high < margin


def wilson(k: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion, k of n."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    p, shrink = k / n, 1 + z * z / n
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / shrink
    centre = (p + z * z / (2 * n)) / shrink
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def _percentiles(values: Weights, units: int, level: float) -> Interval:
    """Expanded percentile interval (Hesterberg 2015), for few units a little wider than plain.

    Where every resample gives 0, or every one 1, the bootstrap knows nothing; then the end is the
    exact one of `units` trials.
    """
    from scipy.stats import norm, t

    if units < 2:
        return 0.0, 1.0
    reach = np.sqrt(units / (units - 1)) * t.ppf((1 + level) / 2, units - 1)
    low, high = np.nanquantile(values, [norm.cdf(-reach), norm.cdf(reach)])
    if low == high == 1:
        low = clopper_pearson(units, units, level)[0]
    if low == high == 0:
        high = clopper_pearson(0, units, level)[1]
    return float(low), float(high)


def _ratio(part: Weights, whole: Weights) -> Weights:
    """part / whole, NaN where a resample holds nothing to divide by."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _opposites(counts: Weights, holders: NDArray[np.int64]) -> Weights:
    """For each class all right or all wrong, one unit of its mean size with the other outcome."""
    k = len(holders)
    hits, rows = counts.sum(axis=0).reshape(2, k)
    units = []
    for j in np.flatnonzero((hits == 0) | (hits == rows)):
        unit = np.zeros(2 * k)
        unit[k + j] = rows[j] / holders[j]
        unit[j] = 0.0 if hits[j] else unit[k + j]
        units.append(unit)
    return np.array(units).reshape(-1, 2 * k)


def _pair_weights(units: Labels, m: int, seed: int, resamples: int) -> Iterator[Weights]:
    """(b, p) weights of the pairs in b resamples of the m people, chunk by chunk."""
    rng = np.random.default_rng(seed_for(seed, "bootstrap"))
    left, right = units.T
    chunk = max(1, CHUNK_ELEMENTS // len(units))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = rng.multinomial(m, np.full(m, 1 / m), size=size).astype(np.float64)
        yield drawn[:, left] * np.where(left == right, 1.0, drawn[:, right])


def weighted_auc(same: Flags, distance: Reals) -> Callable[[Weights], Weights]:
    """A function from (b, p) weights to (b,) areas under the weighted ROC, ties 1/2."""
    order = np.argsort(distance, kind="stable")
    ranked, is_same = distance[order], same[order]
    starts = np.append(0, np.flatnonzero(ranked[1:] != ranked[:-1]) + 1)

    def areas(weights: Weights) -> Weights:
        weights = weights[:, order]
        found = np.add.reduceat(weights * is_same, starts, axis=1)
        wrong = np.add.reduceat(weights * ~is_same, starts, axis=1)
        nearer = np.cumsum(found, axis=1) - found / 2
        return _ratio((nearer * wrong).sum(axis=1), found.sum(axis=1) * wrong.sum(axis=1))

    return areas
