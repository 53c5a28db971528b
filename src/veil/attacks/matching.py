"""Who is it? Identity attackers in closed form.

They learn from the people of "attack" to embed a release so that one person's releases lie close
together; the people of "select" and "test" are others. `pairs.score_matching` scores the embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from veil.attacks.attack import AttackSplit, Guess, Kind, Knowledge, Whole
from veil.attacks.embedding import SELECT_PAIRS, as_guess
from veil.attacks.features import prepare
from veil.attacks.pairs import distances, draw_pairs, recurring_people, too_few_people
from veil.metrics import auc


@dataclass(frozen=True)
class Distance(Whole):
    """No training: the distance of the releases themselves.

    Attributes:
        features: "raw" Euclidean distance of the values; "standardised" angle between vectors whose
            every feature has zero mean and unit deviation; "whitened" angle between up to 256
            principal components of unit deviation.
    """

    features: Literal["raw", "standardised", "whitened"] = "whitened"

    family: ClassVar[str] = "matching"
    kind: ClassVar[Kind] = "identity"
    seeded: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"distance {self.features}"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x = prepare(knowledge.z, self.features)
        return as_guess(x if self.features == "raw" else _on_sphere(x))


@dataclass(frozen=True)
class LinearDiscriminant(Whole):
    """Probabilistic linear discriminant analysis in closed form (Ioffe, ECCV 2006).

    Principal components are whitened within people, rotated to the axes on which people differ, and
    each axis is weighted by sqrt(b / (b + 1)), the share of its spread that tells people apart.

    Every pair of the settings below is tried, the best AUC on select is kept.

    Attributes:
        components: leading principal components that are used.
        shrinkages: the within-person covariance is pulled by this share towards a sphere.
    """

    components: tuple[int, ...] = (16, 48, 128, 256)
    shrinkages: tuple[float, ...] = (0.02, 0.2, 0.6)

    name: ClassVar[str] = "linear discriminant"
    family: ClassVar[str] = "matching"
    kind: ClassVar[Kind] = "identity"
    seeded: ClassVar[bool] = False

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return too_few_people(knowledge)

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x = prepare(knowledge.z, "whitened")
        rows, person, people = recurring_people(knowledge.s["attack"])
        asked = draw_pairs(knowledge.s["select"], 0, SELECT_PAIRS)
        best, chosen = -math.inf, x["attack"].new_empty(0, 0)
        for k, shrinkage in product(self.components, self.shrinkages):
            axes = discriminants(x["attack"][rows, :k], person, people, shrinkage)
            embedded = F.normalize(x["select"][:, :k] @ axes)
            score = auc(asked.same, -distances(embedded.numpy(), asked))
            if score > best:
                best, chosen = score, axes
        return as_guess(_on_sphere({split: v[:, : len(chosen)] @ chosen for split, v in x.items()}))


def discriminants(x: Tensor, person: Tensor, people: int, shrinkage: float) -> Tensor:
    """(d, k) axes on which people differ, in units of the spread within people.

    Args:
        x: (n, d) features; person: (n,) 0..people-1, each at least twice.
        shrinkage: see `LinearDiscriminant`.
    """
    x = x.double()
    count = torch.bincount(person, minlength=people).double()
    means = torch.zeros(people, x.shape[1], dtype=x.dtype).index_add_(0, person, x)
    means = means / count.unsqueeze(1)
    residual = x - means[person]
    within = residual.T @ residual / (len(x) - people)
    sphere = within.diagonal().mean().clamp_min(1e-12) * torch.eye(len(within), dtype=x.dtype)
    variance, directions = torch.linalg.eigh((1 - shrinkage) * within + shrinkage * sphere)
    whiten = directions / variance.clamp_min(1e-12).sqrt()
    centred = (means - x.mean(0)) @ whiten
    spread, rotation = torch.linalg.eigh(centred.T @ centred / people)
    # A mean of m pictures still holds 1/m of the spread within people.
    between = (spread - (1 / count).mean()).clamp_min(0)
    axes: Tensor = whiten @ rotation * (between / (between + 1)).sqrt()
    return axes.float()


def _on_sphere(x: Mapping[AttackSplit, Tensor]) -> dict[AttackSplit, Tensor]:
    """Unit vectors: their Euclidean distance is a function of the angle between them."""
    return {split: F.normalize(v) for split, v in x.items()}
