"""The threat model made of data: who trains on what, and who is scored on whom (AUDIT.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from veil.data.dataset import MISSING, Dataset, Rows
from veil.errors import VeilError
from veil.seeds import seed_for

Name = TypeVar("Name", bound=str)
SplitName = Literal["fit", "attack", "select", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("fit", "attack", "select", "test")

# Official train -> fit : attack. Without an official test set everything is divided afresh; the
# share of test is large because people, not photos, are the independent units of an interval.
FIT_SHARE_OF_TRAIN = 0.55
SHARES: Mapping[SplitName, float] = {"fit": 0.42, "attack": 0.33, "select": 0.10, "test": 0.15}


@dataclass(frozen=True)
class Splits:
    """Four sets that share no person and no picture.

    `fit`: the defender trains · `attack`: released, the attacker trains on the releases ·
    `select`: chooses attacker, threshold, epoch · `test`: scored once.

    Raises:
        VeilError: two splits share a person or an image, or one is empty.
    """

    fit: Dataset
    attack: Dataset
    select: Dataset
    test: Dataset
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, split in self.items():
            if len(split) == 0:
                raise VeilError(f"the '{name}' split is empty: give more images or more people")
        for (a, left), (b, right) in combinations(self.items(), 2):
            refuse_overlap(a, left, b, right)

    def items(self) -> list[tuple[SplitName, Dataset]]:
        return [(name, self[name]) for name in SPLIT_NAMES]

    def __getitem__(self, name: SplitName) -> Dataset:
        split: Dataset = getattr(self, name)
        return split

    def having(self, names: tuple[str, ...]) -> Splits:
        """The same splits without rows in which a named label is missing; notes say how many."""
        kept = {name: split.having(names) for name, split in self.items()}
        dropped = sum(len(self[name]) - len(split) for name, split in kept.items())
        note = (f"{dropped} images without {' or '.join(names)} left out",) if dropped else ()
        return Splits(**kept, notes=self.notes + note)


def refuse_overlap(a: str, left: Dataset, b: str, right: Dataset) -> None:
    """Raise `VeilError` when two splits share a person or an identical picture."""
    if left.identity is not None and right.identity is not None:
        people = np.setdiff1d(np.intersect1d(left.identity, right.identity), [MISSING])
        if people.size:
            raise VeilError(
                f"splits '{a}' and '{b}' share {people.size} people (first: {people[0]}): "
                "an attacker would recognise them; divide by person"
            )
    pictures = np.intersect1d(left.content(), right.content())
    if pictures.size:
        raise VeilError(
            f"splits '{a}' and '{b}' share {pictures.size} identical pictures: remove the copies"
        )


def divide(units: NDArray[np.int64], shares: Mapping[Name, float], seed: int) -> dict[Name, Rows]:
    """Positions of `units` divided by share, all positions of one unit (person) together.

    Args:
        units: (n,) the person (or group of identical pictures) each row belongs to.
        shares: split -> share of the units; they sum to 1.
        seed: decides who goes where.
    """
    people, member_of = np.unique(units, return_inverse=True)
    order = np.random.default_rng(seed_for(seed, "splits")).permutation(len(people))
    rank = np.empty(len(people), dtype=np.int64)
    rank[order] = np.arange(len(people))
    cuts = np.round(np.cumsum(list(shares.values())) * len(people)).astype(np.int64)
    bucket = np.searchsorted(cuts, rank, side="right")[member_of]
    return {name: np.flatnonzero(bucket == i) for i, name in enumerate(shares)}


def units_of(dataset: Dataset) -> NDArray[np.int64]:
    """(n,) what must not be torn apart: the person where known, else the identical picture.

    Where people are known, two people who share a picture become one unit.
    """
    _, pictures = np.unique(dataset.content(), return_inverse=True)
    if dataset.identity is None:
        return pictures.astype(np.int64)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    unknown = dataset.identity == MISSING
    named = np.where(unknown, -1 - np.arange(len(dataset)), dataset.identity)
    _, people = np.unique(named, return_inverse=True)
    nodes = int(people.max()) + int(pictures.max()) + 2
    links = (np.ones(len(people)), (people, pictures + int(people.max()) + 1))
    _, component = connected_components(coo_array(links, shape=(nodes, nodes)), directed=False)
    units: NDArray[np.int64] = component[people].astype(np.int64)
    return units


def split_by_person(dataset: Dataset, seed: int) -> Splits:
    """Everything divided by person (by picture where people are unknown), shares `SHARES`."""
    parts = divide(units_of(dataset), SHARES, seed)
    how = "person" if dataset.identity is not None else "picture (people unknown)"
    shares = " ".join(f"{name} {share:.0%}" for name, share in SHARES.items())
    return Splits(
        **{name: dataset.view(rows) for name, rows in parts.items()},
        notes=(f"divided by {how}: {shares}",),
    )


def split_by_partition(dataset: Dataset, partition: NDArray[np.int64], seed: int) -> Splits:
    """Official 0 = train, 1 = validation, 2 = test: train is divided into fit and attack.

    Where a part is absent, everything is divided by person and the notes say so.
    """
    if any(not np.any(partition == part) for part in (0, 1, 2)):
        divided = split_by_person(dataset, seed)
        note = "the official partition lacks a part, so all is divided afresh"
        return replace(divided, notes=(note, *divided.notes))
    train = dataset.view(partition == 0)
    shares: dict[SplitName, float] = {"fit": FIT_SHARE_OF_TRAIN, "attack": 1 - FIT_SHARE_OF_TRAIN}
    parts = divide(units_of(train), shares, seed)
    return Splits(
        fit=train.view(parts["fit"]),
        attack=train.view(parts["attack"]),
        select=dataset.view(partition == 1),
        test=dataset.view(partition == 2),
        notes=("official partition; train divided by person into fit 55% and attack 45%",),
    )
