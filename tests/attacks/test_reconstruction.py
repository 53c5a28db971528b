"""Pictures redrawn from releases: invertible ones come back, noise gives the mean face."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from smooth_pictures import Release, identity, noise, world
from torch import Tensor, nn

from veil.attacks.features import prepare
from veil.attacks.reconstruction import (
    Inversion,
    InversionKnowledge,
    LearnedDecoder,
    LinearDecoder,
    MeanFace,
    NearestFace,
    Reconstruction,
    eight_bit,
    perceived,
    unit_range,
)
from veil.image_quality import perceptual_distance, psnr, ssim
from veil.nets.decoder import PictureDecoder, picture_critic

SHORT = LearnedDecoder(width=16, steps=60, batch=40)


def rotated(x: Tensor, _: torch.Generator) -> Tensor:
    """The pixels, turned by a fixed orthogonal matrix."""
    size = x[0].numel()
    square = torch.randn(size, size, generator=torch.Generator().manual_seed(1))
    turn: Tensor = torch.linalg.qr(square).Q
    return x.flatten(1) @ turn


def halved(x: Tensor, _: torch.Generator) -> Tensor:
    """(n, c, 8, 8): a smaller picture."""
    return nn.functional.avg_pool2d(x, 2)


def blurred(x: Tensor, rng: torch.Generator) -> Tensor:
    """The pixels under noise, so that a weak penalty overfits."""
    return x.flatten(1) + 0.5 * torch.randn(len(x), x[0].numel(), generator=rng)


def stages(x: Tensor) -> list[Tensor]:
    """A perceptual network of one fixed layer and the picture itself."""
    weight = torch.randn(6, x.shape[1], 3, 3, generator=torch.Generator().manual_seed(2))
    return [nn.functional.conv2d(x - 0.5, weight, padding=1), x]


def checked(inversion: Inversion, known: InversionKnowledge, seed: int = 0) -> Reconstruction:
    """What it redraws, after its promises were checked."""
    assert inversion.unfit_for(known) is None
    found = inversion.run(known, seed)
    shape = known.x["select"].shape[1:]
    for split, x_hat in (("select", found.select), ("test", found.test)):
        assert x_hat.shape == (len(known.z[split]), *shape)  # type: ignore[index]
        assert x_hat.dtype == torch.float32
        assert x_hat.isfinite().all()
        assert x_hat.min() >= 0
        assert x_hat.max() <= 1
    return found


def quality(inversion: Inversion, release: Release, channels: int = 1) -> float:
    """Mean PSNR on test."""
    known, truth = world(release, channels)
    return psnr(checked(inversion, known).test, truth).mean().item()


def test_the_mean_face_is_the_mean_of_attack_whatever_was_released() -> None:
    known, _ = world(noise, channels=3)
    found = checked(MeanFace(), known)
    mean = known.x["attack"].double().mean(0) / 255
    for x_hat in (*found.select, *found.test):
        torch.testing.assert_close(x_hat.double(), mean, atol=1e-6, rtol=0)


def test_the_nearest_face_finds_the_very_picture_that_was_released_before() -> None:
    known, _ = world(identity)
    rows = torch.randperm(400, generator=torch.Generator().manual_seed(3))[:60]
    known = replace(known, z={**known.z, "test": known.z["attack"][rows]})
    found = checked(NearestFace(), known)
    assert torch.equal(found.test, unit_range(known.x["attack"][rows]))


@pytest.mark.parametrize("release", [identity, rotated])
def test_a_linear_invertible_release_comes_back_nearly_perfectly(release: Release) -> None:
    assert quality(LinearDecoder(), release) > 38


def test_the_linear_decoder_is_the_ridge_that_a_direct_solution_gives() -> None:
    known, _ = world(rotated)
    found = checked(LinearDecoder(penalties=(0.1,)), known).test
    z = {s: v.double().numpy() for s, v in prepare(known.z, "standardised").items()}
    y = known.x["attack"].flatten(1).double().numpy() / 255
    centred = z["attack"] - z["attack"].mean(0)
    gram = centred.T @ centred / 400 + 0.1 * np.eye(256)
    weights = np.linalg.solve(gram, centred.T @ (y - y.mean(0)) / 400)
    expected = ((z["test"] - z["attack"].mean(0)) @ weights + y.mean(0)).clip(0, 1)
    np.testing.assert_allclose(found.flatten(1).numpy(), expected, atol=1e-5)


def test_the_penalty_is_chosen_on_select() -> None:
    known, _ = world(blurred)
    select = unit_range(known.x["select"])

    def error(decoder: LinearDecoder) -> float:
        return (checked(decoder, known).select - select).square().mean().item()

    each = [error(LinearDecoder(penalties=(penalty,))) for penalty in (3.0, 0.3, 1e-4)]
    assert error(LinearDecoder(penalties=(3.0, 0.3, 1e-4))) == pytest.approx(min(each), rel=1e-6)
    assert max(each) > 1.05 * min(each)


@pytest.mark.parametrize("release", [identity, rotated, halved])
def test_the_learned_decoder_beats_the_mean_face_on_maps_and_vectors(release: Release) -> None:
    channels = 3 if release is halved else 1
    floor = quality(MeanFace(), release, channels)
    assert quality(SHORT, release, channels) > floor + 2


@pytest.mark.parametrize("inversion", [NearestFace(), LinearDecoder(), SHORT])
def test_noise_gives_nobody_more_than_the_mean_face(inversion: Inversion) -> None:
    """Negative control: all that can be learned from noise is the mean."""
    known, truth = world(noise)
    found, mean = checked(inversion, known).test, checked(MeanFace(), known).test
    assert psnr(found, truth).mean() < psnr(mean, truth).mean() + 0.1
    if not isinstance(inversion, NearestFace):  # any picture has more structure than the mean
        assert ssim(found, truth).mean() < ssim(mean, truth).mean() + 0.02


@pytest.mark.parametrize("loss", ["perceptual", "adversarial"])
def test_perceptual_and_adversarial_losses_learn(
    loss: Literal["perceptual", "adversarial"],
) -> None:
    known, truth = world(halved)
    known = replace(known, features=stages)
    short = replace(SHORT, loss=loss, steps=40)
    found, mean = checked(short, known).test, checked(MeanFace(), known).test
    assert perceived(found, truth, stages).mean() < 0.7 * perceived(mean, truth, stages).mean()


@pytest.mark.parametrize("loss", ["perceptual", "adversarial"])
def test_the_critic_and_the_perceptual_network_change_what_is_drawn(
    loss: Literal["perceptual", "adversarial"],
) -> None:
    known = replace(world(halved)[0], features=stages)
    short = replace(SHORT, loss=loss, steps=6)
    without = (
        replace(short, perceptual_weight=0.0)
        if loss == "perceptual"
        else replace(short, adversarial_weight=0.0)
    )
    assert (checked(short, known).test - checked(without, known).test).abs().max() > 1e-4


def test_the_state_that_is_kept_is_the_best_on_select() -> None:
    """The same steps, looked at more often, can only be better on select than the last state."""
    known, _ = world(noise)  # which is overfitted at once
    select = unit_range(known.x["select"])

    def error(looks: int) -> float:
        x_hat = checked(replace(SHORT, looks=looks), known).select
        return ((x_hat - select).square() + (x_hat - select).abs()).mean().item()

    assert error(40) < 0.99 * error(1)


def test_the_seed_decides_and_nothing_else() -> None:
    known, _ = world(halved)
    short = replace(SHORT, steps=5)
    first, torch_state = checked(short, known, 0).test, torch.get_rng_state()
    torch.rand(3)
    assert torch.equal(first, checked(short, known, 0).test)
    assert not torch.equal(first, checked(short, known, 1).test)
    torch.set_rng_state(torch_state)
    checked(short, known, 0)
    assert torch.equal(torch.get_rng_state(), torch_state)


@pytest.mark.parametrize("inversion", [NearestFace(), LinearDecoder(), replace(SHORT, steps=5)])
def test_missing_and_infinite_values_are_survived(inversion: Inversion) -> None:
    known, _ = world(halved)
    z = {split: v.clone() for split, v in known.z.items()}
    for v in z.values():
        v[::3, 0, 2, 2] = torch.nan
        v[1::5, 0, 4] = torch.inf
    checked(inversion, replace(known, z=z))


def test_what_is_not_at_hand_is_said() -> None:
    known, _ = world(halved)
    why = LearnedDecoder("perceptual").unfit_for(known)
    assert why is not None
    assert "perceptual network" in why
    few = replace(known, z={s: v[:2] for s, v in known.z.items()})
    assert "few" in (LearnedDecoder().unfit_for(few) or "")


def test_eight_bits_are_within_half_a_step() -> None:
    x = torch.rand(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert (unit_range(eight_bit(x)) - x).abs().max() <= 0.5 / 255 + 1e-6


def test_perceived_is_the_distance_of_features() -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.rand(300, 1, 16, 16, generator=rng) for _ in range(2))
    expected = perceptual_distance(stages(a), stages(b))
    torch.testing.assert_close(perceived(a, b, stages), expected)


@pytest.mark.parametrize(
    ("release", "picture"),
    [
        ((7,), (3, 64, 64)),
        ((5, 2, 2), (1, 24, 40)),
        ((5, 8, 8), (3, 64, 64)),
        ((3, 20, 12), (3, 20, 12)),
        ((2, 32, 32), (1, 16, 16)),
    ],
)
def test_decoders_and_critics_fit_every_shape(
    release: tuple[int, ...], picture: tuple[int, int, int]
) -> None:
    decoder = PictureDecoder(torch.Size(release), picture, width=16)
    logits = decoder(torch.randn(3, *release))
    assert logits.shape == (3, *picture)
    assert picture_critic(picture)(logits).shape[:2] == (3, 1)
