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
