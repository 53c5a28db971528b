"""Convolutional attackers of released maps and pictures, trained from scratch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from veil.attacks.attack import Guess, Kind, Knowledge
from veil.attacks.decisions import guess_from
from veil.attacks.features import prepare_map
from veil.attacks.training import (
    Cycle,
    answers,
    fastest_device,
    in_chunks,
    initialised_from,
    train,
)
from veil.augmentation import flipped
from veil.nets.resnet import ResNet
from veil.seeds import generator, seed_for

PICTURE_SIDE = 32  # from here on a map of one or three channels is taken for a picture


@dataclass(frozen=True)
class _Convolution(ABC):
    """The training that both networks share: AdamW, one cycle, best epoch on "select".

    Pictures (one or three channels, at least 32 pixels) are mirrored at random in training, and
    guesses are averaged over both sides. Maps are not: where a feature lies may be the leak.

    Attributes:
        preparation: channels standardised one by one, or all scaled alike.
        learning_rate: the cycle's peak.
        batch: rows a step.
        steps: least number of steps, and `epochs` least number of passes; the larger holds.
        augmented: whether pictures are also shifted and their light and colours varied (see
            `vary`); nothing happens to maps.
    """

    preparation: Literal["raw", "standardised"] = "standardised"
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    batch: int = 128
    steps: int = 300
    epochs: int = 8
    augmented: bool = False

    family: ClassVar[str] = "convolution"
    kind: ClassVar[Kind] = "attribute"
    seeded: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Unique in a suite."""
        return f"{self.architecture} {self.preparation}{' augmented' if self.augmented else ''}"

    @property
    @abstractmethod
    def architecture(self) -> str:
        """The network's name."""

    @abstractmethod
    def network(self, shape: torch.Size, classes: int) -> nn.Module:
        """A network from maps of shape (c, h, w) to K logits."""

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        z = knowledge.z["attack"]
        if z.ndim != 4:
            return "the release has no spatial map"
        if min(z.shape[2:]) < 3:
            return f"the map of {z.shape[2]}x{z.shape[3]} is smaller than a 3x3 kernel"
        return None if len(z) >= 4 else "too few releases in attack to train a network"

    def shortened(self, share: float) -> Self:
        steps, epochs = (max(1, round(whole * share)) for whole in (self.steps, self.epochs))
        return replace(self, steps=steps, epochs=epochs)

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x = prepare_map(knowledge.z, self.preparation)
        picture = is_picture(x["attack"])
        rng = generator(seed, "convolution", self.name)
        with initialised_from(seed_for(seed, "convolution", self.name, "network")):
            network = self.network(x["attack"].shape[1:], knowledge.classes)
        network = network.to(fastest_device()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def logits(maps: Tensor) -> Tensor:
            return answers(network, maps, picture)

        def augment(maps: Tensor) -> Tensor:
            maps = flipped(maps, rng)
            return vary(maps, rng) if self.augmented else maps

        cycle = Cycle(self.learning_rate, self.weight_decay, self.batch, self.steps, self.epochs)
        train(network, x, knowledge, cycle, rng, logits, augment if picture else None)
        return guess_from({k: in_chunks(logits, v, 512) for k, v in x.items()}, knowledge)


@dataclass(frozen=True)
class AiaAdversary(_Convolution):
    """The audit adversary of AIA (Mosallanezhad et al., arXiv 2009.14376, section 5.2).

    Six 3x3 convolutions of 32-64-64-128-128-256 channels and a one-layer classifier. Ours: batch
    norm, and a max-pool before every convolution that would still see more than 4x4 afterwards
    (the first one only from 32x32 on), so that the classifier keeps the layout.
    """

    @property
    def architecture(self) -> str:
        return "aia convolutions"

    def network(self, shape: torch.Size, classes: int) -> nn.Module:
        incoming, height, width = shape
        layers: list[nn.Module] = []
        for outgoing in (32, 64, 64, 128, 128, 256):
            side = min(height, width)
            if side >= 8 and (layers or side >= PICTURE_SIDE):
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            layers += [
                nn.Conv2d(incoming, outgoing, 3, padding=1, bias=False),
                nn.BatchNorm2d(outgoing),
                nn.LeakyReLU(0.1, inplace=True),
            ]
            incoming = outgoing
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(incoming * height * width, classes))


@dataclass(frozen=True)
class ResidualAttacker(_Convolution):
    """A residual network; the CIFAR stem up to 32 pixels, the ImageNet stem above.

    By default a ResNet-10 at half width.

    Attributes:
        blocks: residual blocks in each stage.
        widths: channels of each stage.
    """

    blocks: tuple[int, ...] = (1, 1, 1, 1)
    widths: tuple[int, ...] = (32, 64, 128, 256)

    @property
    def architecture(self) -> str:
        return f"resnet-{2 * sum(self.blocks) + 2}"

    def network(self, shape: torch.Size, classes: int) -> nn.Module:
        return ResNet(
            self.blocks,
            self.widths,
            classes=classes,
            in_channels=shape[0],
            stem="cifar" if max(shape[1:]) <= 32 else "imagenet",
        )


def is_picture(x: Tensor) -> bool:
    """Whether maps (n, c, h, w) are taken for pictures."""
    return x.shape[1] in (1, 3) and min(x.shape[2:]) >= PICTURE_SIDE


def vary(x: Tensor, rng: torch.Generator) -> Tensor:
    """Each picture (n, c, h, w) shifted and lit a little differently.

    Shifted by up to an eighth of its sides, what comes in from outside being the border mirrored;
    then contrast times U[0.8, 1.25] (its logarithm uniform), and each channel moved by N(0, 0.1)
    standard deviations of all values.
    """
    n, _, height, width = x.shape
    reach = (height // 8, width // 8)
    padded = pad(x, (reach[1], reach[1], reach[0], reach[0]), mode="reflect")
    down, across = (
        torch.randint(2 * most + 1, (n, 1), generator=rng) + torch.arange(side)
        for most, side in zip(reach, (height, width), strict=True)
    )
    picture = torch.arange(n)[:, None, None]
    shifted = padded.permute(0, 2, 3, 1)[picture, down[:, :, None], across[:, None, :]]
    contrast = 1.25 ** (2 * torch.rand(n, 1, 1, 1, generator=rng) - 1)
    colour = 0.1 * x.std() * torch.randn(n, x.shape[1], 1, 1, generator=rng)
    return shifted.permute(0, 3, 1, 2) * contrast + colour
