"""Searching for the picture behind a release: found by its release alone, never by the truth."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from smooth_pictures import Release, drawn, world
from torch import Tensor, nn

from veil.attacks.inversion import (
    GenerativePrior,
    Optimisation,
    ReleaseDistance,
    total_variation,
)
from veil.attacks.reconstruction import (
    InversionKnowledge,
    MeanFace,
    NearestFace,
    Reconstruction,
    unit_range,
)
from veil.image_quality import psnr

SHORT = Optimisation(screening=5, steps=30, first=(MeanFace(),), learning_rate=0.2)


class Encoder(nn.Module):
    """A random convolution that loses nothing: 1 channel to 8, half the side."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.layer = nn.Conv2d(1, 8, 4, 2, 1)

    def forward(self, x: Tensor, _: torch.Generator) -> Tensor:
        z: Tensor = nn.functional.leaky_relu(self.layer(x), 0.2)
        return z


def noisy(x: Tensor, rng: torch.Generator) -> Tensor:
    """The pixels under noise."""
    return x + 0.1 * torch.randn(x.shape, generator=rng)


@dataclass(frozen=True)
class Given:
    """A start: fixed pictures, the same for select and test."""

    pictures: Tensor = field(repr=False)

    family = "reconstruction"
    seeded = False
    name = "given"

    def unfit_for(self, knowledge: InversionKnowledge) -> str | None:
        return None

    def run(self, knowledge: InversionKnowledge, seed: int) -> Reconstruction:
        return Reconstruction(self.pictures, self.pictures)


def white_box(release: Release) -> tuple[InversionKnowledge, Tensor]:
    """An attacker of the first twenty pictures who holds the release, and test's pictures."""
    known, truth = world(release)
    z = {split: v if split == "attack" else v[:20] for split, v in known.z.items()}
    x = {split: v if split == "attack" else v[:20] for split, v in known.x.items()}
    return replace(known, z=z, x=x, oracle=release), truth[:20]


def test_an_encoder_that_loses_nothing_is_inverted() -> None:
    known, truth = white_box(Encoder())
    found, mean = SHORT.run(known, 0), MeanFace().run(known, 0)
    assert psnr(found.test, truth).mean() > psnr(mean.test, truth).mean() + 6
    assert psnr(found.select, unit_range(known.x["select"])).mean() > 20


def test_a_release_of_nothing_shows_nobody() -> None:
    """Negative control: every picture has this release."""
    known, truth = white_box(lambda x, _: 0 * x.mean((2, 3)))
    found, mean = SHORT.run(known, 0), MeanFace().run(known, 0)
    assert psnr(found.test, truth).mean() < psnr(mean.test, truth).mean() + 0.1


def test_the_oracle_is_never_shown_the_true_pictures() -> None:
    encoder, asked = Encoder(), list[Tensor]()

    def spied(x: Tensor, rng: torch.Generator) -> Tensor:
        asked.append(x.detach().clone())
        z: Tensor = encoder(x, rng)
        return z

    known, truth = white_box(encoder)
    replace(SHORT, steps=5).run(replace(known, oracle=spied), 0)
    shown = torch.cat(asked).flatten(1)
    assert len(shown) > 20 * 2 * 10
    assert torch.cdist(truth.flatten(1), shown).min() > 1e-2
    assert set(known.x) == {"attack", "select"}


def test_the_best_picture_is_chosen_by_its_release_even_where_steps_make_it_worse() -> None:
    encoder = Encoder()
    known, _ = white_box(encoder)
    starts = (MeanFace(), NearestFace())
    wild = replace(SHORT, first=starts, learning_rate=50.0, noises=0)

    def apart(x_hat: Tensor) -> Tensor:
        z = encoder(x_hat.clamp(0.02, 0.98), torch.Generator())
        found: Tensor = (z - known.z["test"]).square().flatten(1).sum(1).detach()
        return found

    each = torch.stack([apart(start.run(known, 0).test) for start in starts])
    assert (apart(wild.run(known, 0).test) <= each.min(0).values * 1.001).all()
    assert len(set(each.argmin(0).tolist())) == 2  # neither start is the best for all


def test_a_start_with_the_wrong_release_is_left_though_it_shows_the_truth() -> None:
    """The release is of the left half only, and the start with the true right half is wrong there.

    Choosing by the true picture would keep its right half.
    """
    known, truth = white_box(lambda x, _: x[..., :8])
    close = truth.clone()
    close[..., :8] = 1 - close[..., :8]
    far = truth.clone()
    far[..., 8:] = 1 - far[..., 8:]
    search = Optimisation(
        screening=0, steps=0, noises=0, first=(Given(close), Given(far)), smoothness=0.0
    )
    found = search.run(replace(known, z={**known.z, "select": known.z["test"]}), 0).test
    torch.testing.assert_close(found, far.clamp(0.02, 0.98))


def test_the_release_is_not_trained_and_the_seed_decides() -> None:
    encoder = Encoder()
    known, _ = white_box(encoder)
    short = replace(SHORT, first=(), steps=3)
    first = short.run(known, 0).test
    assert all(weight.grad is None for weight in encoder.parameters())
    assert torch.equal(first, short.run(known, 0).test)
    assert not torch.equal(first, short.run(known, 1).test)


def test_a_noisy_release_is_inverted_by_fresh_draws_of_its_own() -> None:
    known, truth = white_box(noisy)
    mean = MeanFace().run(known, 0).test
    one = replace(SHORT, smoothness=0.1).run(known, 0).test
    assert psnr(one, truth).mean() > psnr(mean, truth).mean() + 3
    counted: list[int] = []

    def oracle(x: Tensor, rng: torch.Generator) -> Tensor:
        counted.append(len(x))
        return noisy(x, rng)

    known = replace(known, draws=16, oracle=oracle)
    replace(SHORT, steps=0, screening=0, noises=0, most_draws=4).run(known, 0)
    # Two splits of twenty; the start is looked at twice; four draws each, not sixteen.
    assert counted == [20] * 16


def test_starts_are_compared_under_the_same_noise() -> None:
    """Under noise of its own each, ten of the sixty would go on from the wrong start."""

    def noisier(x: Tensor, rng: torch.Generator) -> Tensor:
        return x + torch.randn(x.shape, generator=rng)

    known, truth = world(noisier)
    wrong = torch.where(truth > 0.5, truth - 0.5, truth + 0.5)
    starts = (Given(wrong), Given(truth))
    search = Optimisation(screening=0, steps=0, noises=0, first=starts)
    found = search.run(replace(known, oracle=noisier), 0).test
    assert ((found - truth).abs().amax((1, 2, 3)) < 0.1).sum() >= 57


def test_the_release_distance_is_a_mean_over_what_is_known() -> None:
    rng = torch.Generator().manual_seed(0)
    x, z = torch.rand(4, 3, generator=rng), torch.rand(4, 3, generator=rng)
    z[1, 2] = torch.nan
    z[3] = torch.inf
    found = ReleaseDistance(lambda x, _: x * 2, z, variance=0.5, draws=3)(x, rng)
    for i in range(4):
        errors = [
            (2 * x[i, j].item() - z[i, j].item()) ** 2 for j in range(3) if z[i, j].isfinite()
        ]
        assert found[i].item() == pytest.approx(sum(errors) / max(1, len(errors)) / 0.5, abs=1e-5)


def test_total_variation_of_a_ramp_is_its_slope() -> None:
    down, across = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
    ramp = (0.3 * down + 0.4 * across)[None, None]
    assert total_variation(ramp).item() == pytest.approx(0.5, abs=1e-3)
    assert total_variation(torch.ones(1, 2, 9, 9)).item() == pytest.approx(0.01, abs=1e-6)


def test_a_generative_prior_finds_the_latent() -> None:
    known, truth = white_box(lambda x, _: nn.functional.avg_pool2d(x, 4).flatten(1))
    prior = GenerativePrior(
        generator=drawn, latent=12, guesses=2, steps=60, learning_rate=0.1, likelihood=0.001
    )
    assert prior.unfit_for(known) is None
    found, mean = prior.run(known, 0).test, MeanFace().run(known, 0).test
    assert psnr(found, truth).mean() > psnr(mean, truth).mean() + 6


def test_without_a_differentiable_release_there_is_no_search() -> None:
    known, _ = white_box(Encoder())

    def hidden(x: Tensor, _: torch.Generator) -> Tensor:
        return torch.from_numpy(x.numpy() * 2)

    assert SHORT.unfit_for(known) is None
    for oracle, why in (
        (None, "not at hand"),
        (hidden, "differentiated"),
        (lambda x, _: x.detach(), "differentiated"),
    ):
        assert why in (SHORT.unfit_for(replace(known, oracle=oracle)) or "")
    small = GenerativePrior(generator=lambda w: w.view(-1, 1, 3, 3), latent=9)
    assert "(1, 3, 3)" in (small.unfit_for(known) or "")
