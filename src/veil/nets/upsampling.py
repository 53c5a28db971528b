"""Decoders of (upsample, convolution, batch norm, ReLU) blocks: from a vector to a picture."""

from __future__ import annotations

import math

from torch import nn

SMALLEST_SIDE = 4
NARROWEST = 16


def vector_decoder(dimension: int, picture: tuple[int, int, int], width: int) -> nn.Sequential:
    """A linear layer to a 4x4 map, blocks that double it up to the picture's size, a convolution.

    A block is [Upsample 2, Conv 3x3, BatchNorm, ReLU] and halves the channels; the last upsampling
    goes to the picture's size exactly. Batch norm always uses the batch's own statistics: none are
    remembered, so that an encoder gains nothing by moving its features away from remembered ones.

    Args:
        dimension: d of the vectors.
        picture: (c, h, w) of the pictures.
        width: channels of the 4x4 map; halved by every block, down to 16.

    Returns:
        A network (n, d) -> (n, c, h, w) logits of pixels.
    """
    channels, *size = picture
    layers: list[nn.Module] = [
        nn.Linear(dimension, width * SMALLEST_SIDE**2, bias=False),
        nn.Unflatten(1, (width, SMALLEST_SIDE, SMALLEST_SIDE)),
        *_normalised(width),
    ]
    blocks = max(0, math.ceil(math.log2(max(size) / SMALLEST_SIDE)))
    for block in range(1, blocks + 1):
        halved = max(min(NARROWEST, width), width // 2)
        last = block == blocks
        layers += [
            nn.Upsample(size=tuple(size)) if last else nn.Upsample(scale_factor=2),
            nn.Conv2d(width, halved, 3, padding=1, bias=False),
            *_normalised(halved),
        ]
        width = halved
    return nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))


def _normalised(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels, track_running_stats=False), nn.ReLU()]
