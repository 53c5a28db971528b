"""k nearest neighbours by brute force, and their kernel cousin: regression on random features."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from veil.attacks.attack import AttackSplit, Guess, Kind, Knowledge, Whole
from veil.attacks.decisions import balanced_log_loss, class_weights, guess_from
from veil.attacks.features import Preparation, Splits, prepare
from veil.attacks.linear import logistic_guess
from veil.seeds import generator

QUERIES = 1024  # rows compared with all of "attack" at once


@dataclass(frozen=True)
class Neighbours(Whole):
    """Votes of the k nearest releases of "attack", weighted so that classes count equally.

    A release of "attack" is never its own neighbour, so its guesses are held out too.

    Attributes:
        preparation: what distances are measured in.
        counts: values of k, the best chosen on "select"; larger ones than "attack" are cut.
    """

    preparation: Preparation = "standardised"
    counts: tuple[int, ...] = (1, 3, 7, 15, 31, 63, 127)

    family: ClassVar[str] = "neighbours"
    kind: ClassVar[Kind] = "attribute"
    seeded: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"neighbours {self.preparation}"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None if len(knowledge.z["attack"]) > 1 else "one release has no neighbour"

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x = prepare(knowledge.z, self.preparation)
        s = torch.from_numpy(knowledge.s["attack"])
        vote = one_hot(s, knowledge.classes) * class_weights(s, knowledge.classes)
        reach = min(max(self.counts), len(s) - 1)
        rows = {split: nearest(x, split, reach) for split in x}

        def logits(split: AttackSplit, count: int) -> Tensor:
            votes = vote[rows[split][:, :count]].sum(1)
            return ((votes + 1 / knowledge.classes) / (votes.sum(1, keepdim=True) + 1)).log()

        counts = sorted({min(count, reach) for count in self.counts})
        candidates = torch.stack([logits("select", count) for count in counts])
        losses, _ = balanced_log_loss(candidates, torch.from_numpy(knowledge.s["select"]))
        best = counts[int(losses.argmin())]
        return guess_from({split: logits(split, best) for split in x}, knowledge)


@dataclass(frozen=True)
class RandomFeatures:
    """Logistic regression on random Fourier features of a Gaussian kernel (Rahimi & Recht, 2007).

    Attributes:
        preparation: what the kernel sees.
        features: cosines drawn, shared equally among the widths.
        widths: kernel widths as multiples of the median distance between releases.
    """

    preparation: Preparation = "standardised"
    features: int = 1536
    widths: tuple[float, ...] = (0.25, 0.5, 1.0)

    family: ClassVar[str] = "neighbours"
    kind: ClassVar[Kind] = "attribute"
    seeded: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"random features {self.preparation}"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None

    def shortened(self, share: float) -> RandomFeatures:
        return replace(self, features=max(len(self.widths), round(self.features * share)))

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x = prepare(knowledge.z, self.preparation)
        rng = generator(seed, "random features", self.preparation)
        some = x["attack"][torch.randperm(len(x["attack"]), generator=rng)[:512]]
        median = torch.pdist(some).median().clamp_min(1e-6) if len(some) > 1 else torch.tensor(1.0)
        size = (x["attack"].shape[1], self.features // len(self.widths))
        directions = torch.cat(
            [torch.randn(size, generator=rng) / (width * median) for width in self.widths], 1
        )
        phase = 2 * math.pi * torch.rand(directions.shape[1], generator=rng)
        cosines = {split: (v @ directions + phase).cos() for split, v in x.items()}
        return logistic_guess(cosines, knowledge)


def nearest(x: Splits, split: AttackSplit, count: int) -> Tensor:
    """(n, count) rows of "attack" nearest to each release of `split`, the nearest first.

    A release of "attack" is never among its own.

    Args:
        x: split -> (n, d) features.
        split: whose neighbours are asked for.
        count: at most the rows of "attack", and one less for "attack" itself.
    """
    known = x["attack"]
    sizes = known.square().sum(1)
    found = []
    for start in range(0, len(x[split]), QUERIES):
        distance = sizes - 2 * x[split][start : start + QUERIES] @ known.T
        if split == "attack":
            rows = torch.arange(len(distance))
            distance[rows, rows + start] = math.inf
        found.append(distance.topk(count, largest=False).indices)
    return torch.cat(found)
