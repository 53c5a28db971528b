"""Records of a quantity: honest scores, floors from a useful label, bits that are a lower bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from veil.attacks.attack import AttackSplit, Guess
from veil.data.dataset import BINARY, Label
from veil.evidence import ATTACK_SPLITS, Evidence
from veil.quantity import landmarks_record, quantity_bits, quantity_floors, quantity_record

Column = NDArray[np.float32]


def divided(column: NDArray[Any]) -> dict[AttackSplit, NDArray[Any]]:
    """The rows in order: half attack, a sixth select, a third test."""
    ends = [len(column) // 2, 2 * len(column) // 3]
    return dict(zip(ATTACK_SPLITS, np.split(column, ends), strict=True))


def aged(n: int = 3000, utility: tuple[str, ...] = ("y",)) -> tuple[Evidence, Column]:
    """Ages of deviation 12.8 whose useful label shifts them by 10 either way; two photos each."""
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=n)
    age = (30 + 20 * y + 8 * rng.normal(size=n)).astype(np.float32)
    evidence = Evidence(
        name="made up",
        z={split: torch.zeros(len(rows), 2) for split, rows in divided(y).items()},
        labels={"age": divided(age), "y": divided(y)},
        meaning={"age": Label("continuous"), "y": BINARY},
        private=("age",),
        utility=utility,
        identity=divided(np.arange(n) // 2),
    )
    return evidence, age


def guess(estimate: Column) -> Guess:
    parts = divided(estimate[:, None])
    return Guess(parts["attack"], parts["select"], parts["test"])


def test_a_good_estimate_is_scored_against_the_mean_of_attack() -> None:
    evidence, age = aged()
    noise = np.random.default_rng(1).normal(size=len(age))
    near = guess((age + 6 * noise).astype(np.float32))
    far = guess((age + 12 * noise).astype(np.float32))
    record = quantity_record(evidence, "age", "attribute", "ridge", "linear", [far, near], 0)
    s = {split: column.astype(np.float64) for split, column in evidence.labels["age"].items()}
    error = ((s["test"] - near.test[:, 0]) ** 2).sum()
    expected = 1 - error / ((s["test"] - s["attack"].mean()) ** 2).sum()
    assert record.score == pytest.approx(expected)
    assert record.metric == "r2"
    assert record.interval is not None
    assert record.interval[0] < expected < record.interval[1] < expected + 0.1
    assert record.scores["mae"] == pytest.approx(6 * np.sqrt(2 / np.pi), rel=0.05)
    assert record.scores["within_5"] == pytest.approx(0.595, abs=0.04)
    assert record.scores["correlation"] == pytest.approx(np.sqrt(164 / 200), abs=0.02)
    assert record.seeds == 2
    assert record.spread is not None
    assert record.spread > 0.1
    assert record.n == len(s["test"])


def test_worse_than_the_mean_is_no_leak_but_is_told() -> None:
    evidence, age = aged()
    against = guess((80 - age).astype(np.float32))
    record = quantity_record(evidence, "age", "attribute", "wrong", "linear", [against], 0)
    assert (record.score, record.interval, record.select) == (0, (0, 0), 0)
    assert record.scores["r2_unclipped"] == pytest.approx(-3, abs=0.2)
    assert record.scores["correlation"] == pytest.approx(-1)
    assert record.bits == 0
    assert record.spread is None


def test_the_mean_scores_nothing_and_leaves_out_the_correlation() -> None:
    evidence, age = aged()
    mean = np.full_like(age, evidence.labels["age"]["attack"].mean())
    record = quantity_record(evidence, "age", "attribute", "mean", "constant", [guess(mean)], 0)
    assert record.score == pytest.approx(0, abs=1e-6)
    assert "correlation" not in record.scores


def test_the_label_only_floor_is_what_the_useful_label_explains() -> None:
    """Between the groups 100 of 164 units of variance."""
    evidence, _ = aged(9000)
    found = quantity_floors(evidence, "age")
    assert found["mean"].score == 0
    assert found["label only"].score == pytest.approx(100 / 164, abs=0.03)
    rng = np.random.default_rng(3)
    unrelated: Mapping[AttackSplit, Any] = {
        split: rng.permutation(y) for split, y in evidence.labels["y"].items()
    }
    shuffled = replace(evidence, labels={**evidence.labels, "y": unrelated})
    assert quantity_floors(shuffled, "age")["label only"].score == pytest.approx(0, abs=0.01)
    assert set(quantity_floors(aged(utility=())[0], "age")) == {"mean"}


def test_bits_stay_below_the_information_of_a_gaussian_channel() -> None:
    """s, z jointly Gaussian: I = -1/2 log2(1 - rho^2) exactly, and eight bins show most of it."""
    rng = np.random.default_rng(0)
    for rho in (0.3, 0.6, 0.9):
        z = rng.normal(size=20_000)
        s = rho * z + np.sqrt(1 - rho**2) * rng.normal(size=len(z))
        bits = quantity_bits(guess((rho * z).astype(np.float32)), divided(s.astype(np.float32)))
        true = -0.5 * np.log2(1 - rho**2)
        assert 0.6 * true < bits < true


def test_bits_of_a_coin_are_at_most_one_where_the_gaussian_formula_says_six() -> None:
    rng = np.random.default_rng(0)
    s = rng.integers(2, size=4000).astype(np.float32)
    estimate = (s + 0.008 * rng.normal(size=len(s))).astype(np.float32)
    bits = quantity_bits(guess(estimate), divided(s))
    assert 0.9 < bits <= 1
    assert -0.5 * np.log2(0.008**2 / 0.25) > 5.9


def test_bits_of_an_unrelated_estimate_are_none() -> None:
    rng = np.random.default_rng(0)
    s, estimate = rng.normal(size=(2, 6000)).astype(np.float32)
    assert quantity_bits(guess(estimate), divided(s)) == 0


def placed(n: int = 3000) -> tuple[Evidence, Column]:
    """Eyes 20 apart and a nose, moved about with a deviation of 3 pixels; two photos of each."""
    rng = np.random.default_rng(0)
    face = np.array([10, 10, 30, 10, 20, 20])
    points = (face + 3 * np.repeat(rng.normal(size=(n // 2, 2)), 2, axis=0)[:, [0, 1] * 3]).astype(
        np.float32
    )
    evidence = Evidence(
        name="made up",
        z={split: torch.zeros(len(rows), 2) for split, rows in divided(points).items()},
        labels={"points": divided(points)},
        meaning={"points": Label("landmarks")},
        private=(),
        utility=("points",),
        identity=divided(np.arange(n) // 2),
    )
    return evidence, points


def points_guess(estimate: Column) -> Guess:
    parts = divided(estimate)
    return Guess(parts["attack"], parts["select"], parts["test"])


def test_landmarks_are_scored_by_r2_by_the_eyes_and_by_their_deviation() -> None:
    """Errors of 2 pixels a coordinate: Rayleigh's mean of 2 sqrt(pi / 2), 20 between the eyes."""
    evidence, points = placed()
    noise = np.random.default_rng(1).normal(size=points.shape)
    near, far = (points_guess((points + error * noise).astype(np.float32)) for error in (2.0, 4.0))
    record = landmarks_record(evidence, "points", "utility", "mlp", "mlp", [far, near], 0)
    scores = {name: value or 0.0 for name, value in record.scores.items()}
    assert (record.metric, record.seeds, record.n) == ("r2", 2, 1000)
    assert record.score == pytest.approx(1 - 4 / 9, abs=0.04)
    assert scores["train"] == pytest.approx(1 - 4 / 9, abs=0.04)
    assert record.interval is not None
    assert record.interval[0] < 1 - 4 / 9 < record.interval[1]
    assert scores["z_mse"] == pytest.approx(4 / 9, abs=0.03)
    assert scores["nme"] == pytest.approx(2 * np.sqrt(np.pi / 2) / 20, rel=0.03)
    for score in ("nme", "z_mse"):
        assert scores[f"{score}_low"] < scores[score] < scores[f"{score}_high"]
    assert record.spread is not None
    assert record.spread > 0.3


def test_landmarks_worse_than_their_mean_score_nothing_and_one_point_has_no_nme() -> None:
    evidence, points = placed()
    one = replace(evidence, labels={"points": divided(points[:, :2])})
    wrong = points_guess(-points[:, :2])
    record = landmarks_record(one, "points", "utility", "own head", "own head", [wrong], 0)
    assert (record.score, record.interval, record.select) == (0, (0, 0), 0)
    assert (record.scores["r2_unclipped"] or 0.0) < -10
    assert "nme" not in record.scores
