"""What an audit is given: releases, labels, and what else the attacker may hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from veil.attacks.attack import AttackSplit
from veil.data.dataset import MISSING, Label
from veil.data.splits import Splits
from veil.errors import Refused, VeilError
from veil.method import Obfuscator
from veil.release import depends_on_batch, is_random, release_split
from veil.seeds import seed_for

Columns = Mapping[AttackSplit, NDArray[np.int64]]
Originals = Callable[[AttackSplit], Tensor]
ATTACK_SPLITS: tuple[AttackSplit, ...] = ("attack", "select", "test")
AVERAGED_DRAWS = 16


@dataclass(frozen=True)
class Evidence:
    """One release to be audited, divided into attack, select and test.

    Attributes:
        name: what is audited, for messages and reports.
        z: split -> (n, ...) float32, one draw of the release per image.
        labels: name -> split -> (n,) int64, -1 where missing.
        meaning: name -> what the label means.
        private, utility: names of the labels attacked, and of those that should survive.
        identity: split -> (n,) people, -1 unknown; None where nobody is known.
        averaged: split -> (n, ...) mean of `draws` draws, where the release is random.
        draws: the most draws per image at hand; 1 where the release is not random.
        random: whether the release draws noise.
        originals: split -> (n, c, h, w) in [0, 1], read when the ceiling is measured; None where
            the original images are not at hand.
        originals_key: a hash of the originals, under which ceilings are remembered.
        answers: useful label -> split -> (n, k) of the public task head.
        adversary: private label -> (n, K) logits of the training adversary on test.
        reported: label -> the paper's figure.
        batch_dependence: see `release.depends_on_batch`.
        provenance: where all this comes from.
    """

    name: str
    z: Mapping[AttackSplit, Tensor]
    labels: Mapping[str, Columns]
    meaning: Mapping[str, Label]
    private: tuple[str, ...]
    utility: tuple[str, ...] = ()
    identity: Columns | None = None
    averaged: Mapping[AttackSplit, Tensor] | None = None
    draws: int = 1
    random: bool = False
    originals: Originals | None = None
    originals_key: str = ""
    answers: Mapping[str, Mapping[AttackSplit, NDArray[np.float32]]] = field(default_factory=dict)
    adversary: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    reported: Mapping[str, float] = field(default_factory=dict)
    batch_dependence: float = 0.0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.identity is None:
            return
        for a, b in (("attack", "select"), ("attack", "test"), ("select", "test")):
            shared = np.intersect1d(self.identity[a], self.identity[b])  # type: ignore[index]
            shared = np.setdiff1d(shared, [MISSING])
            if shared.size:
                raise Refused(
                    f"{self.name}: splits '{a}' and '{b}' share "
                    f"{shared.size} people; divide by person and audit again"
                )

    def knowing(self, name: str) -> Evidence:
        """The same evidence without the rows in which the label `name` is missing."""
        columns = self.identity if name == "identity" else self.labels[name]
        if columns is None:
            raise VeilError(f"{self.name}: people are unknown, so 'identity' cannot be audited")
        known = {split: column != MISSING for split, column in columns.items()}
        if all(bool(mask.all()) for mask in known.values()):
            return self

        def rows(of: Mapping[AttackSplit, Any]) -> dict[AttackSplit, Any]:
            return {split: of[split][known[split]] for split in ATTACK_SPLITS}

        originals = self.originals
        mask = {split: torch.from_numpy(m) for split, m in known.items()}
        return replace(
            self,
            z=rows(self.z),
            labels={n: rows(columns) for n, columns in self.labels.items()},
            identity=None if self.identity is None else rows(self.identity),
            averaged=None if self.averaged is None else rows(self.averaged),
            originals=None if originals is None else lambda s: originals(s)[mask[s]],
            originals_key=f"{self.originals_key} without missing {name}",
            answers={n: rows(columns) for n, columns in self.answers.items()},
            adversary={n: a[known["test"]] for n, a in self.adversary.items()},
        )


def of_release(
    obfuscator: Obfuscator,
    splits: Splits,
    private: tuple[str, ...],
    utility: tuple[str, ...],
    seed: int,
    name: str,
) -> Evidence:
    """What an attacker of a release function may hold: releases, and draws at will.

    A random release is drawn once for every image, and `AVERAGED_DRAWS` times more for an attacker
    who averages.

    Args:
        obfuscator: what is deployed.
        splits: the data; `fit` is not looked at.
        private, utility: names of labels of the data; "identity" is the person.
        seed: the releases' noise is drawn from it.
        name: what is audited.
    """
    seed = seed_for(seed, "audit releases")
    z = {split: release_split(obfuscator, splits[split], seed, split) for split in ATTACK_SPLITS}
    random = is_random(obfuscator, splits.select, seed)
    averaged: dict[AttackSplit, Tensor] = {}
    for split in ATTACK_SPLITS if random else ():
        purpose = f"{split} again"
        averaged[split] = release_split(obfuscator, splits[split], seed, purpose, AVERAGED_DRAWS)
    people: dict[AttackSplit, NDArray[np.int64]] = {}
    for split in ATTACK_SPLITS:
        known = splits[split].identity
        if known is not None:
            people[split] = known
    names = [n for n in (*private, *utility) if n != "identity"]
    content = hashlib.blake2b(digest_size=16)
    for split in ATTACK_SPLITS:
        content.update(splits[split].content().tobytes())
    return Evidence(
        name=name,
        z=z,
        labels={n: {split: splits[split].column(n) for split in ATTACK_SPLITS} for n in names},
        meaning={n: splits.attack.label(n) for n in (*private, *utility)},
        private=private,
        utility=utility,
        identity=people or None,
        averaged=averaged or None,
        draws=AVERAGED_DRAWS if random else 1,
        random=random,
        originals=lambda split: splits[split].batch(slice(None), labels=()).x,
        originals_key=content.hexdigest(),
        batch_dependence=0.0 if random else depends_on_batch(obfuscator, splits.select, seed),
        provenance={"notes": list(splits.notes)},
    )
