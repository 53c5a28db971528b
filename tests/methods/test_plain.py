"""Filters against slow loops and closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny
from veil.method import Method, MethodConfig, Problem
from veil.methods.plain import (
    Blur,
    BlurConfig,
    Noise,
    NoiseConfig,
    Original,
    OriginalConfig,
    Pixelate,
    PixelateConfig,
    block_means,
    gaussian_windows,
)
from veil.release import released
from veil.seeds import generator
from veil.train import FitConfig, fit

FILTERS: tuple[tuple[type[Method], MethodConfig, str], ...] = (
    (Original, OriginalConfig(), "Original picture"),
    (Blur, BlurConfig(deviation=2.5), "Blur 2.5 px"),
    (Pixelate, PixelateConfig(block=5), "Pixelate 5 px"),
    (Noise, NoiseConfig(deviation=0.1), "Noise 0.1"),
)
X = tiny.faces().batch(slice(None)).x


def release(method: Method, x: Tensor = X, seed: int = 0) -> Tensor:
    return released(method.obfuscator, x, generator(seed, "release"))


def blur(x: Tensor, deviation: float) -> Tensor:
    return release(Blur(BlurConfig(deviation=deviation), tiny.problem()), x)


def test_the_original_is_the_picture_bit_for_bit() -> None:
    assert torch.equal(release(Original(OriginalConfig(), tiny.problem())), X)


def test_blur_equals_a_slow_double_loop() -> None:
    """Every new pixel: all pixels weighed by exp(-d^2 / 2 deviation^2), weights summing to one."""
    x = torch.rand(1, 1, 5, 7, generator=generator(0), dtype=torch.float64)
    z = Blur(BlurConfig(deviation=1.3), tiny.problem()).obfuscator.release(x, generator(0))
    for i in range(5):
        for j in range(7):
            total = weights = 0.0
            for k in range(5):
                for m in range(7):
                    weight = math.exp(-((i - k) ** 2 + (j - m) ** 2) / (2 * 1.3**2))
                    total += weight * x[0, 0, k, m].item()
                    weights += weight
            assert z[0, 0, i, j].item() == pytest.approx(total / weights, rel=1e-9)


def test_blur_spreads_a_point_by_its_deviation_in_pixels() -> None:
    point = torch.zeros(1, 1, 65, 65)
    point[0, 0, 32, 32] = 1
    for deviation in (1.5, 4.0):
        z = blur(point, deviation)[0, 0]
        place = torch.arange(65.0) - 32
        assert float(z.sum()) == pytest.approx(1, rel=1e-4)
        for line in (z.sum(0), z.sum(1)):
            assert float((line * place**2).sum()) == pytest.approx(deviation**2, rel=1e-3)


def test_blur_keeps_flat_pictures_and_stays_between_none_and_the_mean() -> None:
    flat = torch.full((1, 3, 9, 12), 0.37)
    assert torch.allclose(blur(flat, 3.0), flat, atol=1e-6)
    assert torch.allclose(blur(X, 1e-3), X, atol=1e-6)
    everywhere = X.mean(dim=(2, 3), keepdim=True).expand_as(X)
    assert torch.allclose(blur(X, 1e4), everywhere, atol=1e-4)
    assert torch.allclose(gaussian_windows(6, 2.0, X).sum(1), torch.ones(6))


@pytest.mark.parametrize("block", [1, 3, 4, 8, 100])
def test_pixelating_equals_a_slow_loop(block: int) -> None:
    """With sides that the block does not divide, and a block larger than the picture."""
    x = torch.rand(2, 3, 8, 11, generator=generator(0))
    z = block_means(x, block)
    for top in range(0, 8, block):
        for left in range(0, 11, block):
            here = (..., slice(top, top + block), slice(left, left + block))
            mean = x[here].flatten(2).mean(2)
            assert torch.allclose(z[here], mean[..., None, None].expand_as(x[here]))


def test_noise_has_its_deviation_and_is_clipped() -> None:
    method = Noise(NoiseConfig(deviation=0.05), tiny.problem())
    grey = torch.full((40, 3, 32, 32), 0.5)
    noise = release(method, grey) - grey
    count = noise.numel()
    assert noise.std().item() == pytest.approx(0.05, rel=5 / math.sqrt(2 * count))
    assert noise.mean().item() == pytest.approx(0, abs=5 * 0.05 / math.sqrt(count))
    assert (noise[0] * noise[1]).mean().abs().item() < 5 * 0.05**2 / math.sqrt(noise[0].numel())
    black = release(method, torch.zeros(40, 3, 32, 32))
    assert (black == 0).float().mean().item() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(count))
    assert black.mean().item() == pytest.approx(0.05 / math.sqrt(2 * math.pi), rel=0.02)


def test_only_noise_is_random() -> None:
    for cls, config, _ in FILTERS:
        method = cls(config, tiny.problem())
        assert torch.equal(release(method), release(method))
        assert torch.equal(release(method), release(method, seed=1)) is (cls is not Noise)


@pytest.mark.parametrize(("cls", "config", "title"), FILTERS)
def test_a_filter_learns_nothing_and_releases_pictures(
    cls: type[Method], config: MethodConfig, title: str, tmp_path: Path
) -> None:
    """It takes every problem, grey and odd pictures included, and training it is nothing."""
    for problem in (
        tiny.problem(),
        tiny.problem(("reconstruction",), ("identity", "Age")),
        tiny.problem(size=17, channels=1),
    ):
        method = cls(config, problem)
        assert method.title() == title
        assert not method.players
        assert not method.stages()
        assert method.obfuscator.pictures
        _, size, _ = problem.image
        people = tiny.faces(size=size, channels=problem.image[0])
        x = people.batch(slice(None)).x
        z = release(method, x)
        assert z.shape == x.shape
        assert float(z.min()) >= 0
        assert float(z.max()) <= 1
        assert method.answers(z) == method.training_adversary(z) == {}
    fit(method, problem, people, people, FitConfig(device="cpu"), tmp_path)
    assert torch.equal(release(method, x), z)


def test_stronger_settings_keep_less() -> None:
    def error(method: Method) -> float:
        return float((release(method) - X).square().mean())

    problem: Problem = tiny.problem()
    rows = (
        [Blur(BlurConfig(deviation=d), problem) for d in (0.5, 1, 4)],
        [Pixelate(PixelateConfig(block=b), problem) for b in (1, 2, 8)],
        [Noise(NoiseConfig(deviation=d), problem) for d in (0.02, 0.1, 0.5)],
    )
    for row in rows:
        errors = [error(method) for method in row]
        assert errors == sorted(errors)
        assert errors[0] < errors[-1]


def test_a_strength_of_nothing_is_refused() -> None:
    for config, field in ((BlurConfig, "deviation"), (NoiseConfig, "deviation")):
        with pytest.raises(ValueError, match="greater than 0"):
            config(**{field: 0})
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        PixelateConfig(block=0)
