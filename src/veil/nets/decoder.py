"""From a release back to a picture: a decoder of vectors and maps, and the critic it may face."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.parametrizations import spectral_norm

SMALLEST_SIDE = 4  # smaller maps are taken for vectors, and vectors laid out as maps of this side
NARROWEST = 32


class PictureDecoder(nn.Module):
    """Convolutions at the release's own size, then blocks that double it up to the picture's.

    A block is [Upsample 2, Conv 3x3, BatchNorm, LeakyReLU]. Channels halve where the side doubles,
    so that every block costs the same. A vector is laid out as a 4x4 map by a linear layer. The
    last doubling turns channels into pixels (Shi et al., CVPR 2016): no convolution runs at full
    size unless the release has it.

    Args:
        release: shape of one release: (c, h, w), or anything else, which is flattened.
        picture: (c, h, w) of the pictures.
        width: channels where the map is 8x8; 8 / side times as many elsewhere, at least 32.
    """

    def __init__(self, release: torch.Size, picture: tuple[int, int, int], width: int) -> None:
        super().__init__()
        channels, height, across = picture
        self.size = (height, across)

        def wide(side: int) -> int:
            return max(min(NARROWEST, width), 8 * width // side)

        layers: list[nn.Module] = []
        if len(release) == 3 and min(release[1:]) >= SMALLEST_SIDE:
            incoming, *sides = release
        else:
            incoming, sides = 2 * width, [SMALLEST_SIDE, SMALLEST_SIDE]
            layers += [
                nn.Flatten(),
                nn.Linear(math.prod(release), incoming * SMALLEST_SIDE**2),
                nn.Unflatten(1, (incoming, *sides)),
            ]
        side = max(sides)
        layers += [*_convolved(incoming, wide(side)), *_convolved(wide(side), wide(side))]
        growth = max(height / sides[0], across / sides[1])
        doublings = max(0, math.ceil(math.log2(growth)))
        for _ in range(doublings - 1):
            layers += [nn.Upsample(scale_factor=2), *_convolved(wide(side), wide(2 * side))]
            side *= 2
        pixels = 4 if doublings else 1
        layers.append(nn.Conv2d(wide(side), channels * pixels, 3, padding=1))
        if doublings:
            layers.append(nn.PixelShuffle(2))
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """(n, ...) releases -> (n, c, h, w) logits of pixels."""
        logits: Tensor = self.layers(z)
        if logits.shape[2:] == self.size:
            return logits
        return interpolate(logits, self.size, mode="bilinear", antialias=True)


def picture_critic(picture: tuple[int, int, int], width: int = 32) -> nn.Sequential:
    """Strided convolutions with spectral norm (Miyato et al., ICLR 2018) down to 4x4 judgements.

    Args:
        picture: (c, h, w) of the pictures.
        width: channels after the first convolution; they double up to eight times as many.

    Returns:
        A network (n, c, h, w) -> (n, 1, h', w'), higher where a region looks real.
    """
    channels, *sides = picture
    incoming, layers, side = channels, list[nn.Module](), min(sides)
    outgoing = width
    while side > SMALLEST_SIDE:
        layers += [spectral_norm(nn.Conv2d(incoming, outgoing, 4, 2, 1)), nn.LeakyReLU(0.2)]
        incoming, outgoing, side = outgoing, min(2 * outgoing, 8 * width), side // 2
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(incoming, 1, 3, padding=1)))


def _convolved(incoming: int, outgoing: int) -> list[nn.Module]:
    """A 3x3 convolution; batch norm, as group norm's backward crashes on CPU channels-last."""
    return [
        nn.Conv2d(incoming, outgoing, 3, padding=1, bias=False),
        nn.BatchNorm2d(outgoing),
        nn.LeakyReLU(0.2),
    ]
