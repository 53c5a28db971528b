"""Attackers of what the task gives away, against the numbers a joint table implies."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from planted_leaks import balanced_accuracy, checked, nothing, planted
from torch import Tensor

from veil.attacks.attack import AttackSplit, Ints, Knowledge
from veil.attacks.constant import LabelOnly, Prior
from veil.attacks.copying import CopyHead, CopyLearned
from veil.attacks.linear import Logistic

AGREES = 0.8  # P(y = s), whichever s


def task_release(y: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 4): y in the first feature, nothing else; y is read right .977 of the time."""
    z = torch.randn(len(y), 4, generator=rng)
    z[:, 0] = 2.0 * (2.0 * y - 1.0) + z[:, 0]
    return z


def correlated(rows: tuple[int, int, int] = (2000, 500, 2000)) -> tuple[Knowledge, Ints]:
    """A release of y alone, where s is y flipped one time in five; and test's s."""
    known, y_test = planted(task_release, rows)
    y = _three(known, y_test)
    rng = np.random.default_rng(0)
    s = {split: np.where(rng.random(len(v)) < AGREES, v, 1 - v) for split, v in y.items()}
    return replace(known, s=_two(s), y=y, y_classes=2), s["test"]


def _three(known: Knowledge, test: Ints) -> dict[AttackSplit, Ints]:
    return {"attack": known.s["attack"], "select": known.s["select"], "test": test}


def _two(labels: dict[AttackSplit, Ints]) -> dict[Literal["attack", "select"], Ints]:
    return {"attack": labels["attack"], "select": labels["select"]}


def test_prior_says_the_majority_and_is_worth_one_in_k() -> None:
    known, s = planted(nothing, shares=(0.2, 0.7, 0.1))
    guess = checked(Prior().run(known, 0), known)
    assert (guess.test.argmax(1) == 1).all()
    assert balanced_accuracy(guess.test, s) == pytest.approx(1 / 3)
    np.testing.assert_allclose(np.exp(guess.test), 1 / 3, atol=1e-3)


def test_label_only_reaches_the_agreement_of_the_two_labels() -> None:
    known, s = correlated()
    score = balanced_accuracy(checked(LabelOnly().run(known, 0), known).test, s)
    assert score == pytest.approx(AGREES, abs=0.025)


def test_label_only_reads_a_missing_label_too() -> None:
    known, s = planted(nothing)
    y = {k: np.where(v == 1, -1, 0) for k, v in _three(known, s).items()}
    known = replace(known, y=y, y_classes=1)
    assert balanced_accuracy(LabelOnly().run(known, 0).test, s) == 1.0


def test_copying_a_learned_head_reaches_the_copy_floor() -> None:
    known, s = correlated()
    floor = AGREES - (1 - 0.977)
    score = balanced_accuracy(checked(CopyLearned(Logistic()).run(known, 0), known).test, s)
    assert floor - 0.025 < score < AGREES + 0.025


def test_copying_the_public_head_reads_its_answers_and_nothing_else() -> None:
    known, s = correlated()
    assert known.y is not None
    answers = {k: 5 * np.eye(2, dtype=np.float32)[v] for k, v in known.y.items()}
    blind = replace(known, z={k: torch.zeros_like(v) for k, v in known.z.items()}, answers=answers)
    score = balanced_accuracy(checked(CopyHead().run(blind, 0), blind).test, s)
    assert score == pytest.approx(AGREES, abs=0.025)


def test_a_useless_task_or_a_release_without_it_gives_nothing_away() -> None:
    known, s = correlated()
    assert known.y is not None
    rng = np.random.default_rng(1)
    shuffled = replace(known, y={k: rng.permutation(v) for k, v in known.y.items()})
    assert balanced_accuracy(LabelOnly().run(shuffled, 0).test, s) < 0.54
    noise = replace(known, z={k: v[:, 1:] for k, v in known.z.items()})
    assert balanced_accuracy(CopyLearned(Logistic()).run(noise, 0).test, s) < 0.54


def test_what_is_not_there_cannot_be_copied() -> None:
    known, _ = planted(nothing)
    assert LabelOnly().unfit_for(known) == "there is no useful label"
    assert CopyHead().unfit_for(known) == "there is no public task head"
    assert CopyLearned(Logistic()).unfit_for(known) == "there is no useful label to learn"
    with_gap, _ = correlated()
    assert with_gap.y is not None
    with_gap.y["attack"][0] = -1
    assert CopyLearned(Logistic()).unfit_for(with_gap) == "some useful labels are missing"
