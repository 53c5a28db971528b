"""Convolutions find where a feature lies, take any map, and say when there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_leaks import (
    balanced_accuracy,
    checked,
    found,
    layout,
    nothing,
    nothing_spatial,
    planted,
)
from torch import nn

from veil.attacks.attack import Attack
from veil.attacks.convolution import AiaAdversary, ResidualAttacker
from veil.attacks.linear import Logistic

AIA = AiaAdversary(steps=40, epochs=4)
RESIDUAL = ResidualAttacker(steps=40, epochs=4, widths=(8, 16, 16, 16))


@pytest.mark.parametrize("attack", [AIA, RESIDUAL], ids=["aia", "residual"])
def test_layout_is_found_where_a_linear_attacker_sees_nothing(attack: Attack) -> None:
    assert found(Logistic(), layout) < 0.6
    assert found(attack, layout) > 0.95


def test_independent_maps_give_nothing() -> None:
    attack = AiaAdversary(steps=10, epochs=2)
    assert found(attack, nothing_spatial, rows=(300, 200, 1200)) < 0.55


def test_the_paper_s_adversary_has_its_six_convolutions() -> None:
    network = AIA.network(torch.Size((12, 16, 16)), 2)
    widths = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [32, 64, 64, 128, 128, 256]
    assert sum(isinstance(m, nn.Linear) for m in network.modules()) == 1


@pytest.mark.parametrize("shape", [(4, 3, 3), (3, 64, 64), (2, 25, 7), (1, 100, 100)])
@pytest.mark.parametrize("attack", [AIA, RESIDUAL], ids=["aia", "residual"])
def test_maps_of_any_size_are_taken(
    attack: AiaAdversary | ResidualAttacker, shape: tuple[int, ...]
) -> None:
    network = attack.network(torch.Size(shape), 5).eval()
    assert network(torch.rand(2, *shape)).shape == (2, 5)


def test_a_picture_gets_the_same_guess_as_its_mirror_image() -> None:
    """Guesses average both sides; on a map of features they may not."""

    def picture(s: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return torch.rand(len(s), 3, 32, 32, generator=rng) * (0.5 + 0.5 * s[:, None, None, None])

    known, s = planted(picture, rows=(48, 24, 24))
    known.z["test"][12:] = known.z["test"][:12].flip(3)
    guess = checked(ResidualAttacker(steps=4, epochs=2, widths=(4, 4, 4, 4)).run(known, 0), known)
    np.testing.assert_allclose(guess.test[12:], guess.test[:12], atol=1e-2)
    assert len(np.unique(guess.test[:12, 0])) > 6
    assert balanced_accuracy(guess.test, s) >= 0.0


def test_the_same_seed_gives_the_same_guess_and_the_global_stream_is_left_alone() -> None:
    known, _ = planted(layout, rows=(64, 32, 16))
    attack = AiaAdversary(steps=2, epochs=1)
    before = torch.get_rng_state()
    first, again, other = (attack.run(known, seed).test for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_release_without_a_map_is_declined_with_the_reason() -> None:
    flat, _ = planted(nothing)
    assert AIA.unfit_for(flat) == "the release has no spatial map"
    thin, _ = planted(lambda s, rng: torch.randn(len(s), 8, 2, 9, generator=rng))
    assert RESIDUAL.unfit_for(thin) == "the map of 2x9 is smaller than a 3x3 kernel"
