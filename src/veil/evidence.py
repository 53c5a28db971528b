"""What an audit is given: releases, labels, and what else the attacker may hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from veil.attacks.attack import AttackSplit
from veil.attacks.features import Releases
from veil.data.dataset import MISSING, RECONSTRUCTION, Label
from veil.data.splits import Splits
from veil.errors import Refused, VeilError
from veil.mechanism import ClippedGaussian
from veil.method import Obfuscator
from veil.release import Draws, depends_on_batch, is_random, release_draws, release_split
from veil.seeds import seed_for
from veil.statistics import people_of

Columns = Mapping[AttackSplit, NDArray[Any]]
Oracle = Callable[[Tensor, torch.Generator], Tensor]
Originals = Callable[[AttackSplit], Tensor]
ATTACK_SPLITS: tuple[AttackSplit, ...] = ("attack", "select", "test")
DRAWS = (1, 4, 16, 50)


@dataclass(frozen=True)
class Evidence:
    """One release to be audited, divided into attack, select and test.

    Attributes:
        name: what is audited, for messages and reports.
        z: split -> (n, ...) float32, one draw of the release per image.
        labels: name -> split -> (n,) int64, -1 where missing (of a quantity float32, NaN; of
            landmarks (n, 2k)).
        meaning: name -> what the label means.
        private, utility: names of the labels attacked, and of those that should survive.
        identity: split -> (n,) people, -1 unknown; None where nobody is known.
        averaged: N -> split -> (n, ...) mean of N draws, N > 1, where the release is random.
        deviation: split -> (n, ...) standard deviation over the most draws at hand, or None.
        random: whether the release draws noise.
        subgroups: split -> (n,) int64 group of each row, to be reported apart; None without.
        group: the name of that column, whose meaning is in `meaning`.
        undeclared: labels that are neither private nor useful, for a scan: name -> columns.
        oracle: the release function itself, (n, c, h, w) in [0, 1] and a generator -> (n, ...),
            differentiable where the attacker holds the weights (white box); None for a file.
        networks: private label -> the defender's own trained adversary, (n, ...) -> (n, K) logits.
        mechanism: what the release is known to end with, for a certificate.
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
    averaged: Mapping[int, Mapping[AttackSplit, Tensor]] = field(default_factory=dict)
    deviation: Mapping[AttackSplit, Tensor] | None = None
    random: bool = False
    subgroups: Columns | None = None
    group: str | None = None
    undeclared: Mapping[str, Columns] = field(default_factory=dict)
    oracle: Oracle | None = None
    networks: Mapping[str, nn.Module] = field(default_factory=dict)
    mechanism: ClippedGaussian | None = None
    originals: Originals | None = None
    originals_key: str = ""
    answers: Mapping[str, Mapping[AttackSplit, NDArray[np.float32]]] = field(default_factory=dict)
    adversary: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    reported: Mapping[str, float] = field(default_factory=dict)
    batch_dependence: float = 0.0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # What is prepared of a release is prepared once, for all targets that keep all rows.
        object.__setattr__(self, "z", Releases(self.z))
        averaged = {count: Releases(z) for count, z in self.averaged.items()}
        object.__setattr__(self, "averaged", averaged)
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

    @property
    def draws(self) -> int:
        """The most draws per image at hand."""
        return max(self.averaged, default=1)

    def knowing(self, name: str) -> Evidence:
        """The same evidence without the rows in which the label `name` is missing."""
        columns = self.identity if name == "identity" else self.labels[name]
        if columns is None:
            raise VeilError(f"{self.name}: people are unknown, so 'identity' cannot be audited")
        known = {split: _is_known(column) for split, column in columns.items()}
        if all(bool(mask.all()) for mask in known.values()):
            return self
        return self.only(known, f"without missing {name}")

    def learning_from(self, share: float, seed: int) -> Evidence:
        """The same evidence with a share of the people (or rows) of "attack" to learn from."""
        known = None if self.identity is None else self.identity["attack"]
        units = people_of(known, len(self.z["attack"]))
        rng = np.random.default_rng(seed_for(seed, "attack share"))
        people = rng.permutation(units.max() + 1)
        learning = people[: max(1, round(share * len(people)))]
        chosen = {split: np.ones(len(z), dtype=bool) for split, z in self.z.items()}
        chosen["attack"] = np.isin(units, learning)
        return self.only(chosen, f"learning from {share:g} of attack, seed {seed}")

    def only(self, chosen: Columns, how: str) -> Evidence:
        """The same evidence with only some rows.

        Args:
            chosen: split -> (n,) bool.
            how: what tells these rows from others, for remembered ceilings.
        """

        def rows(of: Mapping[AttackSplit, Any]) -> dict[AttackSplit, Any]:
            return {split: of[split][chosen[split]] for split in ATTACK_SPLITS}

        originals = self.originals
        mask = {split: torch.from_numpy(m) for split, m in chosen.items()}
        return replace(
            self,
            z=rows(self.z),
            labels={n: rows(columns) for n, columns in self.labels.items()},
            identity=None if self.identity is None else rows(self.identity),
            averaged={n: rows(z) for n, z in self.averaged.items()},
            deviation=None if self.deviation is None else rows(self.deviation),
            subgroups=None if self.subgroups is None else rows(self.subgroups),
            undeclared={n: rows(columns) for n, columns in self.undeclared.items()},
            originals=None if originals is None else lambda s: originals(s)[mask[s]],
            originals_key=f"{self.originals_key} {how}",
            answers={n: rows(columns) for n, columns in self.answers.items()},
            adversary={n: a[chosen["test"]] for n, a in self.adversary.items()},
        )


def _is_known(column: NDArray[Any]) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = column != MISSING
    if np.issubdtype(column.dtype, np.floating):  # of landmarks every coordinate must be known
        known = np.isfinite(column.reshape(len(column), -1)).all(axis=1)
    return known


def of_splits(
    z: Mapping[AttackSplit, Tensor],
    splits: Splits,
    private: tuple[str, ...],
    utility: tuple[str, ...],
    name: str,
    group: str | None = None,
) -> Evidence:
    """Releases of known images: their labels, people and originals, and nothing else.

    Args:
        z: split -> (n, ...) float32, one release for each image of `splits`, in order.
        splits: the data; `fit` is not looked at.
        private, utility: names of labels of the data; "identity" is the person, and the private
            "reconstruction" the picture itself.
        name: what is audited.
        group: a class label by whose values the leakage is reported apart.

    Raises:
        VeilError: the data have no such label, or `group` is no class label.
    """
    people: dict[AttackSplit, NDArray[np.int64]] = {}
    for split in ATTACK_SPLITS:
        known = splits[split].identity
        if known is not None:
            people[split] = known
    if group is not None and not splits.attack.label(group).is_class:
        raise VeilError(
            f"'{group}' is {splits.attack.label(group).kind}; groups need a class label"
        )
    declared = [n for n in (*private, *utility) if n not in ("identity", RECONSTRUCTION)]
    classes = [n for n, label in splits.attack.schema.items() if label.is_class]
    others = [n for n in classes if n not in declared]
    content = hashlib.blake2b(digest_size=16)
    for split in ATTACK_SPLITS:
        content.update(splits[split].content().tobytes())

    def columns(label: str) -> Columns:
        return {split: splits[split].column(label) for split in ATTACK_SPLITS}

    return Evidence(
        name=name,
        z=z,
        labels={n: columns(n) for n in declared},
        meaning={n: splits.attack.label(n) for n in (*declared, *others)},
        private=private,
        utility=utility,
        identity=people or None,
        subgroups=None if group is None else columns(group),
        group=group,
        undeclared={n: columns(n) for n in others},
        originals=lambda split: splits[split].batch(slice(None), labels=()).x,
        originals_key=content.hexdigest(),
        provenance={"notes": list(splits.notes)},
    )


def draw_counts(draws: int) -> tuple[int, ...]:
    """How many draws are averaged when up to `draws` may be asked for: 1, 4, 16, ..., `draws`.

    Raises:
        VeilError: `draws` is not positive.
    """
    if draws < 1:
        raise VeilError(f"{draws} draws: an attacker sees a release once at least")
    return (*(n for n in DRAWS if n < draws), draws)


def of_release(
    obfuscator: Obfuscator,
    splits: Splits,
    private: tuple[str, ...],
    utility: tuple[str, ...],
    seed: int,
    name: str,
    group: str | None = None,
    draws: int = DRAWS[-1],
) -> Evidence:
    """What an attacker of a release function may hold: releases, and draws at will.

    A random release is drawn `draws` times for every image: once for an attacker who asks
    once, and on average over several draws for one who asks again.

    Args:
        obfuscator: what is deployed.
        splits, private, utility, name, group: see `of_splits`.
        seed: the releases' noise is drawn from it.
        draws: the most that an attacker may ask for of one image.
    """
    counts = draw_counts(draws)
    seed = seed_for(seed, "audit releases")
    random = is_random(obfuscator, splits.select, seed)
    z: dict[AttackSplit, Tensor] = {}
    drawn: dict[AttackSplit, Draws] = {}
    for split in ATTACK_SPLITS:
        if random:
            drawn[split] = release_draws(obfuscator, splits[split], seed, split, counts)
            z[split] = drawn[split].means[1]
        else:
            z[split] = release_split(obfuscator, splits[split], seed, split)

    device = next(obfuscator.parameters(), torch.empty(0)).device

    def oracle(x: Tensor, rng: torch.Generator) -> Tensor:
        drawn_seed = int(torch.randint(2**62, (), generator=rng))
        own = torch.Generator(device).manual_seed(drawn_seed)
        return obfuscator.eval().release(x.to(device), own).cpu()

    return replace(
        of_splits(z, splits, private, utility, name, group),
        averaged={
            count: {split: drawn[split].means[count] for split in drawn}
            for count in counts[1:]
            if random
        },
        deviation={split: drawn[split].deviation for split in drawn} if random else None,
        random=random,
        oracle=oracle,
        mechanism=obfuscator.mechanism,
        batch_dependence=0.0 if random else depends_on_batch(obfuscator, splits.select, seed),
    )
