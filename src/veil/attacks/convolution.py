"""Convolutional attackers of released maps and pictures, trained from scratch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from veil.attacks.attack import Guess, Kind, Knowledge
from veil.attacks.decisions import balanced_log_loss, class_weights, guess_from
from veil.attacks.features import prepare_map
from veil.attacks.training import fastest_device, in_chunks, initialised_from, shuffled
from veil.nets.resnet import ResNet
from veil.precision import autocast
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
    """

    preparation: Literal["raw", "standardised"] = "standardised"
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    batch: int = 128
    steps: int = 300
    epochs: int = 8

    family: ClassVar[str] = "convolution"
    kind: ClassVar[Kind] = "attribute"
    seeded: ClassVar[bool] = True

    @property
    @abstractmethod
    def name(self) -> str:
        """Unique in a suite."""

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

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        device = fastest_device()
        x = prepare_map(knowledge.z, self.preparation)
        mirrored = _is_picture(x["attack"])
        s = torch.from_numpy(knowledge.s["attack"]).to(device)
        s_select = torch.from_numpy(knowledge.s["select"])
        balance = class_weights(s.cpu(), knowledge.classes).to(device)
        rng = generator(seed, "convolution", self.name)
        with initialised_from(seed_for(seed, "convolution", self.name, "network")):
            network = self.network(x["attack"].shape[1:], knowledge.classes)
        network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        per_epoch = max(1, round(len(s) / self.batch))
        epochs = max(self.epochs, math.ceil(self.steps / per_epoch))
        adam = torch.optim.AdamW(
            network.parameters(), self.learning_rate, weight_decay=self.weight_decay
        )
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            adam, self.learning_rate, total_steps=epochs * per_epoch, pct_start=0.2
        )

        def logits(maps: Tensor) -> Tensor:
            maps = maps.to(device, memory_format=torch.channels_last)
            with autocast(device):
                scores: Tensor = network(maps).float()
                return (scores + network(maps.flip(3)).float()) / 2 if mirrored else scores

        best_loss, best, idle = math.inf, _state(network), 0
        for _ in range(epochs):
            network.train()
            for rows in shuffled(len(s), self.batch, rng):
                maps = x["attack"][rows]
                if mirrored:
                    flipped = torch.rand(len(rows), 1, 1, 1, generator=rng) < 0.5
                    maps = torch.where(flipped, maps.flip(3), maps)
                maps = maps.to(device, memory_format=torch.channels_last)
                with autocast(device):
                    scores = network(maps)
                adam.zero_grad()
                loss = cross_entropy(scores.float(), s[rows], balance)
                loss.backward()  # type: ignore[no-untyped-call]
                adam.step()
                cycle.step()
            network.eval()
            held_out = balanced_log_loss(in_chunks(logits, x["select"], 512), s_select)[0].item()
            idle = 0 if held_out < best_loss - 1e-4 else idle + 1
            if held_out < best_loss:
                best_loss, best = held_out, _state(network)
            if idle > max(3, epochs // 3):
                break
        network.load_state_dict(best)
        network.eval()
        return guess_from({k: in_chunks(logits, v, 512) for k, v in x.items()}, knowledge)


@dataclass(frozen=True)
class AiaAdversary(_Convolution):
    """The audit adversary of AIA (Mosallanezhad et al., arXiv 2009.14376, section 5.2).

    Six 3x3 convolutions of 32-64-64-128-128-256 channels and a one-layer classifier. Ours: batch
    norm, and a max-pool before every convolution that would still see more than 4x4 afterwards
    (the first one only from 32x32 on), so that the classifier keeps the layout.
    """

    @property
    def name(self) -> str:
        return f"aia convolutions {self.preparation}"

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
    """A ResNet-10 at half width; the CIFAR stem up to 32 pixels, the ImageNet stem above.

    Attributes:
        blocks: residual blocks in each stage.
        widths: channels of each stage.
    """

    blocks: tuple[int, ...] = (1, 1, 1, 1)
    widths: tuple[int, ...] = (32, 64, 128, 256)

    @property
    def name(self) -> str:
        return f"resnet-{2 * sum(self.blocks) + 2} {self.preparation}"

    def network(self, shape: torch.Size, classes: int) -> nn.Module:
        return ResNet(
            self.blocks,
            self.widths,
            classes=classes,
            in_channels=shape[0],
            stem="cifar" if max(shape[1:]) <= 32 else "imagenet",
        )


def _is_picture(x: Tensor) -> bool:
    return x.shape[1] in (1, 3) and min(x.shape[2:]) >= PICTURE_SIDE


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
