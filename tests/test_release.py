"""The one path out of the building: alone, in company, twice, and averaged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tiny import faces
from veil import release
from veil.method import Obfuscator
from veil.release import depends_on_batch, is_random, release_draws, release_split, released

DATA = faces(people=20, photos=2)


class Clean(Obfuscator):
    """A convolution and a batch norm with fixed statistics."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        z: Tensor = self.norm(self.conv(x))
        return z


class Together(Clean):
    """Normalises by the statistics of the batch, even when deployed."""

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        z: Tensor = self.conv(x)
        return (z - z.mean((0, 2, 3), keepdim=True)) / z.std((0, 2, 3), keepdim=True)


class Forgetful(Clean):
    """Puts its batch norm back into training mode."""

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        self.norm.train()
        return super().release(x, rng)


class Noisy(Clean):
    """Adds unit noise."""

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        z = super().release(x, rng)
        return z + torch.randn(z.shape, generator=rng)


def test_a_release_is_made_in_eval_mode_without_gradients_and_in_full_precision() -> None:
    obfuscator = Clean().train().double()
    x = torch.rand(4, 3, 16, 16, dtype=torch.float64)
    z = released(obfuscator, x, torch.Generator())
    assert not obfuscator.training
    assert not z.requires_grad
    assert z.dtype == torch.float32
    assert int(obfuscator.norm.num_batches_tracked or 0) == 0


def test_every_image_is_released_in_order_whatever_the_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    obfuscator = Clean()
    whole = release_split(obfuscator, DATA, 0, "test")
    monkeypatch.setattr(release, "IMAGES_AT_ONCE", 7)
    parts = release_split(obfuscator, DATA, 0, "test")
    slow = [
        released(obfuscator, DATA.batch(np.array([i])).x, torch.Generator())
        for i in range(len(DATA))
    ]
    assert torch.allclose(whole, parts, atol=1e-6)
    assert torch.allclose(whole, torch.cat(slow), atol=1e-6)


def test_noise_follows_the_seed_and_the_purpose() -> None:
    noisy = Noisy()
    first = release_split(noisy, DATA, 0, "test")
    assert torch.equal(first, release_split(noisy, DATA, 0, "test"))
    assert not torch.equal(first, release_split(noisy, DATA, 1, "test"))
    assert not torch.equal(first, release_split(noisy, DATA, 0, "attack"))


def test_draws_are_independent_and_averaged() -> None:
    """The mean of 16 draws is four times nearer to the release without noise."""
    clean, noisy = release_split(Clean(), DATA, 0, "test"), Noisy()
    drawn = release_draws(noisy, DATA, 0, "test", (1, 4, 16))
    one = drawn.means[1] - clean
    assert torch.equal(drawn.means[1], release_split(noisy, DATA, 0, "test"))
    assert one.std() == pytest.approx(1, abs=0.02)
    assert (drawn.means[16] - clean).std() == pytest.approx(0.25, abs=0.01)
    assert drawn.deviation.square().mean() == pytest.approx(1, abs=0.02)


def test_randomness_is_noticed() -> None:
    assert is_random(Noisy(), DATA, 0)
    assert not is_random(Clean(), DATA, 0)


@pytest.mark.parametrize("count", [3, 4, 16, 40])
def test_dependence_on_the_batch_is_noticed(count: int) -> None:
    """Fails where the same company comes in another order: its statistics are the same then."""
    few = DATA.view(np.arange(count))
    assert depends_on_batch(Clean(), few, 0) < 1e-4
    assert depends_on_batch(Together(), few, 0) > 0.01
    assert depends_on_batch(Forgetful(), few, 0) > 0.01


def test_two_images_are_too_few_to_tell() -> None:
    assert depends_on_batch(Together(), DATA.view(np.arange(2)), 0) == 0.0
