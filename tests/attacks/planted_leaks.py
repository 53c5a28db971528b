"""Small releases whose leak is known, for the attackers' tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from veil.attacks.attack import Attack, AttackSplit, Floats, Guess, Ints, Knowledge

Rows = tuple[int, int, int]
Release = Callable[[Tensor, torch.Generator], Tensor]  # labels (n,), randomness -> z (n, ...)
SPLITS: tuple[AttackSplit, ...] = ("attack", "select", "test")


def planted(
    release: Release,
    rows: Rows = (600, 300, 400),
    shares: tuple[float, ...] = (0.5, 0.5),
    seed: int = 0,
) -> tuple[Knowledge, Ints]:
    """What an attacker holds of releases of labels drawn with `shares`; and test's labels."""
    rng = torch.Generator().manual_seed(seed)
    z: dict[AttackSplit, Tensor] = {}
    labels: dict[AttackSplit, Ints] = {}
    for split, n in zip(SPLITS, rows, strict=True):
        s = torch.multinomial(torch.tensor(shares), n, replacement=True, generator=rng)
        z[split], labels[split] = release(s, rng).float(), s.numpy()
    known = Knowledge("s", len(shares), z, {"attack": labels["attack"], "select": labels["select"]})
    return known, labels["test"]


def balanced_accuracy(log_probability: Floats, s: Ints) -> float:
    said = log_probability.argmax(1)
    return float(np.mean([(said[s == k] == k).mean() for k in np.unique(s)]))


def found(attack: Attack, release: Release, rows: Rows = (600, 300, 400), seed: int = 0) -> float:
    """Balanced accuracy on test of one attacker of one planted leak."""
    known, truth = planted(release, rows)
    assert attack.unfit_for(known) is None
    return balanced_accuracy(checked(attack.run(known, seed), known).test, truth)


def checked(guess: Guess, known: Knowledge) -> Guess:
    """The same guess, after its promises were checked: shapes, type, rows that sum to one."""
    for split in SPLITS:
        rows: Floats = getattr(guess, split)
        assert rows.shape == (len(known.z[split]), known.classes)
        assert rows.dtype == np.float32
        assert np.isfinite(rows).all()
        np.testing.assert_allclose(np.exp(rows).sum(1), 1.0, atol=1e-4)
    return guess


def _sign(s: Tensor) -> Tensor:
    return (2.0 * s - 1.0).unsqueeze(1)


def nothing(s: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 12) noise."""
    return torch.randn(len(s), 12, generator=rng)


def nothing_spatial(s: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 2, 8, 8) noise."""
    return torch.randn(len(s), 2, 8, 8, generator=rng)


def small_feature_among_huge(s: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 12): one feature a million times smaller than the noise beside it; Bayes .977."""
    z = 1e3 * torch.randn(len(s), 12, generator=rng)
    z[:, 5] = 1e-3 * (_sign(s)[:, 0] + 0.5 * torch.randn(len(s), generator=rng))
    return z


def xor(s: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 6): the product of two features' signs; no feature tells anything alone."""
    z = torch.randn(len(s), 6, generator=rng)
    z[:, :2] = z[:, :2].sign() * (0.5 + z[:, :2].abs())
    z[:, 1] = z[:, 1].abs() * z[:, 0].sign() * _sign(s)[:, 0]
    return z


def missing(s: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 10): values missing more often in three features of one class; Bayes about .88."""
    z = torch.randn(len(s), 10, generator=rng)
    gone = torch.rand(len(s), 10, generator=rng) < 0.2
    gone[:, :3] = torch.rand(len(s), 3, generator=rng) < (0.15 + 0.6 * s).unsqueeze(1)
    return z.masked_fill(gone, torch.nan)


def zeros(s: Tensor, rng: torch.Generator) -> Tensor:
    """The same with exact zeros, which lie in the middle of the values."""
    return torch.nan_to_num(missing(s, rng), nan=0.0)


def grid(s: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 10): one class is rounded to multiples of 1/64."""
    z = torch.randn(len(s), 10, generator=rng)
    return torch.where(s.unsqueeze(1) == 1, (z * 64).round() / 64, z)


def layout(s: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 2, 8, 8): stripes that run down or across, at a random phase and sign."""
    wave = (torch.pi / 2 * (torch.arange(8) + torch.randint(4, (len(s), 1), generator=rng))).cos()
    down, across = wave[:, None, None, :], wave[:, None, :, None]
    stripes = torch.where(s[:, None, None, None] == 1, down, across).expand(-1, 1, 8, 8)
    return stripes + 0.7 * torch.randn(len(s), 2, 8, 8, generator=rng)


def channel_scale(s: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 3, 5, 5) noise, one channel of it larger for one class; Bayes about .96."""
    z = torch.randn(len(s), 3, 5, 5, generator=rng)
    z[:, 1] *= (1.0 + 0.65 * s)[:, None, None]
    return z
