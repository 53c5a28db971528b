"""Convolutions find where a feature lies, take any map, and say when there is none."""

from __future__ import annotations

from dataclasses import replace

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
from veil.attacks.convolution import AiaAdversary, ResidualAttacker, vary
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


def test_pictures_are_shifted_and_lit_and_nothing_else() -> None:
    """A picture whose values rise evenly stays so within: its shift and light can be read off."""
    rng = torch.Generator().manual_seed(0)
    down, across = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    picture = torch.stack([down, across, 0 * down]).expand(300, 3, 32, 32)
    seen = vary(picture, rng)
    inner = seen[:, :, 4:-4, 4:-4]  # beyond, the mirrored border may show
    contrast = inner[:, 0, 1, 0] - inner[:, 0, 0, 0]
    colour = inner[:, 2, 0, 0]
    torch.testing.assert_close(inner[:, 2], colour[:, None, None].expand(-1, 24, 24))
    for channel, axis in ((0, 2), (1, 1)):
        assert (inner[:, channel].diff(dim=axis).abs() < 1e-4).all()  # constant along the other
        slope = inner[:, channel].diff(dim=3 - axis)
        torch.testing.assert_close(slope, contrast[:, None, None].expand_as(slope))
    assert 0.8 <= contrast.min() < 0.83
    assert 1.2 < contrast.max() <= 1.25
    assert 0.08 < colour.std() / picture.std() < 0.12
    assert torch.equal(vary(picture, rng.manual_seed(0)), seen)


def test_shifts_reach_an_eighth_of_the_side_both_ways() -> None:
    rng = torch.Generator().manual_seed(0)
    spot = torch.zeros(400, 1, 32, 40)
    spot[:, 0, 16, 20] = 1000.0
    place = vary(spot, rng).flatten(1).argmax(1)
    assert set((place // 40).tolist()) == set(range(12, 21))
    assert set((place % 40).tolist()) == set(range(15, 26))


def test_only_pictures_are_augmented(monkeypatch: pytest.MonkeyPatch) -> None:
    def picture(s: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return torch.rand(len(s), 3, 32, 32, generator=rng) + s[:, None, None, None]

    shown: list[int] = []

    def vary_nothing(x: torch.Tensor, _: torch.Generator) -> torch.Tensor:
        shown.append(len(x))
        return x

    monkeypatch.setattr("veil.attacks.convolution.vary", vary_nothing)
    plain = ResidualAttacker(steps=2, epochs=1, widths=(4, 4, 4, 4))
    more = replace(plain, augmented=True)
    assert more.name == "resnet-10 standardised augmented"
    for release, varied in ((layout, False), (picture, True)):
        known, _ = planted(release, rows=(32, 16, 16))
        plain.run(known, 0)
        assert not shown
        more.run(known, 0)
        assert bool(shown) == varied


def test_a_shortened_attacker_trains_for_a_share_of_the_time() -> None:
    short = RESIDUAL.shortened(0.25)
    assert (short.steps, short.epochs, short.widths) == (10, 1, RESIDUAL.widths)
    assert AIA.shortened(1e-9).steps == AIA.shortened(1e-9).epochs == 1


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
