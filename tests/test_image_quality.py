"""Image quality against slow loops over windows, closed forms and recorded values.

Recorded values: SSIM and PSNR are scikit-image 0.26.0's. MS-SSIM of five scales is ours, recorded
when it equalled out_ms_ssim_standard of the references 05b_13_image_quality_even.npz and _odd.npz
(five scales of pytorch-msssim with a window in double precision) to 3e-15.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from veil.errors import VeilError
from veil.image_quality import (
    LARGEST_PSNR,
    SCALE_WEIGHTS,
    ms_ssim,
    perceptual_distance,
    psnr,
    scales,
    ssim,
)


def waves(height: int, width: int, pictures: int = 2) -> Tensor:
    """(n, 3, h, w) float64 in [0, 1], from a formula."""
    n, c, i, j = torch.meshgrid(
        *(torch.arange(k, dtype=torch.float64) for k in (pictures, 3, height, width)),
        indexing="ij",
    )
    return 0.5 + 0.3 * torch.sin(0.31 * i + 0.17 * j * (c + 1) + n) + 0.2 * torch.cos(i * j / 37)


def altered(x: Tensor) -> Tensor:
    """Less contrast, ripples and broad bands, from a formula."""
    i, j = torch.meshgrid(*(torch.arange(k).double() for k in x.shape[2:]), indexing="ij")
    return 0.6 * x + 0.2 + 0.1 * torch.sin(1.7 * i + 2.3 * j) + 0.1 * torch.sin(i / 9 - j / 31)


def noisy(x: Tensor, deviation: float, seed: int = 0) -> Tensor:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    return (x + deviation * noise).clamp(0, 1)


def slow_ssim(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Wang et al. 2004, eq. 13 and its contrast-structure factor, of two (h, w) planes."""
    weight = np.array(
        [
            [math.exp(-((a - 5) ** 2 + (b - 5) ** 2) / (2 * 1.5**2)) for b in range(11)]
            for a in range(11)
        ]
    )
    weight /= weight.sum()
    p, q = x.numpy(), y.numpy()
    whole, structure = [], []
    for i in range(p.shape[0] - 10):
        for j in range(p.shape[1] - 10):
            a, b = p[i : i + 11, j : j + 11], q[i : i + 11, j : j + 11]
            mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
            var_a = (weight * (a - mean_a) ** 2).sum()
            var_b = (weight * (b - mean_b) ** 2).sum()
            both = (weight * (a - mean_a) * (b - mean_b)).sum()
            structure.append((2 * both + 0.0009) / (var_a + var_b + 0.0009))
            light = (2 * mean_a * mean_b + 0.0001) / (mean_a**2 + mean_b**2 + 0.0001)
            whole.append(light * structure[-1])
    return float(np.mean(whole)), float(np.mean(structure))


def slow_halved(x: Tensor) -> Tensor:
    """2x2 means of an (h, w) plane; an odd side gets a zero before its first pixel."""
    height, width = x.shape
    odd = (height % 2, width % 2)

    def pixel(i: int, j: int) -> float:
        return float(x[i, j]) if i >= 0 and j >= 0 else 0.0

    return torch.tensor(
        [
            [
                sum(pixel(2 * i - odd[0] + a, 2 * j - odd[1] + b) for a in (0, 1) for b in (0, 1))
                / 4
                for j in range((width + odd[1]) // 2)
            ]
            for i in range((height + odd[0]) // 2)
        ],
        dtype=torch.float64,
    )


@given(seed=st.integers(0, 10_000), height=st.integers(11, 17), width=st.integers(11, 17))
@settings(max_examples=15, deadline=None)
def test_ssim_equals_a_loop_over_windows(seed: int, height: int, width: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, 2, 3, height, width, generator=rng, dtype=torch.float64)
    y[0] = 0.7 * x[0] + 0.3 * y[0]
    for n, found in enumerate(ssim(x, y)):
        slow = np.mean([slow_ssim(a, b)[0] for a, b in zip(x[n], y[n], strict=True)])
        assert float(found) == pytest.approx(slow, abs=1e-12)


@pytest.mark.parametrize(("height", "width"), [(22, 24), (21, 23)])
def test_ms_ssim_equals_a_loop_over_windows_and_scales(height: int, width: int) -> None:
    x = waves(height, width)
    y = noisy(x, 0.1)
    share = sum(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS[:2])
    for n, found in enumerate(ms_ssim(x, y)):
        channels = []
        for a, b in zip(x[n], y[n], strict=True):
            fine, coarse = slow_ssim(a, b)[1], slow_ssim(slow_halved(a), slow_halved(b))[0]
            assert min(fine, coarse) > 0
            channels.append(
                fine ** (SCALE_WEIGHTS[0] * share) * coarse ** (SCALE_WEIGHTS[1] * share)
            )
        assert float(found) == pytest.approx(np.mean(channels), abs=1e-12)


@pytest.mark.parametrize(
    ("height", "width", "structural", "noise", "multiscale"),
    [
        (
            176,
            180,
            [0.7789538288064444, 0.7787422335056214],
            [16.894670503084413, 16.89921191460012],
            [0.7058116988000479, 0.7076720375980603],
        ),
        (
            163,
            161,
            [0.7785057020233054, 0.7782046664234404],
            [16.904538999371248, 16.904363031751906],
            [0.7280201316812946, 0.7279237969321578],
        ),
    ],
)
def test_values_are_those_recorded(
    height: int,
    width: int,
    structural: list[float],
    noise: list[float],
    multiscale: list[float],
) -> None:
    x = waves(height, width)
    y = altered(x)
    assert ssim(x, y).tolist() == pytest.approx(structural, abs=1e-12)
    assert psnr(x, y).tolist() == pytest.approx(noise, abs=1e-10)
    assert ms_ssim(x, y).tolist() == pytest.approx(multiscale, abs=1e-10)


def test_single_precision_is_good_to_six_digits() -> None:
    x = waves(161, 163)
    y = noisy(x, 0.02)
    for measure in (ssim, ms_ssim):
        exact, quick = measure(x, y), measure(x.float(), y.float())
        assert quick.dtype == torch.float32
        assert torch.allclose(quick.double(), exact, atol=2e-6)
        assert measure(x.half(), y.half()).dtype == torch.float32


def test_flat_pictures_have_closed_forms() -> None:
    x = torch.full((1, 3, 40, 40), 0.2, dtype=torch.float64)
    y = x + 0.4
    light = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert float(ssim(x, y)) == pytest.approx(light, abs=1e-12)
    assert float(psnr(x, y)) == pytest.approx(-20 * math.log10(0.4), abs=1e-12)
    weight = SCALE_WEIGHTS[1] * sum(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS[:2])
    assert scales(40, 40) == 2
    assert float(ms_ssim(x, y)) == pytest.approx(light**weight, abs=1e-12)


def test_identical_pictures_score_best() -> None:
    x = waves(48, 52)
    assert torch.allclose(ssim(x, x), torch.ones(2, dtype=torch.float64))
    assert torch.allclose(ms_ssim(x, x), torch.ones(2, dtype=torch.float64))
    assert psnr(x, x).tolist() == [LARGEST_PSNR, LARGEST_PSNR]
    assert float(psnr(x, x + 1e-9).max()) == LARGEST_PSNR


def test_every_measure_falls_as_noise_grows() -> None:
    x = waves(64, 64)
    for measure in (psnr, ssim, ms_ssim):
        values = torch.stack([measure(x, noisy(x, d)) for d in (0.0, 0.02, 0.05, 0.1, 0.3)])
        assert bool((values.diff(dim=0) < 0).all())


def test_each_picture_is_scored_by_itself() -> None:
    x = waves(32, 32, pictures=5)
    y = noisy(x, 0.1)
    for measure in (psnr, ssim, ms_ssim):
        alone = torch.cat([measure(a[None], b[None]) for a, b in zip(x, y, strict=True)])
        assert torch.allclose(measure(x, y), alone, atol=1e-14)


def test_an_inverted_picture_is_negative_and_counts_as_nothing_across_scales() -> None:
    """Negative structure has no real power: without the cut MS-SSIM and its gradient are NaN."""
    x = waves(64, 64)
    y = (1 - x).requires_grad_()
    assert bool((ssim(x, y) < 0).all())
    found = ms_ssim(x, y)
    assert found.tolist() == [0.0, 0.0]
    (gradient,) = torch.autograd.grad(found.sum(), y)
    assert bool((gradient == 0).all())


@pytest.mark.parametrize("measure", [psnr, ssim, ms_ssim])
def test_gradients_are_those_of_finite_differences(measure: object) -> None:
    assert callable(measure)
    x = waves(22, 23, pictures=1)[:, :1]
    y = noisy(x, 0.1).requires_grad_()
    (gradient,) = torch.autograd.grad(measure(x, y).sum(), y)
    step = 1e-6 * torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).double()
    with torch.no_grad():
        difference = float((measure(x, y + step) - measure(x, y - step)).sum())
    assert difference == pytest.approx(float(2 * (gradient * step).sum()), rel=1e-5)


@pytest.mark.parametrize(
    ("side", "count"),
    [(11, 1), (20, 1), (21, 2), (40, 2), (41, 3), (80, 3), (81, 4), (160, 4), (161, 5), (999, 5)],
)
def test_a_picture_has_as_many_scales_as_windows_fit(side: int, count: int) -> None:
    assert scales(side, 999) == scales(999, side) == count
    if side <= 161:
        assert ms_ssim(torch.rand(1, 1, side, side), torch.rand(1, 1, side, side)).isfinite().all()


def test_perceptual_distance_equals_a_slow_loop() -> None:
    rng = torch.Generator().manual_seed(0)
    a = [torch.randn(2, c, s, s, generator=rng).double() for c, s in ((3, 4), (5, 2))]
    b = [torch.randn(2, c, s, s, generator=rng).double() for c, s in ((3, 4), (5, 2))]
    for n, found in enumerate(perceptual_distance(a, b)):
        expected = 0.0
        for p, q in zip(a, b, strict=True):
            side = p.shape[2]
            for i in range(side):
                for j in range(side):
                    u, v = p[n, :, i, j].numpy(), q[n, :, i, j].numpy()
                    gap = u / np.sqrt(u @ u) - v / np.sqrt(v @ v)
                    expected += gap @ gap / side**2
        assert float(found) == pytest.approx(expected, abs=1e-12)


def test_perceptual_distance_sees_directions_only() -> None:
    a = [torch.rand(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))]
    assert perceptual_distance(a, a).tolist() == [0.0, 0.0, 0.0]
    assert perceptual_distance(a, [2.5 * a[0]]).max() < 1e-12
    assert perceptual_distance(a, [-a[0]]).tolist() == pytest.approx([4.0, 4.0, 4.0])
    dead = [torch.zeros(1, 4, 5, 5, requires_grad=True)]
    perceptual_distance(dead, [a[0][:1]]).sum().backward()  # type: ignore[no-untyped-call]
    assert dead[0].grad is not None
    assert bool(dead[0].grad.isfinite().all())


def test_pictures_that_cannot_be_compared_are_refused_in_one_line() -> None:
    x = torch.rand(1, 3, 16, 16)
    cases = [
        (psnr, x, x[:, :1], "cannot compare"),
        (psnr, x[0], x[0], "cannot compare"),
        (ssim, x, (255 * x).byte(), "floats in"),
        (ssim, x[..., :10], x[..., :10], "11 pixels or more each way, not 16x10"),
        (ms_ssim, x[..., :10, :], x[..., :10, :], "11 pixels or more each way, not 10x16"),
    ]
    for measure, a, b, message in cases:
        with pytest.raises(VeilError, match=message) as error:
            measure(a, b)
        assert "\n" not in str(error.value)
    for features in ([], [x[0]], [x, x]):
        with pytest.raises(VeilError, match="feature maps"):
            perceptual_distance(features, [x])
