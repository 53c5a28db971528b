"""Intervals of "the same person?" scores: pairs share people, so people are what is resampled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from veil.metrics import Flags, Labels, Reals
from veil.seeds import seed_for
from veil.statistics import (
    CHUNK_ELEMENTS,
    RESAMPLES_OF_A_VARIANCE,
    Interval,
    Weights,
    effective_interval,
    people_of,
    ratio,
)


def pair_interval(
    metric: Literal["verification_accuracy", "auc"],
    same: Flags,
    distance: Reals,
    threshold: float,
    people: Labels,
    seed: int,
    level: float = 0.95,
    resamples: int = RESAMPLES_OF_A_VARIANCE,
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
            return ratio(weights @ right, weights.sum(axis=1))

    m = int(units.max()) + 1
    if m < 2:
        return 0.0, 1.0
    score = float(statistic(np.ones((1, len(same))))[0])
    parts = [statistic(weights) for weights in _pair_weights(units, m, seed, resamples)]
    variance = float(np.nanvar(np.concatenate(parts)))
    return effective_interval(score, score * (1 - score), variance, m, m - 1, level)


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
        return ratio((nearer * wrong).sum(axis=1), found.sum(axis=1) * wrong.sum(axis=1))

    return areas


def _pair_weights(units: Labels, m: int, seed: int, resamples: int) -> Iterator[Weights]:
    """(b, p) weights of the pairs in b resamples of the m people, chunk by chunk."""
    rng = np.random.default_rng(seed_for(seed, "bootstrap"))
    left, right = units.T
    chunk = max(1, CHUNK_ELEMENTS // len(units))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = rng.multinomial(m, np.full(m, 1 / m), size=size).astype(np.float64)
        yield drawn[:, left] * np.where(left == right, 1.0, drawn[:, right])
