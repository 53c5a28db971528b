"""What is reached without trying: floors under any attacker of a class label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from veil.metrics import Flags, Labels, accuracy, balanced_accuracy


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


def class_mean(values: Flags, labels: Labels) -> float:
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
