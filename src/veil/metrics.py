"""Scores of a guess: of a class, or of "the same person?". Plain functions, numpy in, floats out.

A score that the data cannot define (an AUC where one class is absent) is an error here and is left
out by `scores`; it is never NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from veil.errors import VeilError

Labels = NDArray[np.int64]
Reals = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]
LOW_RATE = 0.01


def confusion(labels: Labels, predicted: Labels) -> NDArray[np.int64]:
    """(K, K) counts, rows the true class, columns the predicted one.

    Raises:
        VeilError: nothing to score, lengths differ, or a class below 0 (a missing label).
    """
    if len(labels) == 0 or labels.shape != predicted.shape or labels.ndim != 1:
        raise VeilError(f"cannot score {predicted.shape} predictions of {labels.shape} labels")
    if min(labels.min(), predicted.min()) < 0:
        raise VeilError("a missing label (below 0) cannot be scored: leave its row out first")
    k = int(max(labels.max(), predicted.max())) + 1
    return np.bincount(labels * k + predicted, minlength=k * k).reshape(k, k)


def accuracy(labels: Labels, predicted: Labels) -> float:
    """Share of rows that are right, in [0, 1]."""
    table = confusion(labels, predicted)
    return float(np.trace(table) / table.sum())


def balanced_accuracy(labels: Labels, predicted: Labels) -> float:
    """Mean recall over the classes *present* in `labels`, in [0, 1].

    A class that is only ever predicted has no recall and is not counted; its predictions still
    cost the class they were wrong about.
    """
    table = confusion(labels, predicted)
    count = table.sum(axis=1)
    return float(np.mean(np.diag(table)[count > 0] / count[count > 0]))


def mcc(labels: Labels, predicted: Labels) -> float:
    """Matthews correlation in [-1, 1] (multi-class: Gorodkin's R_K); 0/0 counts as 0."""
    table = confusion(labels, predicted).astype(np.float64)
    true, guessed, n = table.sum(axis=1), table.sum(axis=0), table.sum()
    spread = (n * n - true @ true) * (n * n - guessed @ guessed)
    return float((np.trace(table) * n - true @ guessed) / np.sqrt(spread)) if spread > 0 else 0.0


def auc(positive: Flags, score: Reals) -> float:
    """P(a positive scores above a negative), ties counted as 1/2; in [0, 1].

    Args:
        positive: (n,) which rows are positive.
        score: (n,) higher means positive.

    Raises:
        VeilError: one of the two kinds is absent, so that there is nothing to rank.
    """
    from scipy.stats import rankdata

    positives, negatives = _both_kinds(positive, "AUC")
    ranks = rankdata(score)[positive].sum() - positives * (positives + 1) / 2
    return float(ranks / (positives * negatives))


def auc_one_vs_rest(labels: Labels, score: Reals) -> float:
    """Mean over classes of the AUC of "this class" against the rest by its own column.

    Args:
        labels: (n,) classes 0..K-1; a class absent from `labels` has no AUC and is not counted.
        score: (n, K) higher means this class.
    """
    if score.shape[1] == 2:
        return auc(labels == 1, score[:, 1] - score[:, 0])
    present = np.unique(labels)
    return float(np.mean([auc(labels == k, score[:, k]) for k in present]))


def roc(positive: Flags, score: Reals) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates at every threshold, from "accept nothing" to "accept all".

    A row is accepted when its score reaches the threshold; tied scores are accepted together.
    """
    positives, negatives = _both_kinds(positive, "ROC curve")
    order = np.argsort(-score, kind="stable")
    ends = _ends_of_ties(score[order])
    accepted = np.cumsum(positive[order])[ends]
    fpr = np.append(0.0, (ends + 1 - accepted) / negatives)
    return fpr, np.append(0.0, accepted / positives)


def tpr_at_fpr(positive: Flags, score: Reals, fpr: float) -> float:
    """The largest true positive rate at a false positive rate of at most `fpr`.

    No interpolation: where `fpr` is below 1 / negatives, no false positive is allowed at all.
    """
    false, true = roc(positive, score)
    return float(true[false <= fpr].max())


def eer(same: Flags, distance: Reals) -> float:
    """Equal error rate: where the ROC polyline meets "false accepts = false rejects", in [0, 1]."""
    accepts, found = roc(same, -distance)
    rejects = 1 - found
    after = int(np.argmax(accepts >= rejects))  # never 0: there, nothing is accepted
    gap = rejects - accepts
    part = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(accepts[after - 1] + part * (accepts[after] - accepts[after - 1]))


def tar_at_far(same: Flags, distance: Reals, far: float) -> float:
    """True accept rate at a false accept rate of at most `far` (no interpolation)."""
    return tpr_at_fpr(same, -distance, far)


def verification_accuracy(same: Flags, distance: Reals, threshold: float) -> float:
    """Share of pairs judged rightly when "same" means distance <= threshold."""
    return float(np.mean((distance <= threshold) == same))


def best_threshold(same: Flags, distance: Reals) -> float:
    """The threshold with the highest verification accuracy, midway between two distances.

    Choose it on the selection pairs and score other pairs with it. -inf accepts nothing,
    +inf everything.
    """
    order = np.argsort(distance, kind="stable")
    ranked = distance[order].astype(np.float64)
    ends = _ends_of_ties(ranked)
    gain = np.append(0, np.cumsum(np.where(same[order], 1, -1))[ends])
    between = (ranked[ends[:-1]] + ranked[ends[:-1] + 1]) / 2
    return float(np.concatenate([[-np.inf], between, [np.inf]])[np.argmax(gain)])


def cross_entropy_bits(log_probs: Reals, labels: Labels) -> float:
    """Mean -log2 p(label), in bits; infinite where a label was held to be impossible."""
    return float(-np.mean(log_probs[np.arange(len(labels)), labels].astype(np.float64)) / np.log(2))


def entropy_bits(labels: Labels) -> float:
    """Entropy of the labels' own frequencies, in bits."""
    share = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(share * np.log2(share)).sum())


def information_bits(log_probs: Reals, labels: Labels) -> float:
    """max(0, H(s) - CE): bits about the label that the guess shows on held-out rows.

    In expectation a lower bound of the mutual information between release and label
    (Barber and Agakov 2003), because no guess has a cross entropy below H(s | z).

    Args:
        log_probs: (n, K) natural logarithms of class probabilities.
        labels: (n,) classes.
    """
    return max(0.0, entropy_bits(labels) - cross_entropy_bits(log_probs, labels))


def cramers_v(a: Labels, b: Labels) -> float:
    """Association of two class columns, sqrt(chi2 / (n min(R-1, C-1))) in [0, 1].

    No Yates correction and no bias correction; 0 where one of them is constant.
    """
    _, row = np.unique(a, return_inverse=True)
    _, column = np.unique(b, return_inverse=True)
    shape = (int(row.max()) + 1, int(column.max()) + 1)
    table = np.bincount(row * shape[1] + column, minlength=shape[0] * shape[1]).reshape(shape)
    if min(shape) == 1:
        return 0.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    chi2 = ((table - expected) ** 2 / expected).sum()
    return float(np.sqrt(chi2 / (table.sum() * (min(shape) - 1))))


def nag(acc: float, majority: float, acc_clean: float) -> float | None:
    """Normalised accuracy gain, max(0, (acc - majority) / (acc_clean - majority)).

    0: no better than the majority class; 1: as good as on the original images; above 1: better.
    None where the originals themselves give no gain, so that there is nothing to compare with.
    """
    if acc_clean <= majority:
        return None
    return max(0.0, (acc - majority) / (acc_clean - majority))


def scores(log_probs: Reals, labels: Labels) -> dict[str, float]:
    """Every score of an attribute attacker; those the labels cannot define are left out.

    Args:
        log_probs: (n, K) natural-log class probabilities.
        labels: (n,) classes 0..K-1.

    Returns:
        balanced_accuracy, accuracy, mcc, auc (multi-class: one against the rest, macro) and, for
        two classes, tpr_at_fpr_0.01.

    Raises:
        VeilError: shapes disagree, a label is missing or out of range, or a guess is NaN.
    """
    if log_probs.ndim != 2 or len(log_probs) != len(labels) or len(labels) == 0:
        raise VeilError(f"cannot score {log_probs.shape} log-probabilities of {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= log_probs.shape[1]:
        raise VeilError(f"labels must lie in 0..{log_probs.shape[1] - 1}: leave out missing rows")
    if np.isnan(log_probs).any():
        raise VeilError("the attacker's log-probabilities hold NaN: it diverged")
    predicted = log_probs.argmax(axis=1)
    found = {
        "balanced_accuracy": balanced_accuracy(labels, predicted),
        "accuracy": accuracy(labels, predicted),
        "mcc": mcc(labels, predicted),
    }
    if np.any(labels != labels[0]):
        finite = np.maximum(log_probs.astype(np.float64), np.finfo(np.float32).min)
        found["auc"] = auc_one_vs_rest(labels, finite)
        if log_probs.shape[1] == 2:
            evidence = finite[:, 1] - finite[:, 0]
            found[f"tpr_at_fpr_{LOW_RATE}"] = tpr_at_fpr(labels == 1, evidence, LOW_RATE)
    return found


def verification_scores(same: Flags, distance: Reals, threshold: float) -> dict[str, float]:
    """verification_accuracy, auc, eer and tar_at_far_0.01 of pairs, by their distances.

    Args:
        same: (n,) whether both pictures show one person; distance: (n,) smaller means same.
        threshold: from `best_threshold` on other pairs.
    """
    if np.isnan(distance).any():
        raise VeilError("the attacker's distances hold NaN: it diverged")
    return {
        "verification_accuracy": verification_accuracy(same, distance, threshold),
        "auc": auc(same, -distance),
        "eer": eer(same, distance),
        f"tar_at_far_{LOW_RATE}": tar_at_far(same, distance, LOW_RATE),
    }


def _ends_of_ties(ranked: Reals) -> NDArray[np.int64]:
    """The last position of every run of equal values of a sorted column."""
    return np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)


def _both_kinds(positive: Flags, what: str) -> tuple[int, int]:
    positives = int(np.count_nonzero(positive))
    if positives in (0, len(positive)):
        raise VeilError(f"no {what} of {len(positive)} rows of one kind: both kinds are needed")
    return positives, len(positive) - positives
