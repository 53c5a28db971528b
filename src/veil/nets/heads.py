"""Classifier heads on vectors and on maps."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class MLP(nn.Sequential):
    """(n, ...) -> (n, outputs): flatten, then fully connected layers with one activation."""

    def __init__(
        self, inputs: int, hidden: Sequence[int], outputs: int, activation: type[nn.Module]
    ) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        width = inputs
        for units in hidden:
            layers += [nn.Linear(width, units), activation()]
            width = units
        layers.append(nn.Linear(width, outputs))
        super().__init__(*layers)


class ConvHead(nn.Module):
    """Convolutions, then one linear layer on the spatial average: (n, c, h, w) -> (n, outputs).

    Args:
        in_channels: c.
        channels: output channels of the 3x3 convolutions, each followed by batch norm and ReLU.
        outputs: logits.
        pool_every: halve the map after this many convolutions while it is larger than 4.
        running_statistics: whether eval mode normalises by statistics gathered in training; without
            them a batch is normalised by its own, always.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        outputs: int,
        pool_every: int = 2,
        running_statistics: bool = True,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        width = in_channels
        for out in channels:
            self.convs.append(nn.Conv2d(width, out, 3, padding=1, bias=False))
            self.norms.append(nn.BatchNorm2d(out, track_running_stats=running_statistics))
            width = out
        self.pool_every = pool_every
        self.classifier = nn.Linear(width, outputs)

    def features(self, x: Tensor) -> Tensor:
        """(n, channels[-1], h', w') the last feature map, which Grad-CAM explains."""
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x)).relu()
            if (i + 1) % self.pool_every == 0 and min(x.shape[-2:]) > 4:
                x = nn.functional.max_pool2d(x, 2)
        return x

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return logits
