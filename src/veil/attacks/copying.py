"""What the task gives away: the useful label as the public head or a learned one reads it.

Attackers that go for the private label directly often miss this much; so it is attacked, not
only computed, and a direct attack below it is one that failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from veil.attacks.attack import Attack, Floats, Guess, Ints, Kind, Knowledge, Whole
from veil.attacks.decisions import guess_from, likelihood_table
from veil.attacks.features import standardise
from veil.attacks.linear import logistic_guess
from veil.attacks.training import run_seeds


@dataclass(frozen=True)
class CopyHead(Whole):
    """The private label from the outputs of the public task head, and from which is largest."""

    name: ClassVar[str] = "copy the task head"
    family: ClassVar[str] = "copying"
    kind: ClassVar[Kind] = "attribute"
    seeded: ClassVar[bool] = False

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return "there is no public task head" if knowledge.answers is None else None

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        assert knowledge.answers is not None
        answers = {
            split: torch.nan_to_num(torch.from_numpy(np.asarray(a, dtype=np.float32)))
            for split, a in knowledge.answers.items()
        }
        scaled = standardise(answers)
        features = {
            split: torch.cat([scaled[split], one_hot(a.argmax(1), a.shape[1])], 1)
            for split, a in answers.items()
        }
        return logistic_guess(features, knowledge)


@dataclass(frozen=True)
class CopyLearned:
    """The private label from a useful label that is itself learned from the release.

    With `q(y|z)` learned under equal priors of y and `P(y|s)` counted on "attack",
    `p(s|z) = sum_y P(y|s) q(y|z)` up to a factor: exact when z depends on s only through y.

    Attributes:
        head: the attacker that learns y.
    """

    head: Attack

    family: ClassVar[str] = "copying"
    kind: ClassVar[Kind] = "attribute"

    @property
    def name(self) -> str:
        return f"copy a learned head ({self.head.name})"

    @property
    def seeded(self) -> bool:
        return self.head.seeded

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        if knowledge.y is None:
            return "there is no useful label to learn"
        if any(knowledge.y[split].min() < 0 for split in knowledge.s):
            return "some useful labels are missing"
        return self.head.unfit_for(_about_task(knowledge))

    def shortened(self, share: float) -> CopyLearned:
        return replace(self, head=self.head.shortened(share))

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        return self.run_seeds(knowledge, (seed,))[0]

    def run_seeds(self, knowledge: Knowledge, seeds: Sequence[int]) -> list[Guess]:
        """`run` with several seeds, which a head may train side by side."""
        about = _about_task(knowledge)
        return [self._copied(y, knowledge) for y in run_seeds(self.head, about, seeds)]

    def _copied(self, y: Guess, knowledge: Knowledge) -> Guess:
        assert knowledge.y is not None
        table = likelihood_table(
            knowledge.y["attack"], knowledge.s["attack"], knowledge.y_classes, knowledge.classes
        )

        def logits(log_q: Floats) -> Tensor:
            return torch.logsumexp(torch.from_numpy(log_q).unsqueeze(2) + table, 1)

        return guess_from(
            {"attack": logits(y.attack), "select": logits(y.select), "test": logits(y.test)},
            knowledge,
        )


def _about_task(knowledge: Knowledge) -> Knowledge:
    """The same releases with the useful label in the private one's place."""
    assert knowledge.y is not None
    y: dict[Literal["attack", "select"], Ints] = {
        "attack": knowledge.y["attack"],
        "select": knowledge.y["select"],
    }
    return replace(
        knowledge, target="y", classes=knowledge.y_classes, s=y, y=None, y_classes=0, answers=None
    )
