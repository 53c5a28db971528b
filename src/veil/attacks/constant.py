"""Attackers that never look at the release: what is given away before anything is released."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from veil.attacks.attack import Guess, Kind, Knowledge, Whole
from veil.attacks.decisions import guess_from, likelihood_table


@dataclass(frozen=True)
class Prior(Whole):
    """Always the majority class of "attack": balanced accuracy 1/K, accuracy the majority's.

    All classes are given the same probability but for a hair, which decides for the majority.
    """

    name: ClassVar[str] = "prior"
    family: ClassVar[str] = "constant"
    kind: ClassVar[Kind] = "attribute"
    seeded: ClassVar[bool] = False

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        majority = np.bincount(knowledge.s["attack"], minlength=knowledge.classes).argmax()
        scores = torch.zeros(knowledge.classes)
        scores[majority] = 1e-3
        row = scores.log_softmax(0).numpy()
        sizes = (len(knowledge.z[split]) for split in ("attack", "select", "test"))
        return Guess(*(np.tile(row, (n, 1)) for n in sizes))


@dataclass(frozen=True)
class LabelOnly(Whole):
    """The private label from the useful one alone, by the table counted on "attack".

    A release that supports the task lets this much through, whatever else it holds.
    """

    name: ClassVar[str] = "label-only"
    family: ClassVar[str] = "constant"
    kind: ClassVar[Kind] = "attribute"
    seeded: ClassVar[bool] = False

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return "there is no useful label" if knowledge.y is None else None

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        assert knowledge.y is not None
        codes = {split: y + 1 for split, y in knowledge.y.items()}  # -1, missing, is a code too
        table = likelihood_table(
            codes["attack"], knowledge.s["attack"], knowledge.y_classes + 1, knowledge.classes
        )
        return guess_from({split: table[code] for split, code in codes.items()}, knowledge)
