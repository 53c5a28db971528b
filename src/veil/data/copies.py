"""One photograph, saved twice.

Collections from the web hold some photographs in two sizes, croppings or qualities, at times with
other labels or under another person's name. No hash finds such copies, but an attacker who has seen
one knows the other, so they belong in one split.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from veil.data.dataset import Dataset
from veil.data.splits import SHARES, Splits, divide, units_of

ALIKE = 0.96
"""Correlation of two grey 16 x 16 pictures from which they count as copies.

Among 6,008 faces of UTKFace the seven pairs above it are copies; among 7,701 of LFW, four of five
are, and the fifth is of one sitting. The next pairs below it show different people.
"""

_SIDE = 16  # pictures are compared at this size ...
_COARSE = 8  # ... once they correlate at this one, which is four times as fast
_COARSELY_ALIKE = 0.95
_BLOCK = 2048


def near_copies(dataset: Dataset) -> NDArray[np.int64]:
    """(m, 2) positions of this view, first < second: pairs of pictures that are copies, or nearly.

    Pictures below 16 x 16 are too small to tell copies from likenesses: none are found there.
    Comparing n pictures takes n * n / 2 dot products of 64 numbers: seconds for 20,000 pictures.
    """
    if min(dataset.image_shape[1:]) < _SIDE:
        return np.empty((0, 2), dtype=np.int64)
    fine, coarse = _shrunk(dataset)
    pairs = []
    for start in range(0, len(coarse), _BLOCK):
        alike = coarse[start : start + _BLOCK] @ coarse[start:].T > _COARSELY_ALIKE
        a, b = np.nonzero(np.triu(alike, 1))
        same = np.einsum("nd,nd->n", fine[start + a], fine[start + b]) > ALIKE
        pairs.append(np.stack([start + a[same], start + b[same]], axis=1))
    return np.concatenate(pairs)


def split_with_copies_together(dataset: Dataset, seed: int) -> Splits:
    """Everything divided by person (by picture where people are unknown), near copies together.

    Two people of whom there are copies of one picture become one unit.

    Args:
        dataset: all pictures.
        seed: decides who goes where.

    Raises:
        VeilError: a split is empty.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    units = units_of(dataset)
    pairs = near_copies(dataset)
    linked = (np.ones(len(pairs)), (units[pairs[:, 0]], units[pairs[:, 1]]))
    count = int(units.max()) + 1
    _, group = connected_components(coo_array(linked, shape=(count, count)), directed=False)
    parts = divide(group[units].astype(np.int64), SHARES, seed)
    how = "person" if dataset.identity is not None else "picture (people unknown)"
    shares = " ".join(f"{name} {share:.0%}" for name, share in SHARES.items())
    notes = [f"divided by {how}: {shares}"]
    if len(pairs):
        notes.append(f"{len(np.unique(pairs))} pictures are near copies of another: kept together")
    return Splits(
        **{name: dataset.view(rows) for name, rows in parts.items()},
        notes=tuple(notes),
    )


def _shrunk(dataset: Dataset) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(n, 256) and (n, 64): grey pictures of 16 x 16 and 8 x 8, of mean 0 and length 1."""
    fine, coarse = [], []
    for start in range(0, len(dataset), _BLOCK):
        x = dataset.batch(slice(start, start + _BLOCK), ()).x.mean(dim=1, keepdim=True)
        small = adaptive_avg_pool2d(x, _SIDE)
        fine.append(_standardised(small))
        coarse.append(_standardised(adaptive_avg_pool2d(small, _COARSE)))
    return np.concatenate(fine), np.concatenate(coarse)


def _standardised(pictures: torch.Tensor) -> NDArray[np.float32]:
    flat = pictures.flatten(1)
    flat = flat - flat.mean(dim=1, keepdim=True)
    # A blank picture becomes zeros, which correlate with nothing.
    standard: NDArray[np.float32] = torch.nn.functional.normalize(flat, eps=1e-3).numpy()
    return standard
