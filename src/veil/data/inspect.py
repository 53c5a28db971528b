"""What a data set holds, as plain figures: the body of `veil data inspect`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from veil.data.dataset import MISSING, Column, Dataset, Label

STRONGEST = 10


def summary(dataset: Dataset) -> dict[str, Any]:
    """Sizes, people, the balance of every label, and which labels go together.

    Returns:
        - "name", "images", "size" [height, width], "channels";
        - "copies": images whose very pixels occur earlier in the set;
        - "people": null where unknown, else "count" and the "fewest", "median" and "most" photos
          of one person;
        - "labels": name -> "kind", "missing" (rows) and, of a class, "shares" (class -> share of
          the known rows), of a number "lowest", "mean" and "highest";
        - "associations": the strongest pairs of classes, as "labels" [a, b] and "cramers_v",
          Cramér's V in [0, 1] over the rows in which both are known: sqrt(chi2 / (n (k - 1))), k
          the smaller number of classes that occur (Cramér 1946, section 21.9).
    """
    channels, height, width = dataset.image_shape
    return {
        "name": dataset.name,
        "images": len(dataset),
        "size": [height, width],
        "channels": channels,
        "copies": len(dataset) - len(np.unique(dataset.content())),
        "people": _people(dataset.identity),
        "labels": {
            name: _label(label, dataset.column(name))
            for name, label in dataset.schema.items()
            if label.kind != "identity"
        },
        "associations": _associations(dataset),
    }


def _people(identity: Column | None) -> dict[str, Any] | None:
    if identity is None:
        return None
    _, photos = np.unique(identity[identity != MISSING], return_counts=True)
    if not len(photos):
        return {"count": 0, "fewest": 0, "median": 0.0, "most": 0}
    return {
        "count": len(photos),
        "fewest": int(photos.min()),
        "median": float(np.median(photos)),
        "most": int(photos.max()),
    }


def _label(label: Label, column: Column) -> dict[str, Any]:
    about: dict[str, Any] = {"kind": label.kind}
    if label.is_class:
        known = column[column != MISSING]
        shares = np.bincount(known, minlength=len(label.classes)) / max(len(known), 1)
        about["missing"] = len(column) - len(known)
        about["shares"] = dict(zip(label.classes, shares.tolist(), strict=True))
        return about
    finite = np.isfinite(column.reshape(len(column), -1)).all(axis=1)
    about["missing"] = int((~finite).sum())
    if label.kind == "continuous" and finite.any():
        values = column[finite].astype(np.float64)
        about |= {
            "lowest": float(values.min()),
            "mean": float(values.mean()),
            "highest": float(values.max()),
        }
    return about


def _associations(dataset: Dataset) -> list[dict[str, Any]]:
    names = [name for name, label in dataset.schema.items() if label.is_class]
    if len(names) < 2:
        return []
    # One-hot columns of every class side by side: one product holds every contingency table.
    sizes = [len(dataset.schema[name].classes) for name in names]
    ends = np.cumsum([0, *sizes])
    hot = np.zeros((len(dataset), ends[-1]), dtype=np.float32)
    for start, name in zip(ends[:-1], names, strict=True):
        column = dataset.column(name)
        known = np.flatnonzero(column != MISSING)
        hot[known, start + column[known]] = 1
    counts = (hot.T @ hot).astype(np.float64)
    pairs = []
    for i, a in enumerate(names):
        for j in range(i + 1, len(names)):
            table = counts[ends[i] : ends[i + 1], ends[j] : ends[j + 1]]
            pairs.append({"labels": [a, names[j]], "cramers_v": cramers_v(table)})
    pairs.sort(key=lambda pair: -float(pair["cramers_v"]))  # type: ignore[arg-type]
    return pairs[:STRONGEST]


def cramers_v(table: NDArray[np.float64]) -> float:
    """Cramér's V of a contingency table; 0 where one of the two never varies."""
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    smaller = min(table.shape)
    if smaller < 2:
        return 0.0
    n = table.sum()
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    chi2 = ((table - expected) ** 2 / expected).sum()
    return float(min(1.0, np.sqrt(chi2 / (n * (smaller - 1)))))
