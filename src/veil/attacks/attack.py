"""What every attacker holds, what it must return, and nothing else (docs/audit.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Kind = Literal["attribute", "quantity", "identity"]
AttackSplit = Literal["attack", "select", "test"]
TrainingSplit = Literal["attack", "select"]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Knowledge:
    """Everything one attacker of one target may use.

    Attributes:
        target: name of the label attacked.
        classes: K, the number of classes of an attribute; 0 when the target is a quantity or
            identity.
        z: split -> (n, ...) float32 releases on the CPU; (n, c, h, w) where the release is a map
            or a picture. May hold NaN or inf (missing values are a signal too).
        s: split -> (n,) int64 private labels of "attack" and "select" (of a quantity: float32);
            `test` is never here.
        y: split -> (n,) int64 useful labels of all three splits, or None.
        y_classes: the number of classes of y; 0 when there is none.
        answers: split -> (n, k) float32 outputs of the public task head on the releases, or None.
        people: split -> (n,) int64 who is shown, -1 unknown, of "attack" and "select", or None.
        adversary: the defender's own trained adversary, (n, ...) releases -> (n, K) logits, where
            the attacker holds the defender's files (white box); never trained in place.
    """

    target: str
    classes: int
    z: Mapping[AttackSplit, Tensor]
    s: Mapping[TrainingSplit, NDArray[Any]]
    y: Mapping[AttackSplit, Ints] | None = None
    y_classes: int = 0
    answers: Mapping[AttackSplit, Floats] | None = None
    people: Mapping[TrainingSplit, Ints] | None = None
    adversary: nn.Module | None = None


@dataclass(frozen=True)
class Guess:
    """What an attacker says: natural-log class probabilities, (n, K) float32, rows sum to one.

    Of a quantity: (n, 1) estimates in the label's own units. Of an identity attacker: (n, d)
    embeddings compared by Euclidean distance.
    """

    attack: Floats
    select: Floats
    test: Floats


class Attack(Protocol):
    """One configured attacker: a frozen dataclass whose fields are its hyperparameters.

    Attributes:
        name: unique in a suite, with what distinguishes it ("mlp-256 standardised").
        family: the file's family ("mlp"), by which reports group.
        kind: what it can attack.
        seeded: False when the result does not depend on the seed (one run is enough).
    """

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def seeded(self) -> bool: ...

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        """Why this attacker cannot run on this release ("no spatial map"), or None if it can."""

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        """Train on "attack" (epochs and thresholds by "select"), then guess for every split."""

    def shortened(self, share: float) -> Attack:
        """The same attacker trained for a share (0, 1] of its time, by which a search screens."""


class Whole:
    """Of attackers that are solved, not trained: there is no shorter form of them."""

    def shortened(self, share: float) -> Self:
        return self
