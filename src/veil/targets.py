"""What an audit attacks: one label each, its parts by subgroup, and several labels at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from veil.attacks.attack import Attack, AttackSplit, Guess, Kind, Knowledge
from veil.attacks.features import Releases
from veil.attacks.landmarks import landmark_ceilings, landmark_heads
from veil.attacks.pairs import distances, draw_pairs
from veil.attacks.search import Candidate
from veil.data.dataset import MISSING, RECONSTRUCTION, Label
from veil.errors import VeilError
from veil.evidence import ATTACK_SPLITS, Columns, Evidence
from veil.metrics import best_threshold, verification_accuracy
from veil.quantity import landmarks_record, quantity_floors, quantity_record
from veil.quantity_metrics import points_r2, r2
from veil.records import Record, RecordKind
from veil.scoring import (
    balanced,
    class_record,
    floor_records,
    matching_record,
    own_head_record,
)
from veil.seeds import seed_for

CHANCE_OF_A_PAIR = 0.5
FEWEST: Mapping[AttackSplit, int] = {"attack": 40, "select": 15, "test": 30}
FEWEST_OF_A_CLASS = 5
MOST_CELLS = 24


@dataclass(frozen=True)
class Feed:
    """One way in which the release reaches an attacker.

    Attributes:
        z: split -> (n, ...).
        name: the way in words, "" for a single draw.
        draws: releases of each image that went into it.
    """

    z: Mapping[AttackSplit, Tensor]
    name: str = ""
    draws: int = 1


@dataclass(frozen=True)
class Target:
    """One thing that an attacker wants to know, and the rows for which the answer is known.

    Attributes:
        name: of the label: "Male"; of a part: "Male where Young=no", "Male+Young".
        evidence: without the rows that lack the label.
        role: private targets are attacked; of useful ones what survives is measured.
        part_of: the private label of which this is a part; None for a label itself.
    """

    name: str
    evidence: Evidence
    role: Literal["private", "utility"] = "private"
    part_of: str | None = None

    @cached_property
    def feeds(self) -> tuple[Feed, ...]:
        """The ways in which the release reaches attackers; made when the first one asks."""
        return _feeds(self.evidence)

    @property
    def kind(self) -> Kind:
        """What kind of attacker goes for it."""
        if self.name == "identity":
            return "identity"
        return "attribute" if self.evidence.meaning[self.name].is_class else "quantity"

    @property
    def is_landmarks(self) -> bool:
        """Whether it is a quantity of several coordinates."""
        return self.kind == "quantity" and self.evidence.meaning[self.name].kind == "landmarks"

    @property
    def record_kind(self) -> RecordKind:
        """What its records are called."""
        if self.role == "utility":
            return "utility"
        return "identity" if self.kind == "identity" else "attribute"

    @property
    def column(self) -> Columns:
        """split -> (n,) its labels; of identity the people."""
        if self.name != "identity":
            return self.evidence.labels[self.name]
        assert self.evidence.identity is not None
        return self.evidence.identity

    def knowledge(self, z: Mapping[AttackSplit, Tensor]) -> Knowledge:
        """What an attacker holds; the useful label and its head, where there is one."""
        evidence, s = self.evidence, self.column
        known = Knowledge(
            target=self.name,
            classes=len(evidence.meaning[self.name].classes) if self.kind == "attribute" else 0,
            z=z,
            s={"attack": s["attack"], "select": s["select"]},
        )
        if self.role == "utility" or self.kind == "identity":
            return known
        people, tasks = evidence.identity, [n for n in evidence.utility if _is_class(evidence, n)]
        z_is_release = z["test"].shape == evidence.z["test"].shape
        known = replace(
            known,
            people=None if people is None else {n: people[n] for n in known.s},
            # It reads releases, not what was made of several (their mean with their deviation).
            adversary=evidence.networks.get(self.name) if z_is_release else None,
        )
        if not tasks:
            return known
        return replace(
            known,
            y=evidence.labels[tasks[0]],
            y_classes=len(evidence.meaning[tasks[0]].classes),
            answers=evidence.answers.get(tasks[0]),
        )

    def candidates(self, attacks: Sequence[Attack], feeds: Sequence[Feed]) -> list[Candidate]:
        """The attackers that can run on these feeds; who never looks at a release runs on one."""
        held = [(feed, self.knowledge(feed.z)) for feed in feeds]
        return [
            Candidate(attack, knowledge, feed.name, feed.draws)
            for feed, knowledge in held
            for attack in attacks
            if attack.unfit_for(knowledge) is None
            and not (attack.family == "constant" and feed.draws > 1)
        ]

    def heads(self, of: Mapping[Kind, tuple[Attack, ...]]) -> tuple[Attack, ...]:
        """The fresh heads of a useful target; of landmarks their own, which read all at once.

        Args:
            of: a suite's heads, by kind.
        """
        return landmark_heads() if self.is_landmarks else of[self.kind]

    def ceilings(self, of: Mapping[Kind, tuple[Attack, ...]]) -> tuple[Attack, ...]:
        """The attackers of the original images, as `heads` are chosen."""
        return landmark_ceilings() if self.is_landmarks else of[self.kind]

    def on_select(self, guess: Guess, seed: int) -> float:
        """The score of a guess on "select", by which attackers are chosen."""
        s = self.column["select"]
        if self.kind == "attribute":
            return balanced(guess.select, s)
        if self.is_landmarks:
            return points_r2(s, guess.select, self.column["attack"].mean(axis=0, dtype=np.float64))
        if self.kind == "quantity":
            return r2(s, guess.select[:, 0], float(self.column["attack"].mean()))
        pairs = draw_pairs(s, seed_for(seed_for(seed, "pairs"), "select"))
        distance = distances(guess.select, pairs)
        return verification_accuracy(pairs.same, distance, best_threshold(pairs.same, distance))

    def record(
        self,
        attack: str,
        family: str,
        guesses: Sequence[Guess],
        seed: int,
        learned: NDArray[Any] | None = None,
    ) -> Record:
        """The record of an attacker from its guesses, one per seed.

        Args:
            learned: (m,) labels of the releases that it learned from, where they are not all.
        """
        if self.kind == "identity":
            return matching_record(self.column, self.record_kind, attack, family, guesses, seed)
        evidence = self.evidence
        if learned is not None:
            column = {**self.column, "attack": learned}
            evidence = replace(evidence, labels={**evidence.labels, self.name: column})
        score = class_record if self.kind == "attribute" else quantity_record
        if self.is_landmarks:
            score = landmarks_record
        return score(evidence, self.name, self.record_kind, attack, family, guesses, seed)

    def own_head(self, seed: int) -> Record:
        """How well the public task head, which came with the release, does its task."""
        if self.kind != "quantity":
            return own_head_record(self.evidence, self.name, seed)
        answers = self.evidence.answers[self.name]
        guess = Guess(answers["attack"], answers["select"], answers["test"])
        return self.record("own head", "own head", [guess], seed)

    def floors(self) -> dict[str, Record]:
        """What the release cannot be blamed for, by name; identity has chance alone."""
        if self.kind == "identity":
            return {}
        if self.kind == "quantity":
            return quantity_floors(self.evidence, self.name)
        return floor_records(self.evidence, self.name)


def targets_of(evidence: Evidence) -> list[Target]:
    """Every target of the evidence: private ones, their parts, several at once, useful ones.

    Raises:
        VeilError: a label does not vary in a split, or people are unknown where they are asked for.
    """
    private = [name for name in evidence.private if name != RECONSTRUCTION]
    targets = []
    for name in private:
        target = Target(name, evidence.knowing(name))
        _refuse_unvaried(target)
        targets += [target, *_subgroups(target)]
    classes = [name for name in private if name != "identity" and _is_class(evidence, name)]
    pairs = [_both(evidence, a, b) for a, b in combinations(classes, 2)]
    targets += [pair for pair in pairs if pair is not None]
    for name in evidence.utility:
        target = Target(name, evidence.knowing(name), "utility")
        _refuse_unvaried(target)
        targets.append(target)
    return targets


def _is_class(evidence: Evidence, name: str) -> bool:
    return name != "identity" and evidence.meaning[name].is_class


def _feeds(evidence: Evidence) -> tuple[Feed, ...]:
    """A single draw; where the release is random the mean of the most, and their deviation too."""
    feeds = [Feed(evidence.z)]
    if evidence.averaged:
        most = evidence.draws
        mean = evidence.averaged[most]
        feeds.append(Feed(mean, f"mean of {most} draws", most))
        if evidence.deviation is not None:
            deviation = evidence.deviation
            both = {split: torch.cat([mean[split], deviation[split]], 1) for split in mean}
            feeds.append(Feed(Releases(both), f"mean and deviation of {most} draws", most))
    return tuple(feeds)


def fewer_draws(target: Target) -> list[Feed]:
    """The means of fewer draws than the most, which only the worst attacker is run on."""
    averaged = target.evidence.averaged
    return [
        Feed(z, f"mean of {count} draws", count)
        for count, z in sorted(averaged.items())
        if count < target.evidence.draws
    ]


def _refuse_unvaried(target: Target) -> None:
    evidence = target.evidence
    if target.kind == "identity":
        return
    if target.is_landmarks and target.role == "private":
        raise VeilError(
            f"'{target.name}' is landmarks; an audit needs classes or a quantity to attack, and "
            "landmarks can be useful only"
        )
    for split, column in target.column.items():
        if not (column != column[:1]).any():
            raise VeilError(
                f"{evidence.name}: '{target.name}' does not vary over the {len(column)} images of "
                f"'{split}' for which it is known; give more images"
            )


def _subgroups(target: Target) -> list[Target]:
    """The target within each subgroup that is large enough, attacked by itself."""
    evidence, groups = target.evidence, target.evidence.subgroups
    if groups is None or evidence.group is None or target.kind != "attribute":
        return []
    found = []
    for value, shown in enumerate(evidence.meaning[evidence.group].classes):
        how = f"where {evidence.group}={shown}"
        chosen = {split: groups[split] == value for split in ATTACK_SPLITS}
        if not _large_enough(chosen, target.column):
            continue
        name = f"{target.name} {how}"
        part = _renamed(evidence.only(chosen, how), target.name, name)
        found.append(Target(name, part, part_of=target.name))
    return found


def _both(evidence: Evidence, a: str, b: str) -> Target | None:
    """Two private labels at once: every pair of their classes is a class."""
    name, labels = f"{a}+{b}", [evidence.meaning[n].classes for n in (a, b)]
    if len(labels[0]) * len(labels[1]) > MOST_CELLS:
        return None
    columns = {}
    for split in ATTACK_SPLITS:
        first, second = evidence.labels[a][split], evidence.labels[b][split]
        known = (first != MISSING) & (second != MISSING)
        columns[split] = np.where(known, first * len(labels[1]) + second, MISSING)
    cells = len(labels[0]) * len(labels[1])
    present = [
        all((columns[split] == cell).sum() >= FEWEST_OF_A_CLASS for split in ATTACK_SPLITS)
        for cell in range(cells)
    ]
    if sum(present) < 3:  # two cells are no more than one of the labels
        return None
    codes = np.full(cells + 1, MISSING)  # the last stands for MISSING itself
    codes[np.flatnonzero(present)] = np.arange(sum(present))
    shown = [f"{a}={x}, {b}={y}" for x in labels[0] for y in labels[1]]
    kept = tuple(pair for pair, there in zip(shown, present, strict=True) if there)
    joint = replace(
        evidence,
        labels={**evidence.labels, name: {s: codes[c] for s, c in columns.items()}},
        meaning={**evidence.meaning, name: Label("multiclass", kept)},
    )
    return Target(name, joint.knowing(name), part_of=f"{a} and {b}")


def _renamed(evidence: Evidence, old: str, new: str) -> Evidence:
    """The same evidence with one private label under another name."""
    return replace(
        evidence,
        labels={**evidence.labels, new: evidence.labels[old]},
        meaning={**evidence.meaning, new: evidence.meaning[old]},
        networks={new: evidence.networks[old]} if old in evidence.networks else {},
    )


def _large_enough(chosen: Mapping[AttackSplit, NDArray[np.bool_]], column: Columns) -> bool:
    for split, mask in chosen.items():
        classes, counts = np.unique(column[split][mask], return_counts=True)
        if len(classes) < 2 or counts.min() < FEWEST_OF_A_CLASS or mask.sum() < FEWEST[split]:
            return False
    return True
