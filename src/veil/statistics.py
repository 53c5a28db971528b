"""Intervals and tests: how far a score can be trusted.

The independent units of a face data set are people, not photos. Every interval here takes the
person of each row (`people`), resamples whole people, and is tested by simulation to cover.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from veil.errors import VeilError
from veil.metrics import Flags, Labels, Reals
from veil.seeds import seed_for

Interval = tuple[float, float]
Weights = NDArray[np.float64]
ClassMetric = Literal["accuracy", "balanced_accuracy"]
UNKNOWN = -1
RESAMPLES = 2000
RESAMPLES_OF_A_VARIANCE = 1000  # the standard error is then known to 2 %
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
    resamples: int = RESAMPLES_OF_A_VARIANCE,
) -> Interval:
    """Interval of the balanced accuracy when whole units (people) are resampled.

    The resamples give the variance, and `effective_interval` the ends. A unit enters only by its
    counts of right rows and of rows per class, so units with equal counts are one type, and a
    resample is one multinomial draw of types: 20,000 people with one photo each cost no more than
    twenty. A class guessed without fault (or always wrongly) would seem certain; one more unit of
    the opposite outcome stands for what its few units cannot show. Half a one, elsewhere, makes up
    for people who are rarely guessed wrongly, but then often. The recall of a class of which there
    is a single unit could be anything.

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
    if holders.min() == 1:
        several = holders[column] > 1
        if not several.any():
            return 0.0, 1.0
        _, others = np.unique(units[several], return_inverse=True)
        low, high = cluster_bootstrap(
            right[several], labels[several], others, seed, level, resamples
        )
        told = float(np.mean(holders > 1))
        return told * low, told * high + 1 - told
    hits, rows = counts.sum(axis=0).reshape(2, k)
    counts = np.vstack([counts, _opposites(counts, holders)])
    types, frequency = np.unique(counts, axis=0, return_counts=True)
    rng = np.random.default_rng(seed_for(seed, "bootstrap"))
    totals = rng.multinomial(len(counts), frequency / len(counts), size=resamples) @ types
    # A resample may miss a rare class; its mean is then over the classes it holds.
    recalls = ratio(totals[:, :k], totals[:, k:])
    values = np.nanmean(recalls, axis=1)
    return effective_interval(
        float(np.mean(hits / rows)),
        float(values.mean() * (1 - values.mean())),
        float(values.var(ddof=1)),
        m,
        _freedom(np.nanvar(recalls, axis=0), holders),
        level,
    )


def auc_interval(
    labels: Labels, score: Reals, people: Labels | None, level: float = 0.95
) -> Interval:
    """Interval of `metrics.auc_one_vs_rest` over people (Obuchowski, Biometrics 1997).

    DeLong's components, a row's chance of being ranked rightly against rows of the other kind,
    are summed within people: what a bootstrap over people tends to, without one.

    Args:
        labels: (n,) classes, two or more of them present; score: (n, K) higher means this class.
        people: (n,) identities, -1 where unknown; None where all are.
    """
    from scipy.stats import rankdata

    units = people_of(people, len(labels))
    m, present = int(units.max()) + 1, np.unique(labels)
    influence, area = np.zeros(m), 0.0
    if score.shape[1] == 2:
        score = score - score[:, ::-1]
    for k in present:
        column, positive = score[:, k], labels == k
        rank, count = rankdata(column), np.array([(~positive).sum(), positive.sum()])
        below = np.empty(len(labels))
        below[positive] = (rank[positive] - rankdata(column[positive])) / count[0]
        below[~positive] = 1 - (rank[~positive] - rankdata(column[~positive])) / count[1]
        one = below[positive].mean()
        each = (below - one) / count[positive.astype(np.int64)]
        influence += np.bincount(units, weights=each, minlength=m) / len(present)
        area += float(one) / len(present)
    holders = min(len(np.unique(units[labels == k])) for k in present)
    if holders < 2:
        return 0.0, 1.0
    variance = float(np.square(influence).sum() * m / (m - 1))
    return effective_interval(area, area * (1 - area), variance, holders, holders - 1, level)


def effective_interval(
    score: float, single: float, variance: float, units: int, freedom: float, level: float = 0.95
) -> Interval:
    """Clopper-Pearson's interval at the effective sample size (Korn and Graubard 1998).

    n* = single / variance independent trials would know the score as well as these people do; it
    is lowered by (z / t)^2, because the variance itself was found from few people.

    Args:
        score: in [0, 1].
        single: the variance of one independent trial, p (1 - p).
        variance: of the score; 0 where all units are alike, which then count as one trial each.
        units: how many people.
        freedom: degrees of freedom of the variance.
    """
    from scipy.stats import beta, norm, t

    tail = (1 - level) / 2
    trials = single / variance if variance > 0 else float(units)
    trials *= (norm.ppf(tail) / t.ppf(tail, freedom)) ** 2
    hits, misses = score * trials, (1 - score) * trials
    low = beta.ppf(tail, hits, misses + 1) if hits > 0 else 0.0
    high = beta.ppf(1 - tail, hits + 1, misses) if misses > 0 else 1.0
    return float(low), float(high)


def mean_interval(
    values: Reals, people: Labels | None, seed: int, level: float = 0.95, resamples: int = RESAMPLES
) -> Interval:
    """Interval of a mean over pictures when people are resampled.

    Of a single person: the least and the greatest value.

    Args:
        values: (n,) one for each picture.
        people: (n,) identities, -1 where unknown; None where all are.
    """
    units = people_of(people, len(values))
    count, total = np.bincount(units), np.bincount(units, weights=values)
    m = len(count)
    if m < 2:
        return float(values.min()), float(values.max())
    rng = np.random.default_rng(seed_for(seed, "bootstrap"))
    drawn = rng.multinomial(m, np.full(m, 1 / m), size=resamples)
    return expanded_percentiles((drawn @ total) / (drawn @ count), m, level)


def floor_tests(interval: Interval, score: float, floor: float) -> tuple[float, float]:
    """Is the score above the floor, and if not, how closely does it keep to it?

    The score is taken as normal on either side, with the half of the 95 % interval on that side
    for 1.96 standard errors; so the people counted there count here. The floor is taken as given.

    Args:
        interval: 95 %, of the score.

    Returns:
        the one-sided p-value of "the score is not above the floor", below 0.025 exactly where the
        interval lies above it; and the smallest margin within which the score is equivalent to
        the floor at 5 %, by two one-sided tests (TOST; Schuirmann 1987).
    """
    normal = NormalDist()
    reach = normal.inv_cdf(0.975)
    below, above = ((abs(end - score) / reach) for end in interval)
    gap = score - floor
    deviation = below if gap > 0 else above
    p = normal.cdf(-gap / deviation) if deviation > 0 else float(gap <= 0)
    once = normal.inv_cdf(0.95)
    return p, max(gap + once * above, once * below - gap)


def expanded_percentiles(values: Weights, units: int, level: float) -> Interval:
    """Expanded percentile interval (Hesterberg 2015), for few units a little wider than plain."""
    from scipy.stats import norm, t

    if units < 2:
        return 0.0, 1.0
    reach = np.sqrt(units / (units - 1)) * t.ppf((1 + level) / 2, units - 1)
    low, high = np.nanquantile(values, [norm.cdf(-reach), norm.cdf(reach)])
    return float(low), float(high)


def _freedom(variances: Weights, units: NDArray[np.int64]) -> float:
    """Satterthwaite's degrees of freedom of a mean over classes, each with `units` people."""
    if not variances.any():
        return float(units.min() - 1)
    return float(variances.sum() ** 2 / (variances**2 / (units - 1)).sum())


def ratio(part: Weights, whole: Weights) -> Weights:
    """part / whole, NaN where a resample holds nothing to divide by."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _opposites(counts: Weights, holders: NDArray[np.int64]) -> Weights:
    """For each class one more unit, guessed the other way than most of its rows are.

    It is of mean size where the class is all right or all wrong, and of half that elsewhere.
    """
    k = len(holders)
    hits, rows = counts.sum(axis=0).reshape(2, k)
    size = np.where((hits == 0) | (hits == rows), 1.0, 0.5) * rows / holders
    return np.hstack([np.diag(np.where(hits < rows / 2, size, 0.0)), np.diag(size)])
