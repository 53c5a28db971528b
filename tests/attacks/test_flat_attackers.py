"""Attackers of vectors find the leaks they are for, and find nothing where there is none."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from planted_leaks import (
    Release,
    balanced_accuracy,
    channel_scale,
    checked,
    found,
    grid,
    missing,
    nothing,
    planted,
    small_feature_among_huge,
    xor,
    zeros,
)

from veil.attacks.attack import Attack
from veil.attacks.boosting import Boosting, boosted_guess
from veil.attacks.features import prepare
from veil.attacks.linear import Logistic
from veil.attacks.mlp import Mlp, _Adam, _forward, _initial
from veil.attacks.neighbours import Neighbours, RandomFeatures
from veil.attacks.patterns import Patterns, special_values

QUICK_MLP = Mlp(steps=300)

LEAKS: list[tuple[Attack, Release, float]] = [
    (Logistic(), small_feature_among_huge, 0.95),
    (Logistic("whitened"), small_feature_among_huge, 0.95),
    (Boosting(), small_feature_among_huge, 0.93),
    (Neighbours(), small_feature_among_huge, 0.85),
    (QUICK_MLP, small_feature_among_huge, 0.94),
    (Logistic("statistics"), xor, 0.97),
    (Boosting(), xor, 0.97),
    (RandomFeatures(), xor, 0.93),
    (Neighbours(), xor, 0.93),
    (QUICK_MLP, xor, 0.97),
    (Patterns("boosting"), missing, 0.84),
    (Patterns("logistic"), missing, 0.84),
    (Logistic(), missing, 0.84),
    (Patterns("boosting"), zeros, 0.84),
    (Patterns("boosting"), grid, 0.99),
    (Patterns("logistic"), grid, 0.99),
    (Logistic("statistics"), channel_scale, 0.9),
    (Boosting("normalised"), channel_scale, 0.9),
]
BLIND: list[tuple[Attack, Release]] = [
    (Logistic("raw"), small_feature_among_huge),
    (Logistic(), xor),
    (Logistic(), zeros),
    (Logistic(), grid),
    (Logistic(), channel_scale),
    (Patterns("boosting"), small_feature_among_huge),
]
FAMILIES: list[Attack] = [
    Logistic(),
    Boosting(),
    Neighbours(),
    RandomFeatures(),
    Patterns("boosting"),
    QUICK_MLP,
]


def label(case: object) -> str:
    if isinstance(case, float):
        return ""
    return str(getattr(case, "name", getattr(case, "__name__", case)))


@pytest.mark.parametrize(("attack", "release", "least"), LEAKS, ids=label)
def test_a_planted_leak_is_found(attack: Attack, release: Release, least: float) -> None:
    assert found(attack, release) > least


@pytest.mark.parametrize(("attack", "release"), BLIND, ids=label)
def test_the_cases_are_what_they_claim(attack: Attack, release: Release) -> None:
    """Negative controls: the preparation, not luck, is what finds a leak."""
    assert found(attack, release) < 0.66


@pytest.mark.parametrize("attack", FAMILIES, ids=label)
def test_independent_noise_gives_nothing(attack: Attack) -> None:
    assert found(attack, nothing, rows=(600, 300, 1500)) < 0.545


@pytest.mark.parametrize("attack", FAMILIES, ids=label)
def test_a_rare_class_counts_as_much_as_a_frequent_one(attack: Attack) -> None:
    """One in twelve: by plain accuracy it would pay never to say it."""

    def shifted(s: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        z = torch.randn(len(s), 3, generator=rng) + s.unsqueeze(1)
        return torch.where(torch.rand(z.shape, generator=rng) < 0.05 + 0.4 * s[:, None], 0.0, z)

    known, s = planted(shifted, rows=(1200, 400, 1200), shares=(11 / 12, 1 / 12))
    guess = checked(attack.run(known, 0), known)
    assert balanced_accuracy(guess.test, s) > 0.62
    assert np.exp(guess.test[:, 1]).mean() > 0.2  # equal priors, not one in twelve


@pytest.mark.parametrize("attack", FAMILIES, ids=label)
def test_the_same_seed_gives_the_same_guess_and_the_global_stream_is_left_alone(
    attack: Attack,
) -> None:
    known, _ = planted(small_feature_among_huge, rows=(200, 80, 60))
    before = torch.get_rng_state()
    first, again, other = (attack.run(known, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(first.test, again.test)
    assert np.array_equal(first.test, other.test) != attack.seeded


@pytest.mark.parametrize("make", [Logistic, Boosting, Neighbours])
def test_three_classes(make: Callable[[], Attack]) -> None:
    def corners(s: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return 3 * torch.eye(3)[s] + torch.randn(len(s), 3, generator=rng)

    known, s = planted(corners, shares=(0.5, 0.3, 0.2))
    assert balanced_accuracy(checked(make().run(known, 0), known).test, s) > 0.88


def test_neighbours_agree_with_a_slow_search_that_leaves_itself_out() -> None:
    known, _ = planted(xor, rows=(80, 60, 20))
    x = prepare(known.z, "standardised")
    guess = Neighbours(counts=(1,)).run(known, 0)
    for row in range(80):
        distances = (x["attack"] - x["attack"][row]).norm(dim=1)
        distances[row] = torch.inf
        assert guess.attack[row].argmax() == known.s["attack"][distances.argmin()]
    for row in range(20):
        closest = (x["attack"] - x["test"][row]).norm(dim=1).argmin()
        assert guess.test[row].argmax() == known.s["attack"][closest]


def test_trees_keep_the_telling_features_of_a_wide_release() -> None:
    def wide(s: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        z = torch.randn(len(s), 300, generator=rng)
        z[:, 217] += 3.0 * s
        return z

    known, s = planted(wide)
    x = prepare(known.z, "standardised")
    guess = boosted_guess(x, known, features=12, rounds=40)
    assert balanced_accuracy(guess.test, s) > 0.88


def test_stacked_networks_are_the_networks_one_by_one() -> None:
    """Training three at once gives each what training alone would: a slow check with autograd."""
    rng = torch.Generator().manual_seed(0)
    rates, decays = torch.tensor([1e-2, 3e-3, 1e-3]), torch.tensor([0.0, 0.5, 1.0])
    x, s = torch.randn(16, 5, generator=rng), torch.randint(2, (16,), generator=rng)
    stacked = [p.requires_grad_() for p in _initial(3, (5, 4, 2), rng)]
    alone = [[p[i].detach().clone().requires_grad_() for p in stacked] for i in range(3)]
    adam = _Adam(stacked, rates, decays)
    optimisers = [
        torch.optim.AdamW(layers, rate, weight_decay=decay)
        for layers, rate, decay in zip(alone, rates.tolist(), decays.tolist(), strict=True)
    ]
    for _ in range(4):
        logits = _forward(stacked, x)
        loss = sum(torch.nn.functional.cross_entropy(logits[i], s) for i in range(3))
        adam.step(torch.autograd.grad(loss, stacked), 1.0)  # type: ignore[arg-type]
        for (w1, b1, w2, b2), optimiser in zip(alone, optimisers, strict=True):
            optimiser.zero_grad()
            hidden = torch.nn.functional.gelu(x @ w1 + b1)
            one = torch.nn.functional.cross_entropy(hidden @ w2 + b2, s)
            one.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    for i, layer in product(range(3), range(4)):
        torch.testing.assert_close(stacked[layer][i], alone[i][layer], atol=1e-5, rtol=1e-4)


def test_special_values_are_counted_as_they_are() -> None:
    z = torch.tensor(
        [[0.0, torch.nan, 0.5, 3.0], [1.0, 0.3, 0.0, 0.7], [0.2, 0.5, -torch.inf, 0.9]]
    )
    told = special_values({"attack": z, "select": z, "test": z})["attack"]
    assert told[:, 4].tolist() == [0.25, 0.0, 0.25]  # missing or infinite
    assert told[:, 9].tolist() == [0.25, 0.25, 0.0]  # exactly zero
    assert told[:, 11].tolist() == [0.25, 0.0, 0.0]  # the greatest value, 3
    assert told[:, 12].tolist() == [0.5, 0.0, pytest.approx(1 / 3)]  # 0.5 stands twice
