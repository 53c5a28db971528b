"""Scores against slow loops, closed forms and recorded values.

Recorded values: scikit-learn's and exact arithmetic on seeded draws; rates of a hand-made ROC.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from veil import metrics
from veil.errors import VeilError

Columns = tuple[NDArray[np.int64], NDArray[np.int64]]


def columns(seed: int, n: int, k: int) -> Columns:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    predicted = np.where(rng.random(n) < 0.5, labels, rng.integers(0, k, n))
    return labels, predicted


@given(seed=st.integers(0, 10_000), n=st.integers(1, 40), k=st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_class_scores_equal_slow_loops(seed: int, n: int, k: int) -> None:
    labels, predicted = columns(seed, n, k)
    right = [int(a == b) for a, b in zip(labels, predicted, strict=True)]
    assert metrics.accuracy(labels, predicted) == pytest.approx(sum(right) / n)
    recalls = []
    for c in range(k):
        of_class = [r for r, s in zip(right, labels, strict=True) if s == c]
        if of_class:
            recalls.append(sum(of_class) / len(of_class))
    expected = sum(recalls) / len(recalls)
    assert metrics.balanced_accuracy(labels, predicted) == pytest.approx(expected)


@given(seed=st.integers(0, 10_000), n=st.integers(2, 40), k=st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_mcc_is_the_correlation_of_one_hot_columns(seed: int, n: int, k: int) -> None:
    labels, predicted = columns(seed, n, k)
    one, other = np.eye(k)[labels], np.eye(k)[predicted]
    one, other = one - one.mean(0), other - other.mean(0)
    norm = np.sqrt((one * one).sum() * (other * other).sum())
    expected = (one * other).sum() / norm if norm > 1e-12 else 0.0
    assert metrics.mcc(labels, predicted) == pytest.approx(expected, abs=1e-12)


def test_a_collapsed_attacker_scores_chance() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    always = np.zeros(100, dtype=np.int64)
    assert metrics.accuracy(labels, always) == 0.9
    assert metrics.balanced_accuracy(labels, always) == 0.5
    assert metrics.mcc(labels, always) == 0.0


def test_a_class_absent_from_the_labels_has_no_recall() -> None:
    labels, predicted = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    assert metrics.balanced_accuracy(labels, predicted) == 0.75


@given(
    values=st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30).filter(
        lambda rows: len({positive for _, positive in rows}) == 2
    ),
    limit=st.floats(0, 1),
)
@settings(max_examples=80, deadline=None)
def test_ranking_scores_equal_slow_loops_with_ties(
    values: list[tuple[int, bool]], limit: float
) -> None:
    score = np.array([float(v) for v, _ in values])
    positive = np.array([p for _, p in values])
    wins = [
        1.0 if a > b else 0.5 if a == b else 0.0 for a in score[positive] for b in score[~positive]
    ]
    assert metrics.auc(positive, score) == pytest.approx(sum(wins) / len(wins))
    best = 0.0
    for threshold in score:
        if np.mean(score[~positive] >= threshold) <= limit:
            best = max(best, float(np.mean(score[positive] >= threshold)))
    assert metrics.tpr_at_fpr(positive, score, limit) == pytest.approx(best)


def test_auc_one_vs_rest_is_the_mean_over_present_classes() -> None:
    rng = np.random.default_rng(3)
    labels, score = rng.integers(0, 3, 60), rng.normal(size=(60, 4))
    mean = np.mean([metrics.auc(labels == k, score[:, k]) for k in range(3)])
    assert metrics.auc_one_vs_rest(labels, score) == pytest.approx(float(mean))


def test_equal_error_rate_of_hand_made_curves() -> None:
    same = np.array([True] * 4 + [False] * 4)
    apart = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    assert metrics.eer(same, apart) == 0.0
    assert metrics.eer(~same, apart) == 1.0
    one_each_wrong = np.array([1.0, 2, 3, 6, 5, 7, 8, 9])
    assert metrics.eer(same, one_each_wrong) == 0.25
    # Every distance ties: only "nothing" and "everything" remain, and the line between meets 1/2.
    assert metrics.eer(same, np.ones(8)) == 0.5


def test_equal_error_rate_of_two_normal_curves() -> None:
    """Genuine and impostor distances N(0,1) and N(2,1) cross where Phi(-1) = 0.158655."""
    rng = np.random.default_rng(0)
    same = np.arange(40_000) < 20_000
    distance = rng.normal(size=40_000) + np.where(same, 0.0, 2.0)
    assert metrics.eer(same, distance) == pytest.approx(0.158655, abs=0.006)
    assert metrics.tar_at_far(same, distance, 0.01) == pytest.approx(0.3721, abs=0.02)


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=20),
)
@settings(max_examples=80, deadline=None)
def test_no_threshold_beats_the_best(rows: list[tuple[int, bool]]) -> None:
    distance = np.array([float(d) for d, _ in rows])
    same = np.array([s for _, s in rows])
    chosen = metrics.best_threshold(same, distance)
    reached = metrics.verification_accuracy(same, distance, chosen)
    for threshold in np.arange(-0.5, 6, 0.5):
        assert metrics.verification_accuracy(same, distance, float(threshold)) <= reached + 1e-12


def test_information_of_known_channels() -> None:
    """A bit sent through a symmetric channel with error e carries 1 - h(e) bits."""
    error = 0.11
    labels = np.repeat([0, 1], 1000)
    seen = labels ^ (np.arange(2000) % 100 < 11)
    right, wrong = np.log(1 - error), np.log(error)
    guess: NDArray[np.float64] = np.stack(
        [np.where(seen == k, right, wrong) for k in (0, 1)], axis=1
    )
    capacity = 1 + error * np.log2(error) + (1 - error) * np.log2(1 - error)
    assert metrics.information_bits(guess, labels) == pytest.approx(capacity, abs=1e-9)
    assert metrics.information_bits(guess[:, ::-1], labels) == 0.0  # confidently wrong: clipped
    assert metrics.information_bits(np.full((2000, 2), np.log(0.5)), labels) == 0.0
    certain = np.stack([np.where(labels == k, 0.0, -np.inf) for k in (0, 1)], axis=1)
    assert metrics.information_bits(certain, labels) == pytest.approx(1.0)


def test_cramers_v_of_recorded_tables() -> None:
    """V = 0.560448538317805 and 0.386598095519235: chi2 31.410256 and 49.321169, no correction."""
    for table, expected in (
        ([[40, 10], [12, 38]], 0.560448538317805),
        ([[36, 5, 21, 8], [28, 12, 8, 8], [1, 23, 9, 6]], 0.386598095519235),
        ([[30, 30], [20, 20]], 0.0),
        ([[9, 0, 0], [0, 8, 0], [0, 0, 7]], 1.0),
        ([[5, 4]], 0.0),
    ):
        counts = np.array(table)
        a, b = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
        assert metrics.cramers_v(a, b) == pytest.approx(expected, rel=1e-9)


def test_normalised_gain() -> None:
    assert metrics.nag(0.9, 0.55, 0.97) == pytest.approx(0.35 / 0.42)
    assert metrics.nag(0.5, 0.55, 0.97) == 0.0
    assert metrics.nag(0.6, 0.6, 0.6) is None


def test_scores_of_an_attribute_attacker() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 500)
    evidence = rng.normal(size=500) + labels
    guess = -np.logaddexp(0, np.stack([evidence, -evidence], axis=1))
    found = metrics.scores(guess, labels)
    assert set(found) == {"balanced_accuracy", "accuracy", "mcc", "auc", "tpr_at_fpr_0.01"}
    assert found["auc"] == pytest.approx(metrics.auc(labels == 1, evidence))
    assert metrics.scores(guess[labels == 1], labels[labels == 1]).keys() == {
        "balanced_accuracy",
        "accuracy",
        "mcc",
    }
    assert metrics.scores(np.full((4, 2), [0.0, -np.inf]), np.array([0, 1, 0, 1]))["auc"] == 0.5


@pytest.mark.parametrize(
    ("guess", "labels", "message"),
    [
        (np.zeros((3, 2)), np.array([0, 1]), "cannot score"),
        (np.zeros((2, 2)), np.array([0, -1]), "missing"),
        (np.zeros((2, 2)), np.array([0, 2]), r"0\.\.1"),
        (np.full((2, 2), np.nan), np.array([0, 1]), "NaN"),
    ],
)
def test_bad_guesses_are_refused(
    guess: NDArray[np.float64], labels: NDArray[np.int64], message: str
) -> None:
    with pytest.raises(VeilError, match=message):
        metrics.scores(guess, labels)


def test_ranking_one_kind_is_an_error() -> None:
    with pytest.raises(VeilError, match="both kinds"):
        metrics.auc(np.ones(3, dtype=bool), np.arange(3.0))


def test_verification_scores_of_separable_pairs() -> None:
    same = np.array([True, True, False, False])
    found = metrics.verification_scores(same, np.array([0.1, 0.2, 0.8, 0.9]), threshold=0.5)
    assert found == {"verification_accuracy": 1.0, "auc": 1.0, "eer": 0.0, "tar_at_far_0.01": 1.0}
