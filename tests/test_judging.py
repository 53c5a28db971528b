"""Learning curves: who still gains from data or training is told from who does not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from small_evidence import cheap, made_up
from veil.attacks.attack import Attack, Guess, Knowledge
from veil.attacks.constant import Prior
from veil.attacks.linear import Logistic
from veil.attacks.mlp import Mlp
from veil.attacks.neighbours import Neighbours
from veil.attacks.search import Candidate, search
from veil.audit import audit
from veil.judging import learning_curve
from veil.targets import targets_of

N = 1500
RNG = np.random.default_rng(12)
S = RNG.integers(0, 2, N)
EASY = np.column_stack([S + 0.1 * RNG.normal(size=N), RNG.normal(size=(N, 3))])
# Every class is many small clusters: each new release teaches its own neighbourhood only.
CENTRES = RNG.normal(size=(300, 6))
CLUSTER = RNG.integers(0, 300, N)
HARD = CENTRES[CLUSTER] + 0.05 * RNG.normal(size=(N, 6))
LABEL = RNG.integers(0, 2, 300)[CLUSTER]


def curve(z: np.ndarray, s: np.ndarray, attack: Attack) -> tuple[float | None, float | None]:
    (target,) = targets_of(made_up(z, s))
    candidate = Candidate(attack, target.knowledge(target.feeds[0].z))
    (trial,) = search(
        [candidate], lambda guess: target.on_select(guess, 0), (1,), None, lambda _n, _t: None
    )
    found = learning_curve(target, trial, 0)
    return found.data, found.training


def test_more_data_helps_where_every_release_teaches_something_new() -> None:
    easy, hard = curve(EASY, S, Logistic())[0], curve(HARD, LABEL, Neighbours())[0]
    assert easy == pytest.approx(0, abs=0.01)
    assert hard is not None
    assert hard > 0.03


@dataclass(frozen=True)
class Trained(Logistic):
    """A linear attacker whose answers are right more often the longer it trains."""

    length: float = 1.0
    patient: bool = True

    def shortened(self, share: float) -> Trained:
        return replace(self, length=self.length * share)

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        guess = super().run(knowledge, seed)
        wrong = np.random.default_rng(0).random(len(guess.select)) > 0.5 + self.length / 2
        spoiled = np.where(wrong[:, None], guess.select[:, ::-1], guess.select)
        return guess if self.patient else replace(guess, select=spoiled)


def test_more_training_helps_an_attacker_that_was_stopped_early() -> None:
    assert curve(EASY, S, Trained(patient=False))[1] == pytest.approx(0.25, abs=0.08)
    assert curve(EASY, S, Trained())[1] == 0.0
    assert curve(EASY, S, Mlp())[1] == pytest.approx(0, abs=0.01)


def test_what_is_solved_or_constant_has_no_training_to_prolong() -> None:
    assert curve(EASY, S, Logistic())[1] is None
    assert curve(EASY, S, Prior()) == (None, None)


def test_the_doubts_of_a_curve_stand_beside_the_figure() -> None:
    def ids(z: np.ndarray, s: np.ndarray, attack: Attack) -> set[str]:
        worst = audit(made_up(z, s), cheap(Prior(), attack), 1).targets["s"].worst
        return {doubt.id for doubt in worst.doubts}

    assert "more-data-helps" in ids(HARD, LABEL, Neighbours())
    assert "more-data-helps" not in ids(EASY, S, Logistic())
    assert "more-training-helps" in ids(EASY, S, Trained(patient=False))
    assert "more-training-helps" not in ids(EASY, S, Trained())
