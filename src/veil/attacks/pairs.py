"""Same person or not: pairs to ask about, and the figures of an embedding that answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from veil.attacks.attack import Floats, Guess, Ints, Knowledge
from veil.data.dataset import MISSING
from veil.errors import VeilError
from veil.metrics import (
    Flags,
    Reals,
    best_threshold,
    verification_accuracy,
    verification_scores,
)
from veil.seeds import seed_for

PAIRS = 10_000


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows of one split.

    Attributes:
        left, right: (p,) rows.
        same: (p,) whether they show one person.
    """

    left: Ints
    right: Ints
    same: Flags

    def __len__(self) -> int:
        return len(self.same)


def draw_pairs(identity: Ints, seed: int, count: int = PAIRS) -> Pairs:
    """Balanced pairs: half of one person, half of two; decided by `seed` alone.

    Of one person: a picture, then another of the same person. Of two: a picture, then any *other
    person* with equal chance, then one of their pictures. No pair occurs twice, in either order;
    where one kind is too rare for half of `count`, both kinds are as many as that one.

    Args:
        identity: (n,) person numbers; rows of -1 are never drawn.
        count: pairs wanted.

    Raises:
        VeilError: nobody has two pictures, or there is only one person.
    """
    rng = np.random.default_rng(seed_for(seed, "pairs"))
    known = np.flatnonzero(identity != MISSING)
    rows = known[np.argsort(identity[known], kind="stable")]
    _, first, size = np.unique(identity[rows], return_index=True, return_counts=True)
    owner = np.repeat(np.arange(len(size)), size)
    together = int((size * (size - 1) // 2).sum())
    apart = len(rows) * (len(rows) - 1) // 2 - together
    if together == 0 or apart == 0:
        lacks = "nobody has two pictures" if apart or len(rows) < 2 else "all show one person"
        raise VeilError(f"no pairs can be drawn from {len(rows)} pictures: {lacks}")
    each = min(count // 2, together, apart)

    def one_person(many: int) -> tuple[Ints, Ints]:
        left = rng.choice(np.flatnonzero(size[owner] > 1), many)
        start, photos = first[owner[left]], size[owner[left]]
        return left, start + (left - start + rng.integers(1, photos)) % photos

    def two_people(many: int) -> tuple[Ints, Ints]:
        left = rng.integers(0, len(rows), many)
        other = (owner[left] + rng.integers(1, len(size), many)) % len(size)
        return left, first[other] + rng.integers(0, size[other])

    def all_of_one_person() -> list[tuple[Ints, Ints]]:
        corners = [np.triu_indices(photos, 1) for photos in size]
        return [(start + a, start + b) for start, (a, b) in zip(first, corners, strict=True)]

    def all_of_two_people() -> list[tuple[Ints, Ints]]:
        ends = first + size
        later = [
            (np.arange(a, b), np.arange(b, len(rows))) for a, b in zip(first, ends, strict=True)
        ]
        return [(np.repeat(a, len(b)), np.tile(b, len(a))) for a, b in later]

    def distinct(
        draw: Callable[[int], tuple[Ints, Ints]],
        every: Callable[[], list[tuple[Ints, Ints]]],
        exist: int,
    ) -> tuple[Ints, Ints]:
        if exist <= 4 * each:  # too few to find by chance: list them
            left, right = (np.concatenate(side) for side in zip(*every(), strict=True))
            chosen = rng.permutation(exist)[:each]
            return left[chosen], right[chosen]
        keys = np.empty(0, dtype=np.int64)
        while len(keys) < each:
            left, right = draw(each)
            found = np.minimum(left, right) * len(rows) + np.maximum(left, right)
            found = np.concatenate([keys, found])
            keys = found[np.sort(np.unique(found, return_index=True)[1])]
        return keys[:each] // len(rows), keys[:each] % len(rows)

    one = distinct(one_person, all_of_one_person, together)
    two = distinct(two_people, all_of_two_people, apart)
    left, right = (rows[np.concatenate(side)] for side in zip(one, two, strict=True))
    return Pairs(left, right, np.arange(2 * each) < each)


@dataclass(frozen=True)
class Matching:
    """How well embeddings tell people apart.

    Attributes:
        scores: of the test pairs: verification_accuracy, auc, eer, tar_at_far_0.01; and rank1,
            where the split has probes.
        select: verification accuracy on the select pairs at the threshold chosen there.
        threshold: distance up to which two releases are said to show one person.
        same, distance: (p,) of the test pairs; people: (p, 2) the person on either side: what
            `statistics.pair_interval` needs.
    """

    scores: dict[str, float]
    select: float
    threshold: float
    same: Flags
    distance: Reals
    people: Ints


def score_matching(guess: Guess, select_identity: Ints, test_identity: Ints, seed: int) -> Matching:
    """Threshold from pairs of select, scores on pairs of test; the pairs depend on `seed` only.

    Raises:
        VeilError: embeddings that are not finite, or a split without a pair of one person.
    """
    chosen = draw_pairs(select_identity, seed_for(seed, "select"))
    select_distance = distances(guess.select, chosen)
    threshold = best_threshold(chosen.same, select_distance)
    asked = draw_pairs(test_identity, seed_for(seed, "test"))
    distance = distances(guess.test, asked)
    scores = verification_scores(asked.same, distance, threshold)
    return Matching(
        scores={**scores, "rank1": rank1(guess.test, test_identity)},
        select=verification_accuracy(chosen.same, select_distance, threshold),
        threshold=threshold,
        same=asked.same,
        distance=distance,
        people=np.stack([test_identity[asked.left], test_identity[asked.right]], axis=1),
    )


def distances(embedding: Floats, pairs: Pairs) -> Reals:
    """(p,) Euclidean distance of each pair of rows of `embedding` (n, d)."""
    if not np.isfinite(embedding).all():
        raise VeilError("the attacker's embeddings are not finite: it diverged")
    parts = np.array_split(np.arange(len(pairs)), 1 + len(pairs) // 1000)
    return np.concatenate(
        [
            np.linalg.norm(embedding[pairs.left[rows]] - embedding[pairs.right[rows]], axis=1)
            for rows in parts
        ]
    )


def rank1(embedding: Floats, identity: Ints) -> float:
    """Share of probes whose nearest gallery picture is their own person's, in [0, 1].

    The gallery holds everybody's first picture, the probes are the others; chance is 1 / people.
    """
    known = np.flatnonzero(identity != MISSING)
    _, first = np.unique(identity[known], return_index=True)
    gallery, probes = known[first], np.delete(known, first)
    shown = embedding[gallery]
    length = np.square(shown).sum(axis=1)
    nearest = [
        np.argmin(length - 2 * embedding[rows] @ shown.T, axis=1)
        for rows in np.array_split(probes, 1 + len(probes) // 1000)
    ]
    return float(np.mean(identity[gallery[np.concatenate(nearest)]] == identity[probes]))


def recurring_people(identity: Ints) -> tuple[Tensor, Tensor, int]:
    """Rows (m,) of people with two pictures or more, their numbers (m,) from 0, and how many."""
    known, member, count = np.unique(identity, return_inverse=True, return_counts=True)
    useful = (count > 1) & (known != MISSING)
    rows = np.flatnonzero(useful[member])
    people, person = np.unique(identity[rows], return_inverse=True)
    return torch.from_numpy(rows), torch.from_numpy(person), len(people)


def too_few_people(knowledge: Knowledge) -> str | None:
    """Why an attacker cannot learn from, or be chosen by, pairs of one person; None if it can."""
    for split, identity in knowledge.s.items():
        if recurring_people(identity)[2] < 2:
            return f"'{split}' has fewer than two people with two pictures each"
    return None
