"""Pictures turned and lit at random: slow loops, and the shares and ranges that are promised."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from veil.augmentation import LUMA, flipped, jittered
from veil.seeds import generator

COLOURS = torch.rand(4, 3, 5, 6, generator=generator(0))
GREYS = COLOURS[:, :1]


def test_every_picture_is_itself_or_its_mirror_image_half_and_half() -> None:
    x = torch.rand(2000, 1, 2, 3, generator=generator(1))
    y = flipped(x, generator(2))
    turned = 0
    for before, after in zip(x, y, strict=True):
        mirrored = torch.stack([before[..., 2], before[..., 1], before[..., 0]], dim=-1)
        same = torch.equal(after, before)
        assert same != torch.equal(after, mirrored)
        turned += not same
    assert turned == pytest.approx(1000, abs=5 * (2000 / 4) ** 0.5)


def slow_jitter(x: Tensor, factors: Tensor) -> Tensor:
    """Saturation, contrast and brightness of one picture after the other, pixel by pixel."""
    out = torch.empty_like(x)
    channels, height, width = x.shape[1:]
    weights = LUMA if channels == 3 else (1.0,)
    for i, picture in enumerate(x.tolist()):
        b, k, s = factors[:, i].tolist()
        luma = [
            [sum(w * picture[c][r][q] for c, w in enumerate(weights)) for q in range(width)]
            for r in range(height)
        ]
        mean = sum(map(sum, luma)) / (height * width)
        for c in range(channels):
            for r in range(height):
                for q in range(width):
                    saturated = luma[r][q] + s * (picture[c][r][q] - luma[r][q])
                    lit = b * (mean + k * (saturated - mean))
                    out[i, c, r, q] = min(1.0, max(0.0, lit))
    return out


@pytest.mark.parametrize("x", [COLOURS, GREYS], ids=["colour", "grey"])
def test_jitter_equals_a_slow_loop(x: Tensor) -> None:
    for strength in (0.1, 1.0):
        uniform = torch.rand(3, len(x), 1, 1, 1, generator=generator(3)).view(3, -1)
        expected = slow_jitter(x, 1 - strength + 2 * strength * uniform)
        torch.testing.assert_close(jittered(x, generator(3), strength), expected)


def test_even_grey_pictures_only_change_in_brightness_and_each_by_its_own_factor() -> None:
    x = torch.full((1000, 3, 2, 2), 0.5)
    y = jittered(x, generator(4), 0.1)
    factors = y[:, 0, 0, 0] / 0.5
    torch.testing.assert_close(y, 0.5 * factors.view(-1, 1, 1, 1).expand_as(y))
    ordered = factors.sort().values
    uniform = 0.9 + 0.2 * (torch.arange(1000) + 0.5) / 1000
    assert float((ordered - uniform).abs().max()) < 0.2 * 1.63 / 1000**0.5  # Kolmogorov, 1 %


def test_strength_0_changes_nothing_and_every_strength_stays_in_0_1() -> None:
    torch.testing.assert_close(jittered(COLOURS, generator(5), 0.0), COLOURS)
    extreme = jittered(COLOURS.round(), generator(5), 1.0)
    assert float(extreme.min()) >= 0
    assert float(extreme.max()) <= 1


def test_the_generator_decides() -> None:
    for vary in (flipped, lambda x, rng: jittered(x, rng, 0.1)):
        assert torch.equal(vary(COLOURS, generator(6)), vary(COLOURS, generator(6)))
        assert not torch.equal(vary(COLOURS, generator(6)), vary(COLOURS, generator(7)))
