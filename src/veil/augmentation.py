"""Pictures varied at random while training: turned left to right, lit a little differently."""

from __future__ import annotations

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601


def flipped(x: Tensor, rng: torch.Generator) -> Tensor:
    """Each picture turned left to right with probability 1/2.

    Labels of places (landmarks) or of sides are wrong afterwards.

    Args:
        x: (n, c, h, w).
        rng: source of all randomness, on the device of x.
    """
    turned = torch.rand(len(x), 1, 1, 1, generator=rng, device=x.device) < 0.5
    return torch.where(turned, x.flip(3), x)


def jittered(x: Tensor, rng: torch.Generator, strength: float) -> Tensor:
    """Each picture's brightness, contrast and saturation multiplied by factors of its own.

    b (m + k (g + s (x - g) - m)), clipped to [0, 1], where g is the luma of each pixel, m the
    picture's mean luma, and b, k, s are drawn from U[1 - strength, 1 + strength].

    Args:
        x: (n, 3 or 1, h, w) in [0, 1]; grey pictures have no saturation to vary.
        rng: source of all randomness, on the device of x.
        strength: in [0, 1]; 0 changes nothing.
    """
    uniform = torch.rand(3, len(x), 1, 1, 1, generator=rng, device=x.device, dtype=x.dtype)
    brightness, contrast, saturation = 1 + strength * (2 * uniform - 1)
    weights = torch.tensor(LUMA, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    luma = x if x.shape[1] == 1 else (x * weights).sum(dim=1, keepdim=True)
    mean = luma.mean(dim=(2, 3), keepdim=True)
    lit: Tensor = brightness * (mean + contrast * (luma + saturation * (x - luma) - mean))
    return lit.clamp(0, 1)
