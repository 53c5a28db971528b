"""Made-up releases, small enough to be attacked in a test, and a cheap set of attackers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from veil.attacks.attack import Attack, AttackSplit
from veil.attacks.constant import LabelOnly, Prior
from veil.attacks.copying import CopyLearned
from veil.attacks.linear import Logistic
from veil.attacks.matching import Distance, LinearDiscriminant
from veil.attacks.neighbours import Neighbours
from veil.attacks.reconstruction import LinearDecoder, MeanFace
from veil.attacks.regression import MeanOnly, Ridge
from veil.attacks.suites import Suite
from veil.data.dataset import BINARY, IDENTITY, Label
from veil.evidence import ATTACK_SPLITS, Evidence

Array = NDArray[Any]
SHARES = (0.5, 0.2, 0.3)


def cheap(*attacks: Attack, name: str = "cheap") -> Suite:
    """A suite of these attackers; by default without boosting or networks: a fifth of a second."""
    chosen = attacks or (
        Prior(),
        LabelOnly(),
        CopyLearned(Logistic()),
        Logistic(),
        Neighbours("whitened"),
    )
    return Suite(
        name=name,
        attribute=chosen,
        parts=chosen,
        quantity=(MeanOnly(), Ridge()),
        identity=(Distance(), LinearDiscriminant()),
        reconstruction=(MeanFace(), LinearDecoder()),
        heads={"attribute": (Logistic(),), "quantity": (Ridge(),), "identity": (Distance(),)},
        ceilings={
            "attribute": (Logistic("whitened"),),
            "quantity": (Ridge("whitened"),),
            "identity": (LinearDiscriminant(),),
        },
        scans=False,
    )


def divided(array: Array) -> dict[AttackSplit, Array]:
    """The rows in order: half attack, a fifth select, the rest test."""
    ends = np.round(np.cumsum(SHARES) * len(array)).astype(int)[:-1]
    return dict(zip(ATTACK_SPLITS, np.split(array, ends), strict=True))


def tensors(array: Array) -> dict[AttackSplit, Tensor]:
    """`divided`, as float32 tensors."""
    return {s: torch.from_numpy(part.astype(np.float32)) for s, part in divided(array).items()}


def made_up(
    z: Array,
    s: Array,
    *,
    y: Array | None = None,
    identity: Array | None = None,
    originals: Array | None = None,
    private: tuple[str, ...] = ("s",),
    utility: tuple[str, ...] | None = None,
    more: dict[str, Array] | None = None,
) -> Evidence:
    """Evidence whose rows are divided in order.

    Args:
        z: (n, ...) the release; s, y: (n,) classes, -1 where missing.
        identity: (n,) people, consecutive so that no split shares one.
        originals: (n, c, h, w) in [0, 1].
        private, utility: what is attacked and kept; y is kept by default.
        more: further labels by name.
    """
    columns = {"s": s} | ({} if y is None else {"y": y}) | (more or {})
    images = None if originals is None else tensors(originals)
    return Evidence(
        name="made up",
        z=tensors(z),
        labels={name: divided(column) for name, column in columns.items()},
        meaning={name: meaning_of(column) for name, column in columns.items()}
        | {"identity": IDENTITY},
        private=private,
        utility=(() if y is None else ("y",)) if utility is None else utility,
        identity=None if identity is None else divided(identity),
        originals=None if images is None else images.__getitem__,
        originals_key="" if originals is None else str(originals.sum()),
    )


def meaning_of(column: Array) -> Label:
    """What classes 0..K-1 mean."""
    count = int(column.max()) + 1
    return BINARY if count == 2 else Label("multiclass", tuple(map(str, range(count))))


def write(path: Path, **arrays: Array) -> Path:
    """An .npz file of these arrays."""
    np.savez(path, allow_pickle=False, **arrays)
    return path
