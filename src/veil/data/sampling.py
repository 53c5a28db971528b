"""Which rows make up each training batch: a pure function of the seed, the stage and the epoch."""

from __future__ import annotations

import numpy as np

from veil.data.dataset import MISSING, Dataset, Rows
from veil.errors import VeilError


def image_batches(count: int, batch_size: int, seed: int) -> list[Rows]:
    """Every position once, in random order; the incomplete last batch is left out.

    A set smaller than one batch is one batch.
    """
    order = np.random.default_rng(seed).permutation(count).astype(np.int64)
    whole = max(1, count // batch_size)
    return [order[i * batch_size : (i + 1) * batch_size] for i in range(whole)]


def pair_batches(dataset: Dataset, batch_size: int, seed: int) -> list[Rows]:
    """Batches of n positions in which photo i and photo i + n/2 show the same person.

    Anchors are drawn without replacement from the people with at least two photos, partners at
    random from the person's other photos; an epoch sees as many photos as the set holds. Photos of
    unknown people are left out.

    Raises:
        VeilError: people are unknown, or nobody has two photos.
    """
    people = dataset.identity
    if people is None:
        raise VeilError(f"{dataset.name}: face matching needs the label 'identity'; it has none")
    by_person = np.argsort(people, kind="stable")
    _, start, count = np.unique(people[by_person], return_index=True, return_counts=True)
    member = np.repeat(np.arange(len(count)), count)
    anchors = np.flatnonzero((count[member] > 1) & (people[by_person] != MISSING))
    if not anchors.size:
        raise VeilError(f"{dataset.name}: face matching needs two photos of a person; none has two")
    rng = np.random.default_rng(seed)
    anchors = rng.permutation(anchors)
    person = member[anchors]
    step = 1 + np.floor(rng.random(len(anchors)) * (count[person] - 1)).astype(np.int64)
    partners = start[person] + (anchors - start[person] + step) % count[person]
    half = min(batch_size // 2, len(anchors))
    whole = max(1, min(len(dataset) // (2 * half), len(anchors) // half))
    return [
        by_person[np.concatenate([anchors[i : i + half], partners[i : i + half]])]
        for i in range(0, whole * half, half)
    ]


def divided_batches(
    dataset: Dataset, batch_size: int, public_share: float, seed: int, division: int
) -> list[Rows]:
    """Batches of n positions: n/2 photos of the defender's own people, then n/2 of the public's.

    People (photos, where people are unknown) are divided once. An epoch sees every photo of the
    larger part once, and the other part as often as it takes.

    Args:
        dataset: what is sampled.
        batch_size: n.
        public_share: share of the people who are public, in (0, 1).
        seed: of this epoch's order.
        division: seed that decides who is public.

    Raises:
        VeilError: there are fewer than two people.
    """
    owners = np.arange(len(dataset)) if dataset.identity is None else dataset.identity
    people = np.unique(owners)
    if len(people) < 2:
        raise VeilError(f"{dataset.name}: one person cannot be divided into own and public photos")
    drawn = np.random.default_rng(division).permutation(people)
    public_people = min(max(1, round(public_share * len(people))), len(people) - 1)
    is_public = np.isin(owners, drawn[:public_people])
    own, public = np.flatnonzero(~is_public), np.flatnonzero(is_public)
    rng = np.random.default_rng(seed)
    half = max(1, batch_size // 2)
    whole = max(1, max(len(own), len(public)) // half)
    orders = [_repeated(part, whole * half, rng) for part in (own, public)]
    return [
        np.concatenate([order[i : i + half] for order in orders])
        for i in range(0, whole * half, half)
    ]


def _repeated(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    """`count` of the rows: all in random order, again and again."""
    times = -(-count // len(rows))
    return np.concatenate([rng.permutation(rows) for _ in range(times)])[:count]
