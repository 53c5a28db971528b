"""Guesses whose true recalls are known, for statistics to be tried on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def guesses(
    rng: np.random.Generator,
    recall: tuple[float, ...],
    people: int,
    photos: tuple[int, int] = (1, 1),
    likeness: float = 0.0,
    rare: float | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """(n,) classes, whether each was guessed rightly, and people.

    A person's photos share the class and a success probability whose intra-class correlation is
    `likeness`.

    Args:
        recall: the success probability of each class.
        photos: how many each person has, from and to.
        rare: how frequent the last class is among people; None for equal frequencies.
    """
    classes = len(recall)
    last = 1 / classes if rare is None else rare
    label = rng.choice(
        classes, size=people, p=[(1 - last) / (classes - 1)] * (classes - 1) + [last]
    )
    success = np.array(recall)[label]
    if likeness:
        strength = (1 - likeness) / likeness
        success = rng.beta(success * strength, (1 - success) * strength)
    person = np.repeat(np.arange(people), rng.integers(photos[0], photos[1] + 1, people))
    return label[person], rng.random(len(person)) < success[person], person
