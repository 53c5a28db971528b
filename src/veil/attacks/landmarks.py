"""Fresh heads of landmarks: the points of a face, read from its release, all at once.

They learn the coordinates at zero mean and unit deviation each; then, as of a quantity, every
coordinate gets the candidate and the line that fit it best on "select". Nothing is mirrored: left
would become right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from veil.attacks.attack import Attack, AttackSplit, Guess, Kind, Knowledge, Whole
from veil.attacks.convolution import AiaAdversary, ResidualAttacker
from veil.attacks.estimates import PENALTIES, chosen_guess, line, ridge_path
from veil.attacks.features import Preparation, Splits, prepare, prepare_map
from veil.attacks.training import (
    Cycle,
    answers,
    fastest_device,
    fit,
    in_chunks,
    initialised_from,
    placed,
)
from veil.precision import autocast
from veil.seeds import generator, seed_for

CONVOLUTIONS = AiaAdversary()


@dataclass(frozen=True)
class LandmarkRidge(Whole):
    """Ridge regression in closed form, the penalty of each coordinate chosen on "select".

    Attributes:
        preparation: what it sees (see `features.prepare`).
        penalties: weights of the squared norm beside the mean squared error.
    """

    preparation: Preparation = "standardised"
    penalties: tuple[float, ...] = PENALTIES

    family: ClassVar[str] = "linear"
    kind: ClassVar[Kind] = "quantity"
    seeded: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"landmark ridge {self.preparation}"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x = prepare(knowledge.z, self.preparation)
        mean = x["attack"].mean(0)
        path = ridge_path(x["attack"] - mean, standard_points(knowledge), self.penalties)
        weights = torch.stack(list(path))
        return points_guess({split: (v - mean) @ weights for split, v in x.items()}, knowledge)


@dataclass(frozen=True)
class LandmarkMlp:
    """A perceptron (GELU, dropout) with an output for every coordinate; its best epoch is kept.

    Attributes:
        preparation: what it sees.
        hidden: units of the one hidden layer.
        learning_rate, weight_decay, batch, steps, epochs: see `training.Cycle`.
        dropout: probability for a hidden unit.
    """

    preparation: Preparation = "standardised"
    hidden: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.3
    dropout: float = 0.2
    batch: int = 128
    steps: int = 600
    epochs: int = 12

    family: ClassVar[str] = "mlp"
    kind: ClassVar[Kind] = "quantity"
    seeded: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"landmark mlp {self.hidden} {self.preparation}"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None

    def shortened(self, share: float) -> LandmarkMlp:
        steps, epochs = (max(1, round(whole * share)) for whole in (self.steps, self.epochs))
        return replace(self, steps=steps, epochs=epochs)

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x = prepare(knowledge.z, self.preparation)
        cycle = Cycle(self.learning_rate, self.weight_decay, self.batch, self.steps, self.epochs)
        with initialised_from(seed_for(seed, self.name, "network")):  # weights and dropout
            network = nn.Sequential(
                nn.Linear(x["attack"].shape[1], self.hidden),
                nn.GELU(),
                nn.Dropout(self.dropout),
                nn.Linear(self.hidden, knowledge.s["attack"].shape[1]),
            )
            return trained_points(network, x, knowledge, cycle, generator(seed, self.name))


@dataclass(frozen=True)
class LandmarkConvolution:
    """A convolutional network with an output for every coordinate, on maps and pictures.

    Attributes:
        architecture: the attacker of classes whose network, preparation and schedule it takes.
    """

    architecture: AiaAdversary | ResidualAttacker = CONVOLUTIONS

    family: ClassVar[str] = "convolution"
    kind: ClassVar[Kind] = "quantity"
    seeded: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"landmark {self.architecture.name}"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return self.architecture.unfit_for(knowledge)

    def shortened(self, share: float) -> LandmarkConvolution:
        return replace(self, architecture=self.architecture.shortened(share))

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        of = self.architecture
        x = prepare_map(knowledge.z, of.preparation)
        with initialised_from(seed_for(seed, self.name, "network")):
            network = of.network(x["attack"].shape[1:], knowledge.s["attack"].shape[1])
        cycle = Cycle(of.learning_rate, of.weight_decay, of.batch, of.steps, of.epochs)
        return trained_points(network, x, knowledge, cycle, generator(seed, self.name))


def standard_points(knowledge: Knowledge) -> Tensor:
    """(n, 2k) coordinates of "attack" at zero mean and unit deviation; zeros where constant."""
    s = torch.from_numpy(knowledge.s["attack"]).double()
    return ((s - s.mean(0)) / s.std(0, correction=0).clamp_min(1e-12)).float()


def points_guess(estimates: Mapping[AttackSplit, Tensor], knowledge: Knowledge) -> Guess:
    """The guess of all coordinates, each from the candidate that is best at it on "select".

    Args:
        estimates: split -> (m, n, 2k) estimates of m candidates, of any scale.
        knowledge: what the attacker held; only its labels are read.
    """
    guesses = []
    for i in range(knowledge.s["attack"].shape[1]):
        of_one = replace(knowledge, s={split: s[:, i] for split, s in knowledge.s.items()})
        guesses.append(chosen_guess({split: v[..., i] for split, v in estimates.items()}, of_one))
    return Guess(
        np.concatenate([guess.attack for guess in guesses], axis=1),
        np.concatenate([guess.select for guess in guesses], axis=1),
        np.concatenate([guess.test for guess in guesses], axis=1),
    )


def trained_points(
    network: nn.Module, x: Splits, knowledge: Knowledge, cycle: Cycle, rng: torch.Generator
) -> Guess:
    """Train a network (n, ...) -> (n, 2k) by Huber's loss and guess; its best epoch is kept."""
    device = fastest_device()
    network = network.to(device)
    s = standard_points(knowledge).to(device)
    s_select = torch.from_numpy(knowledge.s["select"]).T
    scale = torch.from_numpy(knowledge.s["attack"]).double().var(0, correction=0).clamp_min(1e-12)

    def loss(rows: Tensor) -> Tensor:
        with autocast(device):
            found = network(placed(x["attack"][rows], device))
        return huber_loss(found.float(), s[rows.to(device)])

    def estimates(rows: Tensor) -> Tensor:
        return answers(network, rows, both_sides=False)

    def held_out() -> float:
        error = line(in_chunks(estimates, x["select"], 512).T, s_select)[0] / scale
        return math.log(max(error.mean().item(), 1e-30))  # as of a quantity, a share of the error

    fit(network, len(s), cycle, rng, loss, held_out)
    found = {split: in_chunks(estimates, v, 512).unsqueeze(0) for split, v in x.items()}
    return points_guess(found, knowledge)


def landmark_heads() -> tuple[Attack, ...]:
    """What a release still says of landmarks is read by these."""
    return LandmarkRidge(), LandmarkRidge("whitened"), LandmarkMlp(), LandmarkConvolution()


def landmark_ceilings() -> tuple[Attack, ...]:
    """What the original images say of landmarks is read by these."""
    return LandmarkRidge("whitened"), LandmarkConvolution()
