"""The U-Net (Ronneberger et al., MICCAI 2015): picture to picture, with noise at its bottleneck."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from veil.errors import VeilError


class UNet(nn.Module):
    """Double convolutions on halving maps and back up, beside skips: pictures to pictures.

    As drawn by Martinsson et al. (arXiv 2006.08039, figure 8 and appendix A.1). At the narrowest
    map a vector of noise joins, projected to as many channels as there are, and for each condition
    an embedded class, projected to a single channel.

    Sides need not be divisible: a halved map is rounded down, and grows to its skip's size again.

    Args:
        channels: of the pictures, which come out as they came in.
        size: (h, w) of the pictures.
        widths: channels of the maps, two or more, each half as large as the one before.
        noise: numbers of noise for each picture.
        conditions: K of each class that the pictures are made to show.
        embedding: numbers that a class is embedded in.

    Raises:
        VeilError: the pictures are too small to be halved so often.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        widths: Sequence[int] = (32, 64, 128, 256, 512),
        noise: int = 1024,
        conditions: Sequence[int] = (),
        embedding: int = 128,
    ) -> None:
        super().__init__()
        halvings = len(widths) - 1
        height, across = (side >> halvings for side in size)
        if not (height and across):
            raise VeilError(
                f"a U-Net of {len(widths)} widths halves pictures {halvings} times: "
                f"{size[0]} x {size[1]} is too small, give fewer widths"
            )
        self.noise = noise
        self.down = nn.ModuleList(
            double_convolution(i, o) for i, o in pairwise((channels, *widths))
        )
        self.project_noise = nn.Sequential(
            nn.Linear(noise, widths[-1] * height * across),
            nn.Unflatten(1, (widths[-1], height, across)),
        )
        self.embed = nn.ModuleList(
            nn.Sequential(
                nn.Embedding(classes, embedding),
                nn.Linear(embedding, height * across),
                nn.Unflatten(1, (1, height, across)),
            )
            for classes in conditions
        )
        joined = 2 * widths[-1] + len(conditions)
        upwards = [*reversed(widths[:-1])]
        self.up = nn.ModuleList(
            double_convolution(below + beside, beside)
            for below, beside in pairwise((joined, *upwards))
        )
        self.to_picture = nn.Conv2d(widths[0], channels, 1)

    def forward(self, x: Tensor, noise: Tensor, conditions: Sequence[Tensor] = ()) -> Tensor:
        """Pictures in [0, 1], shaped like x.

        Args:
            x: (n, channels, h, w).
            noise: (n, noise).
            conditions: (n,) int64 classes of each condition, in their order.
        """
        skips: list[Tensor] = []
        for block in self.down:
            x = block(max_pool2d(x, 2) if skips else x)
            skips.append(x)
        embedded = [net(s) for net, s in zip(self.embed, conditions, strict=True)]
        x = torch.cat([skips.pop(), self.project_noise(noise), *embedded], dim=1)
        for block in self.up:
            skip = skips.pop()
            x = block(torch.cat([interpolate(x, skip.shape[2:]), skip], dim=1))
        picture: Tensor = self.to_picture(x).float().sigmoid()
        return picture


def double_convolution(incoming: int, outgoing: int) -> nn.Sequential:
    """Twice [Conv 3x3, BatchNorm, ReLU]."""
    return nn.Sequential(
        *(
            layer
            for channels in (incoming, outgoing)
            for layer in (
                nn.Conv2d(channels, outgoing, 3, padding=1),
                nn.BatchNorm2d(outgoing),
                nn.ReLU(inplace=True),
            )
        )
    )
