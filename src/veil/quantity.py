"""From estimates of a quantity, or of landmarks, to a record: chosen on select, scored on test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from veil.attacks.attack import Floats, Guess
from veil.evidence import Columns, Evidence
from veil.metrics import information_bits
from veil.quantity_metrics import (
    normalised_mean_errors,
    points_r2,
    points_r2_interval,
    quantity_scores,
    r2,
    r2_interval,
    squared_z_errors,
)
from veil.records import Record, RecordKind
from veil.scoring import floor_rows
from veil.seeds import seed_for
from veil.statistics import mean_interval

BINS = 8
DOUBT = 0.01  # of probability, spread evenly over the bins, so that no surprise costs everything


def quantity_record(
    evidence: Evidence,
    name: str,
    kind: RecordKind,
    attack: str,
    family: str,
    guesses: Sequence[Guess],
    seed: int,
) -> Record:
    """The record of a quantity's attacker from its estimates, one guess per seed.

    The score is R2 against the mean of "attack" (see `quantity_metrics.r2`), cut at 0: worse than
    that mean is no leak. `scores["r2_unclipped"]` is not cut, and `scores["train"]` is R2 on the
    attacker's own releases. The seed with the best R2 on select is scored on test; `spread` is the
    standard deviation over the seeds on select.

    Raises:
        VeilError: the quantity is missing in a row (see `Evidence.knowing`) or does not vary.
    """
    s = evidence.labels[name]
    baseline = _mean(s["attack"])
    on_select = [r2(s["select"], guess.select[:, 0], baseline) for guess in guesses]
    guess = guesses[int(np.argmax(on_select))]
    test, estimate = s["test"], guess.test[:, 0]
    found = quantity_scores(test, estimate, baseline)
    people = None if evidence.identity is None else evidence.identity["test"]
    low, high = r2_interval(test, estimate, baseline, people, seed_for(seed, "interval"))
    unclipped = found.pop("r2")
    return Record(
        target=name,
        kind=kind,
        attack=attack,
        family=family,
        metric="r2",
        score=max(0.0, unclipped),
        interval=(max(0.0, low), max(0.0, high)),
        select=max(0.0, *on_select),
        scores={
            "r2_unclipped": unclipped,
            **found,
            "train": r2(s["attack"], guess.attack[:, 0], baseline),
        },
        n=len(test),
        seeds=len(guesses),
        spread=float(np.std(on_select)) if len(guesses) > 1 else None,
        bits=quantity_bits(guess, s),
    )


def landmarks_record(
    evidence: Evidence,
    name: str,
    kind: RecordKind,
    attack: str,
    family: str,
    guesses: Sequence[Guess],
    seed: int,
) -> Record:
    """The record of a head of landmarks from its estimates, one guess per seed.

    The score is the mean R2 of the coordinates, against and cut as that of `quantity_record`.
    `scores` holds the mean distance of the points divided by that between the eyes ("nme"), and
    the mean squared error of z-scores by the deviations of "attack" ("z_mse"), each with the ends
    of its 95 % interval over people ("nme_low", "nme_high", ...).

    Raises:
        VeilError: a coordinate is missing in a row, or no coordinate varies.
    """
    s = evidence.labels[name]
    baseline = s["attack"].mean(axis=0, dtype=np.float64)
    on_select = [points_r2(s["select"], guess.select, baseline) for guess in guesses]
    guess = guesses[int(np.argmax(on_select))]
    test, estimate = s["test"], guess.test
    unclipped = points_r2(test, estimate, baseline)
    people = None if evidence.identity is None else evidence.identity["test"]
    drawn = seed_for(seed, "interval")
    low, high = points_r2_interval(test, estimate, baseline, people, drawn)
    deviation = s["attack"].std(axis=0, dtype=np.float64)
    beside = {"z_mse": squared_z_errors(test, estimate, deviation)}
    if test.shape[1] >= 4:
        beside["nme"] = normalised_mean_errors(test, estimate)
    scores = {"r2_unclipped": unclipped, "train": points_r2(s["attack"], guess.attack, baseline)}
    for score, of_faces in beside.items():
        ends = mean_interval(of_faces, people, drawn)
        scores |= {score: float(of_faces.mean()), f"{score}_low": ends[0], f"{score}_high": ends[1]}
    return Record(
        target=name,
        kind=kind,
        attack=attack,
        family=family,
        metric="r2",
        score=max(0.0, unclipped),
        interval=(max(0.0, low), max(0.0, high)),
        select=max(0.0, *on_select),
        scores=dict(scores),
        n=len(test),
        seeds=len(guesses),
        spread=float(np.std(on_select)) if len(guesses) > 1 else None,
    )


def quantity_floors(evidence: Evidence, name: str) -> dict[str, Record]:
    """The floors under any attack on a quantity: "mean" (0) and, beside a task, "label only".

    "Label only" is R2 on test of the mean of those of attack and select that share the useful
    label; where several useful labels are known, the highest over them.
    """
    s = evidence.labels[name]
    baseline = _mean(s["attack"])
    learn_s = np.concatenate([s["attack"], s["select"]]).astype(np.float64)
    best = {"mean": 0.0}
    for task in evidence.utility:
        if task not in evidence.labels or not evidence.meaning[task].is_class:
            continue
        y = {split: column + 1 for split, column in evidence.labels[task].items()}  # missing is 0
        learn_y = np.concatenate([y["attack"], y["select"]])
        size = 1 + max(int(column.max()) for column in y.values())
        counts = np.bincount(learn_y, minlength=size)
        sums = np.bincount(learn_y, weights=learn_s, minlength=size)
        means = np.where(counts > 0, sums / counts.clip(1), baseline)
        reached = r2(s["test"], means[y["test"]], baseline)
        best["label only"] = max(0.0, reached, best.get("label only", 0.0))
    return floor_rows(name, "r2", best, len(s["test"]))


def quantity_bits(guess: Guess, s: Columns) -> float:
    """Bits about a quantity that its estimates show on test.

    The quantity is cut into up to eight bins near the octiles of "attack". Each estimate is taken
    for a normal distribution with the deviation seen on "select", hence a probability of each bin.
    The bin's entropy less the cross entropy of these is, in expectation, a lower bound of the
    information between release and bin (Barber and Agakov 2003), whatever the distributions are,
    and the bin says no more than the quantity (data processing). The familiar -1/2 log2(1 - R2) is
    no such bound: for quantities that are not Gaussian it can be too high.

    Args:
        guess: estimates; s: the quantity of all three splits.
    """
    edges = _edges(s["attack"].astype(np.float64))
    spread = float(np.std(s["select"] - guess.select[:, 0]))
    log_probs = _bin_log_probs(guess.test[:, 0], max(spread, 1e-6), edges)
    return information_bits(log_probs, np.searchsorted(edges, s["test"]).astype(np.int64))


def _edges(learned: NDArray[np.float64]) -> NDArray[np.float64]:
    """Up to seven numbers near the octiles, each midway between two neighbouring values."""
    values = np.unique(learned)
    octiles = np.quantile(learned, np.arange(1, BINS) / BINS, method="lower")
    below = np.unique(np.searchsorted(values, octiles))
    below = below[below < len(values) - 1]
    edges: NDArray[np.float64] = (values[below] + values[below + 1]) / 2
    return edges


def _bin_log_probs(estimate: Floats, spread: float, edges: NDArray[np.float64]) -> Floats:
    """(n, len(edges) + 1) natural logarithms of P(bin) of normal distributions."""
    from scipy.stats import norm

    below = norm.cdf((edges - estimate[:, None].astype(np.float64)) / spread)
    shares = np.diff(below, prepend=0.0, append=1.0, axis=1)
    log_probs: Floats = np.log((1 - DOUBT) * shares + DOUBT / shares.shape[1]).astype(np.float32)
    return log_probs


def _mean(column: Floats) -> float:
    return float(column.mean(dtype=np.float64))
