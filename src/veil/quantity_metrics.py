"""Scores of estimates of a quantity (an age), and of landmarks. Plain functions, numpy in.

As in `metrics`, a score that the data cannot define is an error here and is left out by
`quantity_scores`; it is never NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from veil.errors import VeilError
from veil.metrics import Labels, Reals
from veil.seeds import seed_for
from veil.statistics import (
    CHUNK_ELEMENTS,
    RESAMPLES,
    Interval,
    expanded_percentiles,
    people_of,
    ratio,
)

NEAR = 5  # units of the quantity: years, of an age


def r2(truth: Reals, estimate: Reals, baseline: float) -> float:
    """Share of the squared error of a constant that an estimate does away with, in (-inf, 1].

    Out of sample: 1 - sum (truth - estimate)^2 / sum (truth - baseline)^2. 1 is perfect, 0 no
    better than the baseline, and below 0 worse than it.

    Args:
        truth, estimate: (n,) values of a quantity.
        baseline: what would be said without the release: the mean of the rows learned from, not
            of those scored, which the attacker does not know.

    Raises:
        VeilError: shapes disagree, a value is not finite, or every truth equals the baseline.
    """
    error, total = squared_errors(truth, estimate, baseline)
    if total.sum() == 0:
        raise VeilError(f"no R2: all {len(truth)} values equal the baseline {baseline:g}")
    return float(1 - error.sum() / total.sum())


def squared_errors(
    truth: Reals, estimate: Reals, baseline: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) squared errors of the estimates, and of the baseline; see `r2`."""
    truth, estimate = _quantities(truth, estimate)
    return (truth - estimate) ** 2, (truth - baseline) ** 2


def mean_absolute_error(truth: Reals, estimate: Reals) -> float:
    """Mean of |truth - estimate|, in the quantity's units."""
    truth, estimate = _quantities(truth, estimate)
    return float(np.abs(truth - estimate).mean())


def correlation(truth: Reals, estimate: Reals) -> float:
    """Pearson's correlation, in [-1, 1].

    Raises:
        VeilError: one of the two is constant, so that nothing can go along with it.
    """
    truth, estimate = _quantities(truth, estimate)
    if min(np.ptp(truth), np.ptp(estimate)) == 0:
        raise VeilError(f"no correlation of {len(truth)} rows: one side is constant")
    return float(np.corrcoef(truth, estimate)[0, 1])


def rank_correlation(truth: Reals, estimate: Reals) -> float:
    """Spearman's correlation, in [-1, 1]: Pearson's of the ranks, ties at their mean rank."""
    from scipy.stats import rankdata

    truth, estimate = _quantities(truth, estimate)
    return correlation(rankdata(truth), rankdata(estimate))


def share_within(truth: Reals, estimate: Reals, units: float) -> float:
    """Share of rows whose estimate is at most `units` off, in [0, 1]."""
    truth, estimate = _quantities(truth, estimate)
    return float(np.mean(np.abs(truth - estimate) <= units))


def quantity_scores(truth: Reals, estimate: Reals, baseline: float) -> dict[str, float]:
    """Every score of a quantity's attacker; those that the data cannot define are left out.

    Returns:
        r2, mae, within_5 (units of the quantity) and, unless all estimates are equal, correlation
        and rank_correlation.
    """
    found = {
        "r2": r2(truth, estimate, baseline),
        "mae": mean_absolute_error(truth, estimate),
        f"within_{NEAR}": share_within(truth, estimate, NEAR),
    }
    if min(np.ptp(truth), np.ptp(estimate)) > 0:
        found["correlation"] = correlation(truth, estimate)
        found["rank_correlation"] = rank_correlation(truth, estimate)
    return found


def r2_interval(
    truth: Reals,
    estimate: Reals,
    baseline: float,
    people: Labels | None,
    seed: int,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Interval of `r2` when people are resampled; the baseline stays as it is.

    A person enters by two sums: of squared errors, and of squared distances from the baseline.

    Args:
        truth, estimate: (n,) values of a quantity; baseline: what is said without the release.
        people: (n,) identities, -1 where unknown; None where all are.
    """
    units = people_of(people, len(truth))
    sums = [np.bincount(units, weights=e) for e in squared_errors(truth, estimate, baseline)]
    m = len(sums[0])
    rng = np.random.default_rng(seed_for(seed, "bootstrap"))
    chunk = max(1, CHUNK_ELEMENTS // m)
    values = []
    for start in range(0, resamples, chunk):
        drawn = rng.integers(m, size=(min(chunk, resamples - start), m), dtype=np.int32)
        error, total = (of_unit[drawn].sum(axis=1) for of_unit in sums)
        values.append(1 - ratio(error, total))
    return expanded_percentiles(np.concatenate(values), m, level)


def points_r2(truth: Reals, estimate: Reals, baseline: Reals) -> float:
    """Mean of `r2` over the coordinates of landmarks that vary, each weighing the same.

    Args:
        truth, estimate: (n, 2k) coordinates.
        baseline: (2k,) what would be said without the release.

    Raises:
        VeilError: shapes disagree, a value is not finite, or every coordinate is its baseline.
    """
    error, total = (of.sum(axis=0) for of in squared_point_errors(truth, estimate, baseline))
    if not total.any():
        raise VeilError(f"no R2: all {len(truth)} faces have their landmarks where all have them")
    return float(np.nanmean(1 - ratio(error, total)))


def squared_point_errors(
    truth: Reals, estimate: Reals, baseline: Reals
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, 2k) squared errors of the estimates, and of the baseline; see `points_r2`."""
    truth, estimate = _coordinates(truth, estimate)
    return (truth - estimate) ** 2, (truth - baseline) ** 2


def points_r2_interval(
    truth: Reals,
    estimate: Reals,
    baseline: Reals,
    people: Labels | None,
    seed: int,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Interval of `points_r2` when people are resampled; the baseline stays as it is.

    Args:
        truth, estimate, baseline: see `points_r2`.
        people: (n,) identities, -1 where unknown; None where all are.
    """
    units = people_of(people, len(truth))
    m = int(units.max()) + 1
    sums = []
    for of_rows in squared_point_errors(truth, estimate, baseline):
        of_units = np.zeros((m, truth.shape[1]))
        np.add.at(of_units, units, of_rows)
        sums.append(of_units)
    rng = np.random.default_rng(seed_for(seed, "bootstrap"))
    chunk = max(1, CHUNK_ELEMENTS // m)
    values = []
    for start in range(0, resamples, chunk):
        drawn = rng.multinomial(m, np.full(m, 1 / m), size=min(chunk, resamples - start))
        error, total = (drawn @ of_units for of_units in sums)
        values.append(np.nanmean(1 - ratio(error, total), axis=1))
    return expanded_percentiles(np.concatenate(values), m, level)


def normalised_mean_errors(truth: Reals, estimate: Reals) -> NDArray[np.float64]:
    """(n,) mean distance of the points from where they are, divided by that between the eyes.

    Their mean over faces is the NME of face alignment, here not in percent. The first two points
    are the eyes, as in CelebA.

    Args:
        truth, estimate: (n, 2k) coordinates x1, y1, x2, y2, ..., k >= 2.

    Raises:
        VeilError: there are fewer than two points, or both eyes of a face are in one place.
    """
    truth, estimate = (of.reshape(len(of), -1, 2) for of in _coordinates(truth, estimate))
    if truth.shape[1] < 2:
        raise VeilError("one point has no distance between the eyes to be divided by")
    between = np.linalg.norm(truth[:, 0] - truth[:, 1], axis=1)
    if not between.all():
        row = int(np.argmin(between))
        raise VeilError(f"row {row}: the first two landmarks, the eyes, are in one place")
    found: NDArray[np.float64] = np.linalg.norm(truth - estimate, axis=2).mean(axis=1) / between
    return found


def squared_z_errors(truth: Reals, estimate: Reals, deviation: Reals) -> NDArray[np.float64]:
    """(n,) mean over coordinates of the squared error in units of their deviations.

    Its mean over faces is the MSE of z-scores (NARL, UAI 2023, section 4.3). Coordinates of
    deviation 0 are left out.

    Args:
        truth, estimate: (n, 2k) coordinates; deviation: (2k,), of the rows learned from.
    """
    truth, estimate = _coordinates(truth, estimate)
    varies = deviation > 0
    found: NDArray[np.float64] = (((truth - estimate)[:, varies] / deviation[varies]) ** 2).mean(
        axis=1
    )
    return found


def _coordinates(truth: Reals, estimate: Reals) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both in double precision, after checks; (n, 2k)."""
    if truth.ndim != 2 or truth.shape[1] % 2 or truth.shape != estimate.shape:
        raise VeilError(f"cannot score {estimate.shape} estimates of {truth.shape} coordinates")
    flat, estimates = _quantities(truth.reshape(-1), estimate.reshape(-1))
    return flat.reshape(truth.shape), estimates.reshape(truth.shape)


def _quantities(truth: Reals, estimate: Reals) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both in double precision, after checks."""
    if truth.ndim != 1 or truth.shape != estimate.shape or len(truth) == 0:
        raise VeilError(f"cannot score {estimate.shape} estimates of {truth.shape} values")
    if not np.isfinite(truth).all():
        raise VeilError("a missing value (NaN) cannot be scored: leave its row out first")
    if not np.isfinite(estimate).all():
        raise VeilError("the attacker's estimates are not all finite: it diverged")
    return truth.astype(np.float64), estimate.astype(np.float64)
