"""White-box reconstruction: search for a picture whose release is the one that was seen.

Nothing is learned from pairs; the release function itself is held, and differentiated. What is
searched over is the picture (`Optimisation`) or the latent of a picture generator
(`GenerativePrior`). Of all starts and steps each picture's best is chosen by the distance of its
release from the release seen, which the attacker can compute; nobody looks at the true picture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from veil.attacks.reconstruction import (
    HELD_OUT,
    Inversion,
    InversionKnowledge,
    LinearDecoder,
    MeanFace,
    NearestFace,
    Reconstruction,
    unit_range,
)
from veil.seeds import generator

LOOK_EVERY = 5  # steps; looking costs a third of a step
DARKEST = 0.02  # starts are kept this far from black and white, where the sigmoid has no slope
HeldOut = Literal["select", "test"]


@dataclass(frozen=True)
class ReleaseDistance:
    """Mean squared distance of pictures' releases from releases seen, in units of their variance.

    Mahendran and Vedaldi, "Understanding deep image representations by inverting them" (CVPR
    2015), eq. 4. Values that are missing in the releases seen count nothing.

    Attributes:
        oracle: the release function.
        z: (n, ...) releases seen.
        variance: of the releases of "attack", about each feature's mean.
        draws: of a random release, whose mean is compared.
    """

    oracle: Callable[[Tensor, torch.Generator], Tensor]
    z: Tensor
    variance: float
    draws: int

    def __call__(self, x_hat: Tensor, rng: torch.Generator) -> Tensor:
        """(n,) distances of the pictures (n, c, h, w)."""
        drawn = [self.oracle(x_hat, rng) for _ in range(self.draws)]
        mean = torch.stack(drawn).mean(0)
        known = self.z.isfinite()
        apart = torch.where(known, mean - self.z.nan_to_num(), 0.0).square().flatten(1).sum(1)
        return apart / (known.flatten(1).sum(1).clamp_min(1) * self.variance)


@dataclass(frozen=True)
class _Search(ABC):
    """Adam from several starts; after a screening each picture goes on from its best one only.

    Attributes:
        screening: steps from every start.
        steps: steps from the best start.
        learning_rate: Adam's.
        most_draws: where z is a mean of several draws, the mean of as many fresh draws is compared
            with it, but of no more than this.
        batch: pictures searched for at once.
    """

    screening: int = 15
    steps: int = 100
    learning_rate: float = 0.05
    most_draws: int = 4
    batch: int = 64

    family: ClassVar[str] = "reconstruction"
    seeded: ClassVar[bool] = True

    @abstractmethod
    def starts(self, knowledge: InversionKnowledge, seed: int) -> dict[HeldOut, list[Tensor]]:
        """Split -> starts, (n, ...) parameters each."""

    @abstractmethod
    def picture(self, parameters: Tensor) -> Tensor:
        """(n, c, h, w) in [0, 1] of the parameters."""

    @abstractmethod
    def penalty(self, parameters: Tensor, x_hat: Tensor) -> Tensor:
        """(n,) how unlikely a picture is, in the unit of `ReleaseDistance`."""

    def unfit_for(self, knowledge: InversionKnowledge) -> str | None:
        if knowledge.oracle is None:
            return "the release function is not at hand"
        x = unit_range(knowledge.x["select"][:1]).requires_grad_()
        try:
            slope = knowledge.oracle(x, torch.Generator().manual_seed(0)).requires_grad
        except RuntimeError:  # what torch raises where a tensor that needs gradients leaves it
            slope = False
        return None if slope else "the release function cannot be differentiated"

    def run(self, knowledge: InversionKnowledge, seed: int) -> Reconstruction:
        starts = self.starts(knowledge, seed)
        return Reconstruction(*(self._inverted(knowledge, s, starts[s], seed) for s in HELD_OUT))

    def _inverted(
        self, knowledge: InversionKnowledge, split: HeldOut, starts: list[Tensor], seed: int
    ) -> Tensor:
        assert knowledge.oracle is not None
        known = torch.nan_to_num(knowledge.z["attack"].double(), posinf=0.0, neginf=0.0)
        variance = max(known.var(0, correction=0).mean().item(), 1e-30)
        draws = min(knowledge.draws, self.most_draws)
        found = []
        for rows in torch.split(torch.arange(len(knowledge.z[split])), self.batch):
            distance = ReleaseDistance(knowledge.oracle, knowledge.z[split][rows], variance, draws)
            first = int(rows[0])
            best, least = self._descended(starts[0][rows], distance, self.screening, seed, first)
            for start in starts[1:]:
                other, reached = self._descended(start[rows], distance, self.screening, seed, first)
                nearer = reached < least
                best[nearer], least[nearer] = other[nearer], reached[nearer]
            best, _ = self._descended(best, distance, self.steps, seed, first)
            with torch.no_grad():
                found.append(self.picture(best))
        return torch.cat(found)

    def _descended(
        self, start: Tensor, distance: ReleaseDistance, steps: int, seed: int, first: int
    ) -> tuple[Tensor, Tensor]:
        """The best parameters on the way down from `start`, and their (n,) release distances.

        Steps see fresh noise, looks always the same, so that no picture is chosen by its luck.
        """

        def looked_at() -> Tensor:
            with torch.no_grad():
                return distance(self.picture(parameters), generator(seed, "look", first))

        parameters = start.clone().requires_grad_()
        adam = torch.optim.Adam([parameters], self.learning_rate)
        rng = generator(seed, "steps", first, steps)
        best, least = start.clone(), looked_at()
        for step in range(1, steps + 1):
            x_hat = self.picture(parameters)
            loss = distance(x_hat, rng) + self.penalty(parameters, x_hat)
            # Gradients of the pictures alone: the weights of the release are never touched.
            (slope,) = torch.autograd.grad(loss.sum(), parameters)
            parameters.grad = slope.nan_to_num(0.0, 0.0, 0.0)
            adam.step()
            if step % LOOK_EVERY == 0 or step == steps:
                reached = looked_at()
                nearer = reached < least
                best[nearer], least[nearer] = parameters.detach()[nearer], reached[nearer]
        return best, least


@dataclass(frozen=True)
class Optimisation(_Search):
    """Search over pixels for the picture with the release seen, smoothed by its total variation.

    Attributes:
        first: attackers whose reconstructions are starts; all must fit the release.
        noises: further starts of uniform noise.
        smoothness: weight of the mean total variation of a pixel.
    """

    first: tuple[Inversion, ...] = (MeanFace(), NearestFace(), LinearDecoder())
    noises: int = 1
    smoothness: float = 0.02

    name: ClassVar[str] = "optimisation"

    def unfit_for(self, knowledge: InversionKnowledge) -> str | None:
        reasons = [start.unfit_for(knowledge) for start in self.first]
        return next(filter(None, reasons), None) or super().unfit_for(knowledge)

    def starts(self, knowledge: InversionKnowledge, seed: int) -> dict[HeldOut, list[Tensor]]:
        shape = knowledge.x["select"].shape[1:]
        drawn = [start.run(knowledge, seed) for start in self.first]
        pictures: dict[HeldOut, list[Tensor]] = {
            "select": [start.select for start in drawn],
            "test": [start.test for start in drawn],
        }
        for split, starts in pictures.items():
            rng = generator(seed, "noise", split)
            for _ in range(self.noises):
                starts.append(torch.rand(len(knowledge.z[split]), *shape, generator=rng))
        return {
            split: [x.clamp(DARKEST, 1 - DARKEST).logit() for x in starts]
            for split, starts in pictures.items()
        }

    def picture(self, parameters: Tensor) -> Tensor:
        return parameters.sigmoid()

    def penalty(self, parameters: Tensor, x_hat: Tensor) -> Tensor:
        return self.smoothness * total_variation(x_hat)


@dataclass(frozen=True, kw_only=True)
class GenerativePrior(_Search):
    """Search over the latent of a generator of faces: what is found always looks like one.

    As Zhang et al., "The secret revealer" (CVPR 2020), with the release in place of a class. veil
    ships no generator; a decoder of releases is none.

    Attributes:
        generator: (n, latent) standard normal -> (n, c, h, w) in [0, 1], the size of the data's
            pictures, on the CPU; not trained here.
        latent: the latent's width.
        guesses: latents drawn as starts, beside the mean one.
        likelihood: weight of half the mean square of the latent.
    """

    generator: Callable[[Tensor], Tensor]
    latent: int
    guesses: int = 7
    likelihood: float = 0.01

    name: ClassVar[str] = "generative prior"

    def unfit_for(self, knowledge: InversionKnowledge) -> str | None:
        with torch.no_grad():
            drawn = self.generator(torch.zeros(1, self.latent)).shape[1:]
        pictures = knowledge.x["select"].shape[1:]
        if drawn != pictures:
            return f"the generator draws {tuple(drawn)}, the pictures are {tuple(pictures)}"
        return super().unfit_for(knowledge)

    def starts(self, knowledge: InversionKnowledge, seed: int) -> dict[HeldOut, list[Tensor]]:
        def drawn(split: HeldOut) -> list[Tensor]:
            shape = (len(knowledge.z[split]), self.latent)
            rng = generator(seed, "latents", split)
            return [torch.zeros(shape)] + [
                torch.randn(shape, generator=rng) for _ in range(self.guesses)
            ]

        return {split: drawn(split) for split in HELD_OUT}

    def picture(self, parameters: Tensor) -> Tensor:
        return self.generator(parameters)

    def penalty(self, parameters: Tensor, x_hat: Tensor) -> Tensor:
        return self.likelihood * parameters.square().mean(1) / 2


def total_variation(x: Tensor) -> Tensor:
    """(n,) mean over pixels and channels of the length of the gradient, by forward differences.

    Rudin, Osher and Fatemi 1992. A ten-thousandth is added under the root, so that it has a slope
    where a picture is flat.

    Args:
        x: (n, c, h, w).
    """
    down = x[:, :, 1:, :-1] - x[:, :, :-1, :-1]
    across = x[:, :, :-1, 1:] - x[:, :, :-1, :-1]
    return (down.square() + across.square() + 1e-4).sqrt().flatten(1).mean(1)
