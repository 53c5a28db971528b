"""From a released map to a picture by transposed convolutions."""

from __future__ import annotations

from torch import nn


def transposed_decoder(channels: int, picture: tuple[int, int, int]) -> nn.Sequential:
    """Two transposed convolutions at half the picture's size, two at its full size, a sigmoid.

    Bilinear to half size, channels -> 128 -> 64, bilinear to full size, 64 -> 64 -> c; every
    kernel is 3x3 with stride 1, and batch norm and ReLU follow each but the last. Jeong et al.
    (NARL, UAI 2023), after Li et al. (DeepObfuscator, IoTDI 2021).

    Args:
        channels: of the maps (n, channels, h', w'), of any size.
        picture: (c, h, w) of the pictures.

    Returns:
        A network (n, channels, h', w') -> (n, c, h, w) in [0, 1].
    """
    colours, height, width = picture
    return nn.Sequential(
        nn.Upsample(size=(height // 2, width // 2), mode="bilinear"),
        *_block(channels, 128),
        *_block(128, 64),
        nn.Upsample(size=(height, width), mode="bilinear"),
        *_block(64, 64),
        nn.ConvTranspose2d(64, colours, 3, padding=1),
        nn.Sigmoid(),
    )


def _block(incoming: int, outgoing: int) -> list[nn.Module]:
    return [
        nn.ConvTranspose2d(incoming, outgoing, 3, padding=1),
        nn.BatchNorm2d(outgoing),
        nn.ReLU(),
    ]
