"""Attackers of a quantity on planted leaks: they find what they should, and nothing where none is.

Ages have mean 40 and deviation 12, so that a mistake about units shows in every score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from veil.attacks.attack import Attack, AttackSplit, Floats, Guess, Knowledge
from veil.attacks.convolution import AiaAdversary, ResidualAttacker
from veil.attacks.estimates import chosen_guess, line, ridge_path
from veil.attacks.regression import (
    BoostedRegression,
    ConvolutionRegression,
    LabelOnlyMean,
    MeanOnly,
    MlpRegression,
    NeighbourMean,
    PatternRegression,
    Ridge,
    quantity_quick,
    quantity_standard,
)
from veil.quantity_metrics import r2, r2_interval

Release = Callable[[Tensor, torch.Generator], Tensor]  # standard ages (n,) -> z (n, ...)
SPLITS: tuple[AttackSplit, ...] = ("attack", "select", "test")
ROWS = (700, 250, 500)
SHORT_MLP = MlpRegression(hidden=(64,), learning_rates=(4e-3,), weight_decays=(0.1,), steps=250)
SHORT_CONVOLUTION = ConvolutionRegression(ResidualAttacker(widths=(8, 16, 16, 16), steps=60))


def planted(
    release: Release, seed: int = 0, rows: tuple[int, int, int] = ROWS
) -> tuple[Knowledge, Floats]:
    """What an attacker holds of releases of ages, and test's ages."""
    rng = torch.Generator().manual_seed(seed)
    z: dict[AttackSplit, Tensor] = {}
    s: dict[AttackSplit, Floats] = {}
    for split, n in zip(SPLITS, rows, strict=True):
        age = torch.randn(n, generator=rng)
        z[split], s[split] = release(age, rng).float(), (40 + 12 * age).numpy()
    return Knowledge("age", 0, z, {"attack": s["attack"], "select": s["select"]}), s["test"]


def all_ages(known: Knowledge, truth: Floats) -> dict[AttackSplit, Floats]:
    return {"attack": known.s["attack"], "select": known.s["select"], "test": truth}


def reached(attack: Attack, release: Release, seed: int = 0) -> float:
    """R2 on test of one attacker of one planted leak."""
    known, truth = planted(release, seed)
    assert attack.unfit_for(known) is None
    guess = checked(attack.run(known, seed), known)
    return r2(truth, guess.test[:, 0], float(known.s["attack"].mean()))


def checked(guess: Guess, known: Knowledge) -> Guess:
    """The same guess, after its promises were checked."""
    low, high = known.s["attack"].min(), known.s["attack"].max()
    for split in SPLITS:
        rows: Floats = getattr(guess, split)
        assert rows.shape == (len(known.z[split]), 1)
        assert rows.dtype == np.float32
        assert ((rows >= low) & (rows <= high)).all()
    return guess


def linear(age: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 20): one direction carries the age with half its variance as noise; best R2 2/3."""
    z = torch.randn(len(age), 20, generator=rng)
    z[:, 7] = 1e-3 * (age + 0.5**0.5 * z[:, 7])
    return z


def wide(age: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 1500): more features than rows, the age spread over fifty of them."""
    z = torch.randn(len(age), 1500, generator=rng)
    z[:, :50] += 0.5 * age.unsqueeze(1)
    return z


def product(age: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 5): the age is a product of two features; none correlates with it."""
    z = torch.randn(len(age), 5, generator=rng)
    z[:, 0] = z[:, 0].sign() * (0.5 + z[:, 0].abs())
    z[:, 1] = age / z[:, 0]
    return z


def folded(age: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 6): one feature goes up and down again with the age."""
    z = torch.randn(len(age), 6, generator=rng)
    side = torch.randint(2, (len(age),), generator=rng) * 2 - 1
    z[:, 2] = side * (age + 3).clamp_min(0)
    return z


def missing(age: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 12): the older, the more is missing; what is there says nothing."""
    z = torch.randn(len(age), 12, generator=rng)
    gone = torch.rand(len(age), 12, generator=rng) < torch.sigmoid(1.5 * age).unsqueeze(1)
    return z.masked_fill(gone, torch.nan)


def place(age: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 1, 8, 16): a bright column whose place tells the age, with a random sign."""
    at = (age.clamp(-2.4, 2.4) * 3 + 8).round().long()
    sign = (torch.randint(2, (len(age), 1), generator=rng) * 2 - 1).float()
    z = 0.7 * torch.randn(len(age), 1, 8, 16, generator=rng)
    z[torch.arange(len(age)), 0, :, at] += 2 * sign
    return z


def brightness(age: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 1, 32, 32): a picture whose left half is the brighter the older."""
    z = 0.3 * torch.randn(len(age), 1, 32, 32, generator=rng)
    z[:, :, :, :16] += age.view(-1, 1, 1, 1)
    return z


def nothing(age: Tensor, rng: torch.Generator) -> Tensor:
    return torch.randn(len(age), 12, generator=rng)


def nothing_spatial(age: Tensor, rng: torch.Generator) -> Tensor:
    return torch.randn(len(age), 1, 8, 8, generator=rng)


@pytest.mark.parametrize(
    ("attack", "release", "least", "blind"),
    [
        (Ridge(), linear, 0.6, folded),
        (Ridge("whitened"), linear, 0.6, place),
        (Ridge("statistics"), product, 0.5, None),
        (Ridge(), wide, 0.7, None),
        (NeighbourMean("standardised"), folded, 0.2, None),
        (BoostedRegression(rounds=60), folded, 0.8, None),
        (BoostedRegression(rounds=60), linear, 0.5, None),
        (PatternRegression(), missing, 0.6, linear),
        (PatternRegression("ridge"), missing, 0.6, linear),
        (SHORT_MLP, linear, 0.55, None),
        (SHORT_MLP, product, 0.3, None),
        (SHORT_CONVOLUTION, place, 0.5, nothing_spatial),
    ],
    ids=lambda value: getattr(value, "name", None) or getattr(value, "__name__", None),
)
def test_each_attacker_finds_its_leak_and_not_what_it_cannot_see(
    attack: Attack, release: Release, least: float, blind: Release | None
) -> None:
    assert reached(attack, release) > least
    if blind is not None:
        assert reached(attack, blind) < 0.1


@pytest.mark.parametrize(
    "attack",
    [Ridge(), NeighbourMean(), BoostedRegression(rounds=60), PatternRegression("ridge"), SHORT_MLP],
    ids=lambda attack: attack.name,
)
def test_nothing_is_found_where_nothing_is(attack: Attack) -> None:
    known, truth = planted(nothing)
    estimate = checked(attack.run(known, 0), known).test[:, 0]
    baseline = float(known.s["attack"].mean())
    low, high = r2_interval(truth, estimate, baseline, None, 0)
    assert abs(r2(truth, estimate, baseline)) < 0.03
    assert low < 0 < high < 0.06


def test_ridge_comes_near_the_best_possible() -> None:
    """2/3 less what 20 weights cost, learned from 700 rows."""
    assert reached(Ridge(), linear) == pytest.approx(2 / 3, abs=0.05)


def test_the_mean_and_the_label_alone_never_look() -> None:
    known, truth = planted(linear)
    baseline = float(known.s["attack"].mean())
    assert r2(
        truth, checked(MeanOnly().run(known, 0), known).test[:, 0], baseline
    ) == pytest.approx(0, abs=1e-6)
    assert LabelOnlyMean().unfit_for(known) is not None
    every = all_ages(known, truth)
    y = {split: (every[split] > 40).astype(np.int64) for split in SPLITS}
    y["attack"][::9] = -1
    z = {split: v[:, :0] for split, v in known.z.items()}
    guess = checked(LabelOnlyMean().run(replace(known, z=z, y=y, y_classes=2), 0), known)
    # A normal quantity's sign explains 2 / pi of its variance.
    assert r2(truth, guess.test[:, 0], baseline) == pytest.approx(2 / np.pi, abs=0.05)


def test_pictures_are_estimated_from_both_sides() -> None:
    """A mirrored picture shows the same age, to the last bit but for rounding."""
    known, truth = planted(brightness, rows=(256, 60, 80))
    attack = ConvolutionRegression(
        ResidualAttacker(widths=(4, 4, 4, 4), learning_rate=0.02, batch=16, steps=1, epochs=3)
    )
    guess = attack.run(known, 0).test
    turned = {**known.z, "test": known.z["test"].flip(3)}
    np.testing.assert_allclose(attack.run(replace(known, z=turned), 0).test, guess, atol=0.3)
    assert r2(truth, guess[:, 0], float(known.s["attack"].mean())) > 0.5


@pytest.mark.parametrize(("rows", "features"), [(40, 7), (7, 40)])
def test_ridge_path_is_where_the_gradient_is_zero(rows: int, features: int) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(rows, features, generator=rng)
    targets = torch.randn(rows, 3, generator=rng)
    penalties = (10.0, 0.1)
    for penalty, weights in zip(penalties, ridge_path(x, targets, penalties), strict=True):
        gradient = x.T @ (x @ weights - targets) / rows + penalty * weights
        assert gradient.abs().max() < 1e-5


def test_the_line_is_least_squares_and_never_falls() -> None:
    rng = np.random.default_rng(0)
    s = rng.normal(size=60)
    estimates = np.stack([3 * s + rng.normal(size=60) + 5, -s, np.zeros(60)])
    errors, slopes, offsets = line(torch.from_numpy(estimates), torch.from_numpy(s))
    slope, offset = np.polyfit(estimates[0], s, 1)
    assert (slopes[0].item(), offsets[0].item()) == pytest.approx((slope, offset))
    assert errors[0].item() == pytest.approx(np.mean((s - offset - slope * estimates[0]) ** 2))
    for i in (1, 2):
        assert slopes[i].item() == 0
        assert offsets[i].item() == pytest.approx(s.mean())
        assert errors[i].item() == pytest.approx(s.var())


def test_the_best_candidate_on_select_is_taken_whatever_its_scale() -> None:
    known, truth = planted(linear)
    every = all_ages(known, truth)
    estimates = {
        split: torch.from_numpy(np.stack([np.sin(9 * age), 1e-6 * age - 3, age * 0]))
        for split, age in every.items()
    }
    guess = checked(chosen_guess(estimates, known), known)
    inside = (truth > known.s["attack"].min()) & (truth < known.s["attack"].max())
    np.testing.assert_allclose(guess.test[inside, 0], truth[inside], atol=0.5)


def test_same_seed_same_guess_and_labels_of_test_do_not_matter() -> None:
    known, _ = planted(product)
    first, second, other = (SHORT_MLP.run(known, seed).test for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    state = torch.random.get_rng_state()
    SHORT_MLP.run(known, 3)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_constant_quantity_and_infinite_values_are_survived() -> None:
    known, _ = planted(missing)
    constant = replace(known, s={split: np.full_like(v, 30) for split, v in known.s.items()})
    known.z["attack"][3, 2] = torch.inf
    for attack in (Ridge(), NeighbourMean(), BoostedRegression(rounds=20), SHORT_MLP):
        checked(attack.run(known, 0), known)
        np.testing.assert_allclose(attack.run(constant, 0).test, 30)


def test_suites_have_unique_names_and_shorten() -> None:
    suite = quantity_standard()
    assert set(quantity_quick()) < set(suite)
    assert len({attack.name for attack in suite}) == len(suite)
    assert {attack.kind for attack in suite} == {"quantity"}
    assert MlpRegression().shortened(0.25) == MlpRegression(steps=150, epochs=3)
    assert BoostedRegression().shortened(0.1).rounds == 20
    short = ConvolutionRegression().shortened(0.5).architecture
    assert short.steps == round(AiaAdversary().steps / 2)
    assert Ridge().shortened(0.1) == Ridge()
    assert ConvolutionRegression().unfit_for(planted(linear)[0]) is not None
