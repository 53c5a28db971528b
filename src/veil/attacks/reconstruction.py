"""Attackers that redraw the original picture from its release.

A release may hide an attribute and still show the face. These attackers hold releases and pictures
of "attack" and "select", never a picture of "test", and return a picture for each release.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss, relu

from veil.attacks.attack import AttackSplit, TrainingSplit
from veil.attacks.features import prepare, prepare_map
from veil.attacks.training import fastest_device, in_chunks, initialised_from, shuffled
from veil.image_quality import perceptual_distance
from veil.nets.decoder import PictureDecoder, picture_critic
from veil.precision import autocast
from veil.seeds import generator, seed_for

Features = Callable[[Tensor], Sequence[Tensor]]
HELD_OUT: tuple[Literal["select"], Literal["test"]] = ("select", "test")
AT_ONCE = 256  # pictures held as floats at one time, where their number is not a hyperparameter


@dataclass(frozen=True)
class InversionKnowledge:
    """Everything that an attacker who reconstructs pictures may use.

    Attributes:
        z: split -> (n, ...) float32 releases on the CPU; (n, c, h, w) where the release is a map
            or a picture. May hold NaN or inf.
        x: split -> (n, c, h, w) uint8 pictures of "attack" and "select" (see `eight_bit`);
            `test` is never here.
        draws: of how many draws of a random release each z is the mean.
        oracle: the release function, (n, c, h, w) in [0, 1] on the CPU and a CPU generator ->
            (n, ...), differentiable where the attacker holds the weights (white box); or None.
        features: a perceptual network, (n, c, h, w) in [0, 1] -> maps of several stages, that
            gradients pass through and that runs where its pictures lie; or None.
    """

    z: Mapping[AttackSplit, Tensor]
    x: Mapping[TrainingSplit, Tensor]
    draws: int = 1
    oracle: Callable[[Tensor, torch.Generator], Tensor] | None = None
    features: Features | None = None


@dataclass(frozen=True)
class Reconstruction:
    """What an attacker redraws: (n, c, h, w) float32 in [0, 1] for each release of the split."""

    select: Tensor
    test: Tensor


class Inversion(Protocol):
    """One configured attacker: a frozen dataclass whose fields are its hyperparameters.

    Attributes:
        name: unique in a suite, with what distinguishes it ("decoder perceptual").
        family: "reconstruction", or "floor" of one that does not look at the release.
        seeded: False when the result does not depend on the seed (one run is enough).
    """

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def seeded(self) -> bool: ...

    def unfit_for(self, knowledge: InversionKnowledge) -> str | None:
        """Why this attacker cannot run on this release, or None if it can."""

    def run(self, knowledge: InversionKnowledge, seed: int) -> Reconstruction:
        """Learn from "attack" (choosing by "select"), then redraw "select" and "test"."""


def eight_bit(x: Tensor) -> Tensor:
    """(n, c, h, w) in [0, 1] as uint8, a quarter of the memory; within 1/510 of the original."""
    return x.mul(255).round_().to(torch.uint8)


def unit_range(x: Tensor) -> Tensor:
    """uint8 pictures as float32 in [0, 1]."""
    return x.float().div_(255)


@dataclass(frozen=True)
class MeanFace:
    """The floor: the mean of the pictures of "attack", whatever was released."""

    family: ClassVar[str] = "floor"
    seeded: ClassVar[bool] = False
    name: ClassVar[str] = "mean face"

    def unfit_for(self, knowledge: InversionKnowledge) -> str | None:
        return None

    def run(self, knowledge: InversionKnowledge, seed: int) -> Reconstruction:
        mean = mean_face(knowledge)

        return Reconstruction(*(mean.repeat(len(knowledge.z[s]), 1, 1, 1) for s in HELD_OUT))


@dataclass(frozen=True)
class NearestFace:
    """The picture of "attack" whose whitened release lies nearest: reads back who it resembles."""

    family: ClassVar[str] = "reconstruction"
    seeded: ClassVar[bool] = False
    name: ClassVar[str] = "nearest face"

    def unfit_for(self, knowledge: InversionKnowledge) -> str | None:
        return None

    def run(self, knowledge: InversionKnowledge, seed: int) -> Reconstruction:
        z = prepare(knowledge.z, "whitened")

        def nearest(split: AttackSplit) -> Tensor:
            parts = torch.split(z[split], AT_ONCE)
            rows = torch.cat([torch.cdist(part, z["attack"]).argmin(1) for part in parts])
            return unit_range(knowledge.x["attack"][rows])

        return Reconstruction(*(nearest(split) for split in HELD_OUT))


@dataclass(frozen=True)
class LinearDecoder:
    """Ridge regression from the standardised release to pixels, in closed form.

    Attributes:
        penalties: weights of the squared norm, where features have unit variance, strong to weak;
            the best by squared error on "select". The search ends when two running brought nothing.
    """

    penalties: tuple[float, ...] = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)

    family: ClassVar[str] = "reconstruction"
    seeded: ClassVar[bool] = False
    name: ClassVar[str] = "linear decoder"

    def unfit_for(self, knowledge: InversionKnowledge) -> str | None:
        return None

    def run(self, knowledge: InversionKnowledge, seed: int) -> Reconstruction:
        z, x = prepare(knowledge.z, "standardised"), knowledge.x["attack"]
        count, width = z["attack"].shape
        mean = mean_face(knowledge)
        gram = torch.zeros(width, width, dtype=torch.float64)
        cross = torch.zeros(width, mean.numel())
        centre = z["attack"].double().mean(0)
        for rows in torch.split(torch.arange(count), 8 * AT_ONCE):
            part = z["attack"][rows].double() - centre
            gram += part.T @ part / count
            cross += part.float().T @ (unit_range(x[rows]) - mean).flatten(1) / count
        select = unit_range(knowledge.x["select"])
        least, best, idle = math.inf, gram, 0
        for penalty in self.penalties:
            factor = torch.linalg.cholesky(gram + penalty * torch.eye(width, dtype=gram.dtype))
            error = mse_loss(self._drawn(z["select"] - centre, factor, cross, mean), select).item()
            idle = 0 if error < least else idle + 1
            if error < least:
                least, best = error, factor
            if idle == 2:
                break
        return Reconstruction(*(self._drawn(z[s] - centre, best, cross, mean) for s in HELD_OUT))

    @staticmethod
    def _drawn(z: Tensor, factor: Tensor, cross: Tensor, mean: Tensor) -> Tensor:
        """mean + z (gram + penalty)^-1 cross; the (d, pixels) weights themselves never exist."""
        parts = [
            torch.cholesky_solve(part.double().T, factor).T.float() @ cross
            for part in torch.split(z, AT_ONCE)
        ]
        return (torch.cat(parts).view(-1, *mean.shape) + mean).clamp_(0, 1)


@dataclass(frozen=True)
class LearnedDecoder:
    """A convolutional decoder trained on the released pictures' own originals.

    Dosovitskiy and Brox, "Inverting visual representations" (CVPR 2016) with "pixels", and
    "Generating images with perceptual similarity metrics" (NIPS 2016) with the others. Trained
    with AdamW and one cycle; the best state on "select" is kept, by pixels for "pixels" and by the
    perceptual distance for the others.

    Attributes:
        loss: "pixels" is MSE + L1; "perceptual" adds the distance of a perceptual network's
            features; "adversarial" adds to both a critic's hinge loss (Miyato et al., ICLR 2018).
        width: see `nets.decoder.PictureDecoder`.
        steps: optimiser steps, of `batch` pictures each.
        learning_rate: the cycle's peak; of the critic too, which moves at a constant rate.
        perceptual_weight, adversarial_weight: of the terms added to MSE + L1.
        looks: how often "select" is looked at.
    """

    loss: Literal["pixels", "perceptual", "adversarial"] = "pixels"
    width: int = 64
    steps: int = 1200
    batch: int = 64
    learning_rate: float = 5e-3
    weight_decay: float = 0.01
    perceptual_weight: float = 0.5
    adversarial_weight: float = 0.02
    looks: int = 8

    family: ClassVar[str] = "reconstruction"
    seeded: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"decoder {self.loss}"

    def unfit_for(self, knowledge: InversionKnowledge) -> str | None:
        if self.loss != "pixels" and knowledge.features is None:
            return "no perceptual network is at hand"
        return None if len(knowledge.z["attack"]) >= 4 else "too few pictures to train a decoder"

    def run(self, knowledge: InversionKnowledge, seed: int) -> Reconstruction:
        device = fastest_device()
        is_map = knowledge.z["attack"].ndim == 4
        z = (prepare_map if is_map else prepare)(knowledge.z, "standardised")
        channels, height, across = knowledge.x["attack"].shape[1:]
        picture = (channels, height, across)
        with initialised_from(seed_for(seed, self.name, "networks")):
            decoder: nn.Module = PictureDecoder(z["attack"].shape[1:], picture, self.width)
            critic: nn.Module = picture_critic(picture)
        for network in (decoder, critic):
            network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def drawn(releases: Tensor) -> Tensor:
            with autocast(device):
                logits: Tensor = decoder(releases.to(device))
            return logits.float().sigmoid()

        adam = torch.optim.AdamW(
            decoder.parameters(), self.learning_rate, weight_decay=self.weight_decay
        )
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            adam, self.learning_rate, total_steps=self.steps, pct_start=0.3
        )
        critic_adam = torch.optim.Adam(critic.parameters(), self.learning_rate / 10, (0.0, 0.99))
        least, best = math.inf, _state(decoder)
        for step, rows in enumerate(self._batches(len(z["attack"]), seed), start=1):
            decoder.train()
            x = unit_range(knowledge.x["attack"][rows])
            x = x.to(device, memory_format=torch.channels_last)
            x_hat = drawn(z["attack"][rows])
            loss = self._distance(x_hat, x, knowledge)
            if self.loss == "adversarial":
                critic_adam.zero_grad()
                critic_loss = relu(1 - critic(x)) + relu(1 + critic(x_hat.detach()))
                critic_loss.mean().backward()  # type: ignore[no-untyped-call]
                critic_adam.step()
                loss = loss - self.adversarial_weight * critic(x_hat).mean()
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            cycle.step()
            if step % max(1, self.steps // self.looks) == 0 or step == self.steps:
                decoder.eval()
                held_out = self._held_out(in_chunks(drawn, z["select"], AT_ONCE), knowledge)
                if held_out < least:
                    least, best = held_out, _state(decoder)
        decoder.load_state_dict(best)
        decoder.eval()
        return Reconstruction(*(in_chunks(drawn, z[split], AT_ONCE) for split in HELD_OUT))

    def _batches(self, count: int, seed: int) -> Iterator[Tensor]:
        """Rows of `steps` batches, every row once before any comes again."""
        rng = generator(seed, self.name, "rows")
        passes = (shuffled(count, self.batch, rng) for _ in repeat(None))
        return islice(chain.from_iterable(passes), self.steps)

    def _distance(self, x_hat: Tensor, x: Tensor, knowledge: InversionKnowledge) -> Tensor:
        """MSE + L1, and the perceptual distance where it is asked for."""
        pixels = mse_loss(x_hat, x) + l1_loss(x_hat, x)
        if self.loss == "pixels":
            return pixels
        assert knowledge.features is not None
        with torch.no_grad():
            target = knowledge.features(x)
        perceived = perceptual_distance(knowledge.features(x_hat), target).mean()
        return pixels + self.perceptual_weight * perceived

    def _held_out(self, x_hat: Tensor, knowledge: InversionKnowledge) -> float:
        """The loss on "select" by which a state is kept."""
        x = unit_range(knowledge.x["select"])
        if self.loss == "pixels":
            return self._distance(x_hat, x, knowledge).item()
        assert knowledge.features is not None
        return perceived(x_hat, x, knowledge.features).mean().item()


def perceived(x_hat: Tensor, x: Tensor, features: Features) -> Tensor:
    """(n,) perceptual distance of each reconstruction from its original, without gradients."""
    device = fastest_device()
    parts = zip(torch.split(x_hat, AT_ONCE), torch.split(x, AT_ONCE), strict=True)
    with torch.inference_mode():
        return torch.cat(
            [
                perceptual_distance(features(a.to(device)), features(b.to(device))).cpu()
                for a, b in parts
            ]
        )


def mean_face(knowledge: InversionKnowledge) -> Tensor:
    """(c, h, w): the mean picture of "attack"."""
    x = knowledge.x["attack"]
    total = torch.stack([part.sum(0) for part in torch.split(x, AT_ONCE)]).sum(0)
    return total / (255 * len(x))


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
