"""Attackers of vectors find the leaks they are for, and find nothing where there is none."""

from __future__ import annotations

from collections.abc import Callable

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
from veil.attacks.decisions import balanced_log_loss
from veil.attacks.features import prepare
from veil.attacks.linear import Logistic
from veil.attacks.mlp import Mlp
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


def test_the_rounds_kept_are_those_of_a_model_grown_so_far_and_no_further() -> None:
    """Staged answers against fitting once for every number of rounds."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    known, _ = planted(xor, rows=(300, 200, 100))
    x = {split: v.numpy() for split, v in prepare(known.z, "standardised").items()}
    guess = boosted_guess(prepare(known.z, "standardised"), known, rounds=24)
    frequency = np.bincount(known.s["attack"]) / 300
    losses, said = [], []
    for rounds in range(1, 25):
        model = HistGradientBoostingClassifier(
            max_iter=rounds,
            max_leaf_nodes=15,
            max_bins=63,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=0,
        ).fit(x["attack"], known.s["attack"])
        logits = np.log(model.predict_proba(x["select"]) / frequency)
        select = torch.from_numpy(known.s["select"])
        losses.append(float(balanced_log_loss(torch.from_numpy(logits).float(), select)[0]))
        said.append(np.log(model.predict_proba(x["test"]) / frequency))
    best = said[int(np.argmin(losses))]
    order = np.argsort(best[:, 1] - best[:, 0], kind="stable")
    margin = (guess.test[:, 1] - guess.test[:, 0])[order]
    assert np.diff(margin).min() > -1e-4


def test_special_values_are_counted_as_they_are() -> None:
    z = torch.tensor(
        [[0.0, torch.nan, 0.5, 3.0], [1.0, 0.3, 0.0, 0.7], [0.2, 0.5, -torch.inf, 0.9]]
    )
    told = special_values({"attack": z, "select": z, "test": z})["attack"]
    assert told[:, 4].tolist() == [0.25, 0.0, 0.25]  # missing or infinite
    assert told[:, 9].tolist() == [0.25, 0.25, 0.0]  # exactly zero
    assert told[:, 11].tolist() == [0.25, 0.0, 0.0]  # the greatest value, 3
    assert told[:, 12].tolist() == [0.5, 0.0, pytest.approx(1 / 3)]  # 0.5 stands twice
