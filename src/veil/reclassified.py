"""What `reclassify` finds: its records, the utility score and the correlations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veil.data.dataset import MISSING
from veil.fixed_classifiers import Training
from veil.metrics import Labels
from veil.seeds import seed_for
from veil.statistics import Interval, mean_interval

Matrix = tuple[tuple[float | None, ...], ...]
Said = Mapping[str, Labels]


@dataclass(frozen=True)
class Rate:
    """A share in [0, 1] with its 95 % interval over people, of n pictures."""

    value: float
    interval: Interval
    n: int


@dataclass(frozen=True)
class Reading:
    """How well one label is read.

    Attributes:
        label: its name.
        private: whether the run hides it.
        original, released: balanced accuracy on the originals and on the releases of `test`.
        original_accuracy, released_accuracy: the same as plain accuracy, which the paper gives.
    """

    label: str
    private: bool
    original: Rate
    released: Rate
    original_accuracy: float
    released_accuracy: float


@dataclass(frozen=True)
class Fooling:
    """How often the classifier reads the value s' that was drawn (table 1).

    Attributes:
        label: the private label that was replaced.
        rate: of all pictures.
        changed: of those whose s' is not their true value s; None where there is none.
        by_class: of those of each true class, by its name.
    """

    label: str
    rate: Rate
    changed: Rate | None
    by_class: Mapping[str, Rate]


@dataclass(frozen=True)
class Correlations:
    """Pearson's correlations between binary labels as -1 and 1 (tables 3 and 4).

    Attributes:
        labels: names of rows and columns.
        truth: of the labels themselves.
        originals, released: of what the classifiers read; None where they always read the same.
    """

    labels: tuple[str, ...]
    truth: Matrix
    originals: Matrix
    released: Matrix


@dataclass(frozen=True)
class Reclassified:
    """What the classifiers read from one run's releases.

    Attributes:
        run: the folder's name.
        method: the method's title.
        private: what it hides.
        readings: of every label.
        utility_original, utility_released: mean balanced accuracy over the labels it does not
            hide; None where it hides them all.
        fooling: of every private label that was replaced; empty where none was.
        correlations: None where fewer than two labels are binary.
        mse: mean squared error of the released pictures, of [0, 1] a pixel and channel.
        psnr: mean over pictures in dB, each at most 100.
    """

    run: str
    method: str
    private: tuple[str, ...]
    readings: tuple[Reading, ...]
    utility_original: Rate | None
    utility_released: Rate | None
    fooling: tuple[Fooling, ...]
    correlations: Correlations | None
    mse: float
    psnr: float


@dataclass(frozen=True)
class Reclassification:
    """Several runs read by the same classifiers.

    Attributes:
        data: where the pictures come from.
        pictures: how many of `test` were read.
        seed: of the classifiers and of the releases' noise.
        training: how the classifiers were trained.
        runs: in the order given.
    """

    data: str
    pictures: int
    seed: int
    training: Training
    runs: tuple[Reclassified, ...]

    def dumps(self) -> str:
        """The text of reclassify.json."""
        return json.dumps(asdict(self), indent=1, allow_nan=False)


def utility_score(truth: Said, said: Said, people: Labels | None, seed: int) -> Rate | None:
    """The mean over labels of their balanced accuracies (section 4, there of accuracies).

    Its interval is that of a mean over people: each picture counts by how far it is above the
    recalls of its classes, which linearises the ratios that recalls are.

    Args:
        truth, said: label -> (n,) classes, -1 in `truth` where unknown.
        people: (n,) identities, -1 where unknown; None where all are.
        seed: of the resampling.

    Returns:
        None where no label is known.
    """
    known = {name: s for name, s in truth.items() if (s != MISSING).any()}
    if not known:
        return None
    scores, n = [], len(next(iter(known.values())))
    influence = np.zeros(n)
    for name, s in known.items():
        right = said[name] == s
        classes = np.unique(s[s != MISSING])
        recalls = {k: float(right[s == k].mean()) for k in classes}
        for k, recall in recalls.items():
            weight = n / ((s == k).sum() * len(classes) * len(known))
            influence[s == k] += (right[s == k] - recall) * weight
        scores.append(np.mean([*recalls.values()]))
    score = float(np.mean(scores))
    low, high = mean_interval(score + influence, people, seed_for(seed, "utility score"))
    return Rate(score, (max(0.0, low), min(1.0, high)), n)


def correlations(columns: NDArray[Any]) -> Matrix:
    """Pearson's correlations between the columns of (n, k); None with a constant one."""
    centred = columns - columns.mean(axis=0)
    covariance = centred.T @ centred
    spread = np.sqrt(np.diag(covariance))
    return tuple(
        tuple(
            float(covariance[i, j] / (spread[i] * spread[j])) if spread[i] * spread[j] else None
            for j in range(len(spread))
        )
        for i in range(len(spread))
    )
