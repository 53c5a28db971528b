"""Residual networks of basic blocks (He et al., CVPR 2016, arXiv 1512.03385), cut at any stage.

Stage 0 is the stem; stages 1, 2, ... are the groups of blocks, each after the first halving the
map. `stem_and_stages(k)` and `rest_after(k)` share the parameters of the whole network, and
applied one after the other they are the whole network.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from veil.errors import VeilError, nearest

Stem = Literal["imagenet", "cifar"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside an identity: `relu(F(x) + shortcut(x))` (section 4.1).

    The shortcut is the identity where shapes agree, else a strided 1x1 convolution (option B).

    Args:
        in_channels: channels of x (n, in_channels, h, w).
        out_channels: channels of the output (n, out_channels, ceil(h/stride), ceil(w/stride)).
        stride: 1, or 2 to halve the map.
        running_statistics: as in `ResNet`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        running_statistics: bool = True,
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels, track_running_stats=running_statistics),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels, track_running_stats=running_statistics),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels, track_running_stats=running_statistics),
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network from pictures (or maps) to class logits.

    Convolutions start from He's normal initialisation with fan-out (arXiv 1502.01852), batch
    norms from (1, 0).

    Args:
        blocks: blocks in each stage; (2, 2, 2, 2) is ResNet-18, (1, 1, 1, 1) ResNet-10.
        widths: channels of each stage; as many as `blocks`.
        classes: K, the number of outputs.
        in_channels: channels of x.
        stem: "imagenet" is a strided 7x7 convolution and a strided max-pool (the map shrinks
            fourfold); "cifar" one 3x3 convolution that keeps the size, for maps up to 32 pixels.
        running_statistics: whether eval mode normalises by statistics gathered in training; without
            them a batch is normalised by its own, always.

    Raises:
        VeilError: `blocks` and `widths` differ in length or are empty, or the stem is unknown.
    """

    def __init__(
        self,
        blocks: tuple[int, ...] = (2, 2, 2, 2),
        widths: tuple[int, ...] = (64, 128, 256, 512),
        *,
        classes: int,
        in_channels: int = 3,
        stem: Stem = "imagenet",
        running_statistics: bool = True,
    ) -> None:
        super().__init__()
        if len(blocks) != len(widths) or not blocks:
            raise VeilError(
                f"a ResNet needs one width per stage: {len(blocks)} stages, {len(widths)} widths"
            )
        self.stages = nn.ModuleList([_stem(stem, in_channels, widths[0], running_statistics)])
        incoming = widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            strides = [1 if stage == 0 else 2] + [1] * (count - 1)
            inputs = [incoming] + [width] * (count - 1)
            self.stages.append(
                nn.Sequential(
                    *(
                        BasicBlock(i, width, s, running_statistics)
                        for i, s in zip(inputs, strides, strict=True)
                    )
                )
            )
            incoming = width
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(incoming, classes)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, K) of x (n, in_channels, h, w)."""
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.head(x)
        return logits

    def stem_and_stages(self, last: int) -> nn.Sequential:
        """The network through stage `last` (0 = the stem alone), sharing parameters.

        Raises:
            VeilError: there is no such stage.
        """
        return nn.Sequential(*self.stages[: self._checked(last) + 1])

    def rest_after(self, last: int) -> nn.Sequential:
        """What follows stage `last`, up to the logits, sharing parameters.

        Raises:
            VeilError: there is no such stage.
        """
        return nn.Sequential(*self.stages[self._checked(last) + 1 :], self.head)

    def _checked(self, last: int) -> int:
        if not 0 <= last < len(self.stages):
            raise VeilError(f"no stage {last} to cut after: stages are 0 to {len(self.stages) - 1}")
        return last


def resnet18(classes: int, in_channels: int = 3) -> ResNet:
    """ResNet-18 with the ImageNet stem (11,177,538 parameters for two classes)."""
    return ResNet((2, 2, 2, 2), classes=classes, in_channels=in_channels)


def resnet10(classes: int, in_channels: int = 3) -> ResNet:
    """ResNet-10, one block a stage, with the ImageNet stem (4,906,818 for two classes)."""
    return ResNet((1, 1, 1, 1), classes=classes, in_channels=in_channels)


def _stem(stem: str, in_channels: int, width: int, running_statistics: bool) -> nn.Sequential:
    if stem == "imagenet":
        return nn.Sequential(
            nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width, track_running_stats=running_statistics),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
    if stem == "cifar":
        return nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width, track_running_stats=running_statistics),
            nn.ReLU(inplace=True),
        )
    raise VeilError(f"unknown stem '{stem}': {nearest(stem, ('imagenet', 'cifar'))}")
