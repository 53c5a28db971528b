"""Balanced classes and temperature, against slow loops and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from planted_leaks import nothing, planted

from veil.attacks.decisions import (
    SHARPNESS,
    balanced_log_loss,
    class_weights,
    guess_from,
    likelihood_table,
)


def test_weights_make_classes_count_equally_and_ignore_an_absent_one() -> None:
    s = torch.tensor([0, 0, 0, 2])
    weights = class_weights(s, 3)
    assert weights[1] == 0
    assert weights[s][:3].sum() == weights[s][3] == 2.0
    assert weights[s].mean() == 1.0


def test_log_loss_agrees_with_a_slow_loop_over_temperatures() -> None:
    rng = torch.Generator().manual_seed(1)
    s = torch.randint(3, (40,), generator=rng)
    logits = torch.randn(2, 40, 3, generator=rng) + 2 * torch.eye(3)[s]
    losses, sharpness = balanced_log_loss(logits, s)
    for candidate in range(2):
        slow = []
        for t in SHARPNESS.tolist():
            p = (t * logits[candidate].double()).softmax(1)
            of_class = [-p[s == k, k].log().mean().item() for k in range(3)]
            slow.append(sum(of_class) / 3)
        assert losses[candidate].item() == pytest.approx(min(slow), abs=1e-5)
        assert sharpness[candidate] == SHARPNESS[int(np.argmin(slow))]


def test_useless_scores_cost_log_k_however_bold_they_are() -> None:
    s = torch.arange(4000) % 2
    bold = 50 * torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    assert balanced_log_loss(bold, s)[0].item() == pytest.approx(math.log(2), abs=2e-3)


def test_a_guess_is_a_calibrated_distribution_with_the_scores_order() -> None:
    known, _ = planted(nothing, rows=(50, 2000, 30))
    s = torch.from_numpy(known.s["select"])
    truth = torch.where(s == 1, 1.0, -1.0)
    rng = torch.Generator().manual_seed(0)
    # log-odds of two unit normals at +1 and -1 are 2x; said here ten times too boldly
    odds = {
        "attack": torch.randn(50, generator=rng),
        "select": truth + torch.randn(2000, generator=rng),
        "test": torch.tensor([math.nan, math.inf] + [1.0] * 28),
    }
    scores = {split: torch.stack([0 * x, 20 * x], 1) for split, x in odds.items()}
    guess = guess_from(scores, known)  # type: ignore[arg-type]
    ratio = (guess.select[:, 1] - guess.select[:, 0]) / odds["select"].numpy()
    np.testing.assert_allclose(ratio[abs(odds["select"].numpy()) < 2], 2.0, rtol=0.3)
    assert np.isfinite(guess.test).all()
    assert (guess.attack.argmax(1) == (odds["attack"] > 0).numpy()).all()


def test_the_table_is_the_counts_with_half_a_count_added() -> None:
    code, s = np.array([0, 0, 1, 1, 1]), np.array([0, 0, 0, 1, 1])
    expected = np.array([[2.5 / 4, 0.5 / 3], [1.5 / 4, 2.5 / 3]])
    np.testing.assert_allclose(likelihood_table(code, s, 2, 2).exp().numpy(), expected, rtol=1e-6)
