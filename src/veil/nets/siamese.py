"""The Siamese matcher of AIA (arXiv 2009.14376, section 5): a picture or a map to an embedding."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from veil.errors import VeilError


class SiameseNet(nn.Module):
    """Three 3x3 convolutions of 4, 8 and 8 channels, then FC -> 500 -> 128.

    Both pictures of a pair pass through this one network; the distance of their embeddings says
    whether they show one person. The paper names channels and widths only: here every hidden layer
    is followed by LeakyReLU, and the maps are halved by average pooling (as in the paper's encoder)
    between the convolutions, so that a 100x100 map ends as 8x25x25.

    Args:
        in_channels: c of the input.
        size: h = w of the input, at least 4.
        channels: of the convolutions.
        hidden: units of the hidden fully connected layer.
        embedding: d, units of the output.
    """

    def __init__(
        self,
        in_channels: int,
        size: int,
        channels: tuple[int, ...] = (4, 8, 8),
        hidden: int = 500,
        embedding: int = 128,
    ) -> None:
        super().__init__()
        pooled = size >> (len(channels) - 1)
        if pooled < 1:
            smallest = 1 << (len(channels) - 1)
            raise VeilError(f"a {size}x{size} map is too small to match: give {smallest} or more")
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise((in_channels, *channels))):
            halve = [nn.AvgPool2d(2)] if i else []
            layers += [*halve, nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels[-1] * pooled * pooled, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, embedding),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, size, size) -> (n, d)."""
        embedding: Tensor = self.head(self.convolutions(x))
        return embedding
