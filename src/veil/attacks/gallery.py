"""A gallery of people: who does a release resemble, and what are those people like?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from veil.attacks.attack import AttackSplit, Guess, Ints, Kind, Knowledge, Whole
from veil.attacks.decisions import balanced_log_loss, class_weights, guess_from
from veil.attacks.features import Preparation, prepare, whiten
from veil.attacks.matching import discriminants
from veil.attacks.pairs import recurring_people
from veil.data.dataset import MISSING


@dataclass(frozen=True)
class Gallery(Whole):
    """The attribute of the people of "attack" whose averaged releases lie nearest.

    What one person's releases differ by, pose and light and noise, says nothing about the person:
    the spread within people tells in which directions not to look. Distances are measured along
    the axes on which people differ, in units of that spread (see `matching.discriminants`); and
    the mean of a person's releases has less of it than each. So a release whose attribute shows
    in no single one, but in the likeness to people, is read where nearest releases fail.

    Everybody counts once, with the class most of their releases have, and classes count equally.
    A release of "attack" is never compared with its own person, so its guess is held out too.
    Every combination of the settings is tried; the best on "select" is kept.

    Attributes:
        preparation: what is seen, before up to 256 principal components are taken.
        components: leading principal components that are used.
        shrinkages: the covariance within people is pulled by this share towards a sphere.
        counts: how many of the nearest people vote; more than there are, are all.
    """

    preparation: Preparation = "whitened"
    components: tuple[int, ...] = (16, 64, 256)
    shrinkages: tuple[float, ...] = (0.02, 0.3)
    counts: tuple[int, ...] = (1, 3, 7, 15, 31, 63)

    family: ClassVar[str] = "gallery"
    kind: ClassVar[Kind] = "attribute"
    seeded: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"gallery {self.preparation}"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        if knowledge.people is None:
            return "nobody is known by identity"
        recurring = recurring_people(knowledge.people["attack"])[2]
        return "fewer than two people of attack have two releases" if recurring < 2 else None

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        assert knowledge.people is not None
        x = prepare(knowledge.z, self.preparation)
        if self.preparation != "whitened":
            x = whiten(x)
        person = torch.from_numpy(_everybody(knowledge.people["attack"]))
        size = torch.bincount(person)
        labels = one_hot(torch.from_numpy(knowledge.s["attack"]), knowledge.classes)
        shown = torch.zeros(len(size), knowledge.classes).index_add_(0, person, labels.float())
        attribute = shown.argmax(1)
        votes = one_hot(attribute, knowledge.classes) * class_weights(attribute, knowledge.classes)
        counts = sorted({min(count, len(size) - 1) for count in self.counts})

        def nearest(axes: Tensor, split: AttackSplit) -> Tensor:
            """(n, k) people of the gallery, the nearest first."""
            known = x["attack"][:, : len(axes)] @ axes
            entries = torch.zeros(len(size), axes.shape[1]).index_add_(0, person, known)
            entries = entries / size.unsqueeze(1)
            distance = torch.cdist(x[split][:, : len(axes)] @ axes, entries)
            if split == "attack":
                distance[torch.arange(len(person)), person] = torch.inf
            return distance.topk(counts[-1], largest=False).indices

        def logits(people: Tensor, count: int) -> Tensor:
            voted = votes[people[:, :count]].sum(1)
            return ((voted + 1 / knowledge.classes) / (voted.sum(1, keepdim=True) + 1)).log()

        s_select = torch.from_numpy(knowledge.s["select"])
        rows, recurring, people = recurring_people(knowledge.people["attack"])
        best_loss, best = math.inf, (torch.empty(0, 0), 0)
        for k, shrinkage in product(self.components, self.shrinkages):
            axes = discriminants(x["attack"][rows, :k], recurring, people, shrinkage)
            found = nearest(axes, "select")
            candidates = torch.stack([logits(found, count) for count in counts])
            loss, chosen = balanced_log_loss(candidates, s_select)[0].min(0)
            if loss < best_loss:
                best_loss, best = loss.item(), (axes, counts[int(chosen)])
        axes, count = best
        return guess_from({split: logits(nearest(axes, split), count) for split in x}, knowledge)


def _everybody(people: Ints) -> Ints:
    """Numbers from 0 of everybody; each release of an unknown person is a person of its own."""
    unknown = people == MISSING
    alone = people.max(initial=0) + 1 + np.arange(unknown.sum())
    told = people.copy()
    told[unknown] = alone
    return np.unique(told, return_inverse=True)[1]
