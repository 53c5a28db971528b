"""Convolutional encoders and decoders: blocks of (convolution, LeakyReLU, resampling)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def pooled_encoder(channels: Sequence[int], kernel: int = 3) -> nn.Sequential:
    """Blocks of [Conv, LeakyReLU, AvgPool 2]: every block halves the map.

    Args:
        channels: input channels, then the output channels of each block.
        kernel: odd side of the convolutions, padded to keep the size.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [
            nn.Conv2d(before, after, kernel, padding=kernel // 2),
            nn.LeakyReLU(0.2),
            nn.AvgPool2d(2),
        ]
    return nn.Sequential(*layers)


def upsampling_decoder(
    channels: Sequence[int], out_channels: int, size: tuple[int, int], kernel: int = 3
) -> nn.Sequential:
    """Blocks of [Conv, LeakyReLU, Upsample 2] and a last convolution: maps -> image logits.

    The last upsampling goes to `size` exactly, so that any image size is restored.

    Args:
        channels: input channels, then the output channels of each block.
        out_channels: channels of the image.
        size: (h, w) of the image.
        kernel: odd side of the convolutions, padded to keep the size.
    """
    layers: list[nn.Module] = []
    steps = list(pairwise(channels))
    for i, (before, after) in enumerate(steps):
        last = i == len(steps) - 1
        layers += [
            nn.Conv2d(before, after, kernel, padding=kernel // 2),
            nn.LeakyReLU(0.2),
            nn.Upsample(size=size) if last else nn.Upsample(scale_factor=2),
        ]
    layers.append(nn.Conv2d(channels[-1], out_channels, kernel, padding=kernel // 2))
    return nn.Sequential(*layers)
