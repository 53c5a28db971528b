"""Attackers of a quantity (an age): they estimate it, and are chosen on "select" by squared error.

How they learn is in `estimates`; here is what each of them sees and tries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import nn

from veil.attacks.attack import Attack, Guess, Kind, Knowledge, Whole
from veil.attacks.convolution import AiaAdversary, ResidualAttacker
from veil.attacks.estimates import (
    PENALTIES,
    boosted_guess,
    chosen_guess,
    guess_of,
    neighbour_means,
    ridge_guess,
    standard_target,
    trained_estimates,
)
from veil.attacks.features import Preparation, prepare, prepare_map, standardise
from veil.attacks.patterns import special_values
from veil.attacks.training import Cycle, initialised_from
from veil.seeds import generator, seed_for

CONVOLUTIONS = AiaAdversary()


class _OfQuantity:
    """What all attackers of a quantity have in common."""

    kind: ClassVar[Kind] = "quantity"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None


@dataclass(frozen=True)
class MeanOnly(_OfQuantity, Whole):
    """Always the mean of "attack": R2 is 0 by definition."""

    name: ClassVar[str] = "mean only"
    family: ClassVar[str] = "constant"
    seeded: ClassVar[bool] = False

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        mean = knowledge.s["attack"].mean(dtype=np.float64)
        sizes = (len(knowledge.z[split]) for split in ("attack", "select", "test"))
        return Guess(*(np.full((n, 1), mean, dtype=np.float32) for n in sizes))


@dataclass(frozen=True)
class LabelOnlyMean(_OfQuantity, Whole):
    """The mean of "attack" among those with the same useful label, without the release."""

    name: ClassVar[str] = "label-only mean"
    family: ClassVar[str] = "constant"
    seeded: ClassVar[bool] = False

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return "there is no useful label" if knowledge.y is None else None

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        assert knowledge.y is not None
        codes = {split: y + 1 for split, y in knowledge.y.items()}  # -1, missing, is a code too
        s = standard_target(knowledge).numpy()
        size = knowledge.y_classes + 1
        totals = np.bincount(codes["attack"], weights=s, minlength=size)
        means = totals / np.bincount(codes["attack"], minlength=size).clip(1)
        return guess_of({k: torch.from_numpy(means[code]) for k, code in codes.items()}, knowledge)


@dataclass(frozen=True)
class Ridge(_OfQuantity, Whole):
    """Ridge regression in closed form, the penalty chosen on "select".

    Attributes:
        preparation: what it sees (see `features.prepare`).
        penalties: weights of the squared norm beside the mean squared error.
    """

    preparation: Preparation = "standardised"
    penalties: tuple[float, ...] = PENALTIES

    family: ClassVar[str] = "linear"
    seeded: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"ridge {self.preparation}"

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        return ridge_guess(prepare(knowledge.z, self.preparation), knowledge, self.penalties)


@dataclass(frozen=True)
class NeighbourMean(_OfQuantity, Whole):
    """The mean over the k nearest releases of "attack", a release itself never among them.

    Attributes:
        preparation: what distances are measured in.
        counts: values of k, the best chosen on "select"; larger ones than "attack" are cut.
    """

    preparation: Preparation = "whitened"
    counts: tuple[int, ...] = (1, 3, 7, 15, 31, 63, 127)

    family: ClassVar[str] = "neighbours"
    seeded: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"neighbour mean {self.preparation}"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None if len(knowledge.z["attack"]) > 1 else "one release has no neighbour"

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x, s = prepare(knowledge.z, self.preparation), standard_target(knowledge)
        counts = sorted({min(count, len(s) - 1) for count in self.counts})
        means = {split: neighbour_means(x, split, s, counts) for split in x}
        return chosen_guess(means, knowledge)


@dataclass(frozen=True)
class BoostedRegression(_OfQuantity):
    """Histogram gradient boosting on squared error, its rounds chosen on "select".

    Attributes:
        preparation: what the trees see.
        features: at most so many are given to the trees: those that correlate most with the
            quantity on "attack", and a quarter of principal directions.
        rounds: most boosting rounds; it stops when a tenth of them brought nothing twice running.
        learning_rate: shrinkage of each round.
    """

    preparation: Preparation = "standardised"
    features: int = 192
    rounds: int = 200
    learning_rate: float = 0.1

    family: ClassVar[str] = "boosting"
    seeded: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"boosted regression {self.preparation}"

    def shortened(self, share: float) -> BoostedRegression:
        return replace(self, rounds=max(1, round(self.rounds * share)))

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x = prepare(knowledge.z, self.preparation)
        return boosted_guess(x, knowledge, self.features, self.rounds, self.learning_rate)


@dataclass(frozen=True)
class PatternRegression(_OfQuantity, Whole):
    """Only where and how values are special (see `patterns`), never how large they are.

    Attributes:
        learner: what reads the patterns.
    """

    learner: Literal["ridge", "boosting"] = "boosting"

    family: ClassVar[str] = "patterns"
    seeded: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"pattern regression {self.learner}"

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x = standardise(special_values(knowledge.z))
        learn = ridge_guess if self.learner == "ridge" else boosted_guess
        return learn(x, knowledge)


@dataclass(frozen=True)
class MlpRegression(_OfQuantity):
    """Perceptrons (GELU, dropout) over a grid of rates and decays; the best on "select" wins.

    Attributes:
        preparation: what they see.
        hidden: widths of the hidden layers.
        learning_rates, weight_decays: every pair is one network.
        dropout: probability for a hidden unit.
        batch: rows a step.
        steps: least number of steps, and `epochs` least number of passes; the larger holds.
    """

    preparation: Preparation = "standardised"
    hidden: tuple[int, ...] = (128,)
    learning_rates: tuple[float, ...] = (1e-3, 4e-3)
    weight_decays: tuple[float, ...] = (0.1, 3.0)
    dropout: float = 0.2
    batch: int = 128
    steps: int = 600
    epochs: int = 12

    family: ClassVar[str] = "mlp"
    seeded: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"mlp regression {'x'.join(map(str, self.hidden))} {self.preparation}"

    def shortened(self, share: float) -> MlpRegression:
        steps, epochs = (max(1, round(whole * share)) for whole in (self.steps, self.epochs))
        return replace(self, steps=steps, epochs=epochs)

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x = prepare(knowledge.z, self.preparation)
        widths = (x["attack"].shape[1], *self.hidden)
        found = []
        for i, (rate, decay) in enumerate(product(self.learning_rates, self.weight_decays)):
            cycle = Cycle(rate, decay, self.batch, self.steps, self.epochs)
            # Weights and dropout.
            with initialised_from(seed_for(seed, self.name, i, "network")):
                network = _perceptron(widths, self.dropout)
                rng = generator(seed, self.name, i)
                found.append(trained_estimates(network, x, knowledge, cycle, rng))
        return chosen_guess(
            {split: torch.stack([f[split] for f in found]) for split in x}, knowledge
        )


@dataclass(frozen=True)
class ConvolutionRegression(_OfQuantity):
    """A convolutional network with one output, on maps and pictures.

    Pictures are mirrored at random in training, and estimates averaged over both sides.

    Attributes:
        architecture: the attacker of classes whose network, preparation and schedule it takes.
    """

    architecture: AiaAdversary | ResidualAttacker = CONVOLUTIONS

    family: ClassVar[str] = "convolution"
    seeded: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"{self.architecture.name} regression"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return self.architecture.unfit_for(knowledge)

    def shortened(self, share: float) -> ConvolutionRegression:
        return replace(self, architecture=self.architecture.shortened(share))

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        of = self.architecture
        x = prepare_map(knowledge.z, of.preparation)
        with initialised_from(seed_for(seed, self.name, "network")):
            network = of.network(x["attack"].shape[1:], 1)
        cycle = Cycle(of.learning_rate, of.weight_decay, of.batch, of.steps, of.epochs)
        rng = generator(seed, self.name)
        return guess_of(trained_estimates(network, x, knowledge, cycle, rng), knowledge)


def _perceptron(widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, o in pairwise(widths):
        layers += [nn.Linear(i, o), nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))


def quantity_quick() -> tuple[Attack, ...]:
    """Every kind of leak of a quantity is looked for once."""
    return (
        MeanOnly(),
        LabelOnlyMean(),
        Ridge(),
        Ridge("statistics"),
        NeighbourMean(),
        BoostedRegression(),
        PatternRegression(),
        MlpRegression(),
        ConvolutionRegression(),
    )


def quantity_standard() -> tuple[Attack, ...]:
    """All families over all preparations."""
    return (
        *quantity_quick(),
        Ridge("raw"),
        Ridge("whitened"),
        Ridge("normalised"),
        NeighbourMean("standardised"),
        BoostedRegression("statistics"),
        BoostedRegression("normalised"),
        BoostedRegression("whitened"),
        PatternRegression("ridge"),
        MlpRegression("statistics"),
        MlpRegression("normalised"),
        MlpRegression("whitened"),
        MlpRegression(hidden=(512, 256), learning_rates=(1e-3,)),
        ConvolutionRegression(ResidualAttacker()),
    )
