"""VGG networks with batch norm (Simonyan & Zisserman, ICLR 2015, arXiv 1409.1556), in blocks.

A block is [Conv 3x3, BatchNorm, ReLU] a few times and a max-pool that halves the map, rounding
down. VGG-16 has five of them, `VGG16_CONVOLUTIONS` deep and `VGG16_WIDTHS` wide, and two fully
connected layers of 4096 units before its outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import nn

from veil.errors import VeilError

VGG16_CONVOLUTIONS: Final = (2, 2, 3, 3, 3)
VGG16_WIDTHS: Final = (64, 128, 256, 512, 512)
VGG16_HIDDEN: Final = (4096, 4096)


def vgg_blocks(
    in_channels: int,
    widths: Sequence[int],
    convolutions: Sequence[int],
    running_statistics: bool = True,
) -> nn.Sequential:
    """Blocks from (n, in_channels, h, w) to (n, widths[-1], h // 2^k, w // 2^k), k of them.

    Convolutions start from He's normal initialisation with fan-out (arXiv 1502.01852) and biases
    of 0.

    Args:
        in_channels: channels of the pictures or maps.
        widths: channels of each block.
        convolutions: how many each block has; as many numbers as `widths`.
        running_statistics: whether eval mode normalises by statistics gathered in training;
            without them a batch is normalised by its own, always.

    Raises:
        VeilError: `widths` and `convolutions` differ in length.
    """
    if len(widths) != len(convolutions):
        raise VeilError(
            f"a VGG needs one width per block: {len(convolutions)} blocks, {len(widths)} widths"
        )
    layers: list[nn.Module] = []
    incoming = in_channels
    for width, count in zip(widths, convolutions, strict=True):
        for _ in range(count):
            convolution = nn.Conv2d(incoming, width, 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            norm = nn.BatchNorm2d(width, track_running_stats=running_statistics)
            layers += [convolution, norm, nn.ReLU(inplace=True)]
            incoming = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def vgg_classifier(
    shape: tuple[int, int, int],
    widths: Sequence[int],
    convolutions: Sequence[int],
    hidden: Sequence[int],
    outputs: int,
    running_statistics: bool = True,
) -> nn.Sequential:
    """`vgg_blocks` and fully connected layers with ReLU: (n, c, h, w) -> (n, outputs).

    Without the dropout of the ImageNet network.

    Args:
        shape: (c, h, w) of the pictures or maps; h and w at least 2^k for k blocks.
        widths, convolutions, running_statistics: of the blocks.
        hidden: units of the fully connected layers before the last.
        outputs: numbers of the last layer.

    Raises:
        VeilError: the blocks would pool the map away, or `widths` and `convolutions` differ in
            length.
    """
    channels, height, across = shape
    smallest = 2 ** len(widths)
    if min(height, across) < smallest:
        raise VeilError(
            f"{len(widths)} VGG blocks need maps of {smallest} px or more, not {height}x{across}"
        )
    blocks = vgg_blocks(channels, widths, convolutions, running_statistics)
    units = (widths[-1] if widths else channels) * (height // smallest) * (across // smallest)
    layers: list[nn.Module] = [nn.Flatten()]
    for wide in hidden:
        layers += [nn.Linear(units, wide), nn.ReLU(inplace=True)]
        units = wide
    return nn.Sequential(blocks, *layers, nn.Linear(units, outputs))
