"""Preparations: fitted on attack alone, safe on anything a release may hold."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from veil.attacks.attack import AttackSplit
from veil.attacks.features import (
    MAX_FEATURES,
    Preparation,
    describe,
    fill,
    prepare,
    prepare_map,
    standardise,
)

PREPARATIONS: tuple[Preparation, ...] = get_args(Preparation)


def draw(*shape: int, seed: int = 0) -> dict[AttackSplit, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {
        "attack": torch.randn(60, *shape, generator=rng),
        "select": torch.randn(20, *shape, generator=rng),
        "test": torch.randn(30, *shape, generator=rng),
    }


@pytest.mark.parametrize("how", PREPARATIONS)
@pytest.mark.parametrize("shape", [(7,), (3, 5, 4), (1,), (2, 1, 1)])
def test_every_preparation_is_a_finite_matrix_and_ignores_the_test_split(
    how: Preparation, shape: tuple[int, ...]
) -> None:
    z = draw(*shape)
    x = prepare(z, how)
    assert all(len(x[k]) == len(z[k]) and x[k].ndim == 2 for k in z)
    assert all(v.isfinite().all() and v.dtype == torch.float32 for v in x.values())
    other = prepare({**z, "test": 100 + z["test"]}, how)
    assert torch.equal(other["attack"], x["attack"])
    assert torch.equal(other["select"], x["select"])


@pytest.mark.parametrize("how", PREPARATIONS)
@pytest.mark.parametrize("shape", [(6,), (2, 4, 4)])
def test_nothing_a_release_may_hold_breaks_a_preparation(
    how: Preparation, shape: tuple[int, ...]
) -> None:
    z = draw(*shape)
    for x in z.values():
        flat = x.view(len(x), -1)
        flat[:, 0] = 3.0  # constant
        flat[:, 1] = math.nan  # never there
        flat[::3, 2] = math.inf
        flat[::2, 3] *= 1e30  # heavy tails
        flat[:, 4] = 1e-30
    assert all(v.isfinite().all() for v in prepare(z, how).values())


def test_a_missing_value_becomes_the_mean_with_an_indicator_beside_it() -> None:
    z = draw(3)
    z["attack"][10:20, 1] = math.nan
    z["test"][0, 1], z["test"][1, 2] = -math.inf, math.nan
    x = fill(z)
    known = torch.cat([z["attack"][:10, 1], z["attack"][20:, 1]])
    assert x["attack"].shape == (60, 4)  # feature 2 is never missing in attack: no column
    torch.testing.assert_close(x["attack"][10:20, 1], known.mean().expand(10))
    assert x["attack"][:, 3].nonzero().flatten().tolist() == list(range(10, 20))
    torch.testing.assert_close(x["test"][0, 1], known.mean())
    torch.testing.assert_close(x["test"][1, 2], z["attack"][:, 2].mean())
    assert x["test"][:, 3].tolist() == [1.0] + [0.0] * 29


def test_a_map_gains_one_channel_for_each_channel_with_gaps() -> None:
    z = draw(3, 4, 4)
    z["attack"][5, 2, 1, 1] = math.nan
    x = prepare_map(z, "standardised")
    assert x["select"].shape == (20, 4, 4, 4)
    assert x["attack"][5, 3].argmax() == 5


def test_standardised_features_have_unit_moments_whatever_their_scale() -> None:
    z = draw(4)
    scale, shift = torch.tensor([1e-6, 1.0, 1e6, 3.0]), torch.tensor([0.0, 1e3, 0.0, -5.0])
    x = prepare({k: v * scale + shift for k, v in z.items()}, "standardised")
    torch.testing.assert_close(x["attack"].mean(0), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(x["attack"].std(0, correction=0), torch.ones(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(x["test"], standardise(z)["test"], atol=2e-3, rtol=0)


def test_raw_keeps_the_features_relative_scales() -> None:
    z = draw(4)
    z["attack"][:, 2] *= 1000
    x = prepare(z, "raw")["attack"]
    assert x[:, 2].std() / x[:, 0].std() == pytest.approx(
        (z["attack"][:, 2].std() / z["attack"][:, 0].std()).item(), rel=1e-4
    )
    assert x.square().mean().item() == pytest.approx(1.0, rel=1e-3)


def test_one_enormous_value_does_not_hide_the_others() -> None:
    z = draw(2)
    z["attack"][0, 0] = 1e9
    assert prepare(z, "standardised")["attack"][1:, 0].std() > 0.1


def test_whitening_leaves_uncorrelated_directions_and_drops_copies() -> None:
    z = {k: v @ torch.tensor([[1.0, 5.0, 1.0], [0.0, 1.0, 0.0]]) for k, v in draw(2).items()}
    x = prepare(z, "whitened")["attack"]
    assert x.shape == (60, 2)
    torch.testing.assert_close(x.T @ x / 60, torch.eye(2), atol=1e-3, rtol=0)


def test_normalised_vectors_no_longer_depend_on_a_samples_scale() -> None:
    z = draw(2, 3, 3)
    louder = {k: v * torch.tensor([7.0, 1.0]).view(1, 2, 1, 1) for k, v in z.items()}
    x, other = prepare(z, "normalised"), prepare(louder, "normalised")
    torch.testing.assert_close(other["test"], x["test"], atol=1e-3, rtol=0)


def test_statistics_of_a_channel_follow_their_formulas() -> None:
    x = draw(2, 6, 6)["attack"]
    told = describe(x)
    channel = x[7, 1].flatten()
    centred = channel - channel.mean()
    spread = centred.square().mean().sqrt()
    expected = [
        channel.mean(),
        spread.log(),
        (centred / spread).pow(3).mean(),
        (centred / spread).pow(4).mean(),
        channel.min(),
        channel.max(),
    ]
    torch.testing.assert_close(told[7, 1:12:2], torch.stack(expected))
    between = torch.corrcoef(x[7].flatten(1))[0, 1]
    torch.testing.assert_close(
        told[7, -3:], torch.stack([between * 0 + 1, between, between * 0 + 1])
    )


def test_fourier_amplitudes_tell_frequency_and_direction_but_not_phase() -> None:
    line = torch.arange(8) / 8 * 2 * torch.pi
    across = torch.stack([(f * line + 0.3).cos().expand(1, 8, 8) for f in (1, 2, 3)])
    down = (2 * line).sin().view(1, 1, 8, 1).expand(1, 1, 8, 8)
    amplitudes = describe(torch.cat([across, down, across.roll(1, 3)]))[:, 6:46].view(-1, 8, 5)
    assert [a.flatten().argmax().item() for a in amplitudes[:3]] == [4 * 5 + f for f in (1, 2, 3)]
    assert amplitudes[3].flatten().argmax() in (2 * 5, 6 * 5)  # rows: frequencies -4 to 3
    torch.testing.assert_close(amplitudes[4:], amplitudes[:3], atol=1e-4, rtol=0)


def test_large_maps_are_pooled_for_flat_attackers_only() -> None:
    z = {k: v[:2].expand(2, 3, 64, 64) for k, v in draw(1, 1, 1).items()}
    assert prepare(z, "raw")["attack"].shape[1] <= MAX_FEATURES
    assert prepare_map(z, "raw")["attack"].shape == (2, 3, 64, 64)
