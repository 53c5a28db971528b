"""A set of labelled images that were decoded once: uint8 in a memory map, labels in columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from veil.data.batch import Batch
from veil.errors import VeilError, nearest

Rows = NDArray[np.int64]
Column = NDArray[Any]
LabelKind = Literal["binary", "multiclass", "continuous", "landmarks", "identity", "picture"]
MISSING = -1
RECONSTRUCTION = "reconstruction"
"""The private "label" that is the picture itself: what a reconstruction attack is after."""


@dataclass(frozen=True, slots=True)
class Label:
    """What one column means.

    Attributes:
        kind: "binary" and "multiclass" are int64 classes 0..K-1 (-1 = missing), "identity" is an
            int64 person number, "continuous" is float32 (NaN = missing), "landmarks" is
            (n, 2k) float32 pixel coordinates x1, y1, x2, y2, ... of the stored image. "picture" is
            the image itself, which has no column.
        classes: one name per class, in order; empty unless binary or multiclass.
    """

    kind: LabelKind
    classes: tuple[str, ...] = ()

    @property
    def is_class(self) -> bool:
        return self.kind in ("binary", "multiclass")


BINARY = Label("binary", ("no", "yes"))
IDENTITY = Label("identity")
PICTURE = Label("picture")


class Dataset:
    """Images and labels, or a view of some rows of them (views share the memory map).

    Args:
        name: where the images come from, for messages and reports.
        images: (N, h, w, c) uint8, c = 1 or 3; usually a memory map.
        labels: name -> (N,) or (N, 2k) column; dtypes as `Label` says.
        schema: name -> `Label`, the same names as `labels`.
        hashes: (N,) uint64, a hash of each decoded image, to refuse overlapping splits.
        rows: the rows of `images` that this view holds; all of them by default.
        files: (N,) the file that each image came from, a posix path below the images' folder;
            None where they came from no files.
    """

    def __init__(
        self,
        name: str,
        images: NDArray[np.uint8],
        labels: Mapping[str, Column],
        schema: Mapping[str, Label],
        hashes: NDArray[np.uint64],
        rows: Rows | None = None,
        files: Sequence[str] | None = None,
    ) -> None:
        if images.ndim != 4 or images.dtype != np.uint8 or images.shape[3] not in (1, 3):
            raise VeilError(
                f"{name}: images must be (n, h, w, 1 or 3) uint8, not {images.shape} {images.dtype}"
            )
        if labels.keys() != schema.keys():
            raise VeilError(f"{name}: labels {sorted(labels)} but schema {sorted(schema)}")
        for label, column in labels.items():
            if len(column) != len(images):
                raise VeilError(f"{name}: {len(images)} images but {len(column)} '{label}' labels")
        if files is not None and len(files) != len(images):
            raise VeilError(f"{name}: {len(images)} images but {len(files)} files")
        self.name = name
        self.images = images
        self.schema = dict(schema)
        self.hashes = hashes
        self.rows = np.arange(len(images), dtype=np.int64) if rows is None else rows
        self._labels = {label: np.ascontiguousarray(column) for label, column in labels.items()}
        self._pixels = torch.from_numpy(images)
        self._files = files

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of every image."""
        _, h, w, c = self.images.shape
        return c, h, w

    @property
    def identity(self) -> Column | None:
        """(n,) person numbers of this view, or None where people are unknown."""
        return self.column("identity") if "identity" in self.schema else None

    @property
    def files(self) -> list[str] | None:
        """(n,) names of this view's files, or None where the images came from no files."""
        return None if self._files is None else [self._files[row] for row in self.rows]

    def label(self, name: str) -> Label:
        """What `name` means; an unknown name is an error with the nearest spelling."""
        if name == RECONSTRUCTION:
            return PICTURE
        try:
            return self.schema[name]
        except KeyError:
            hint = nearest(name, self.schema)
            raise VeilError(f"{self.name} has no label '{name}': {hint}") from None

    def column(self, name: str) -> Column:
        """(n,) or (n, 2k): the label `name` of this view's rows, in order."""
        self.label(name)
        column: Column = self._labels[name][self.rows]
        return column

    def content(self) -> NDArray[np.uint64]:
        """(n,) hash of each image of this view."""
        content: NDArray[np.uint64] = self.hashes[self.rows]
        return content

    def view(self, chosen: NDArray[Any]) -> Dataset:
        """The rows of this view picked by positions or by a boolean mask."""
        return Dataset(
            self.name,
            self.images,
            self._labels,
            self.schema,
            self.hashes,
            self.rows[chosen],
            self._files,
        )

    def having(self, names: Collection[str]) -> Dataset:
        """The rows in which none of the named labels is missing; every row has its picture."""
        known = np.ones(len(self), dtype=bool)
        for name in names:
            if self.label(name).kind == "picture":
                continue
            column = self.column(name)
            if self.label(name).kind in ("continuous", "landmarks"):
                known &= np.isfinite(column.reshape(len(column), -1)).all(axis=1)
            else:
                known &= column != MISSING
        return self if bool(known.all()) else self.view(known)

    def batch(
        self, positions: NDArray[Any] | slice, labels: Collection[str] | None = None
    ) -> Batch:
        """The images at `positions` of this view, with the named labels (all by default).

        Returns:
            A batch whose x is (n, c, h, w) float32 in [0, 1], channels-last in memory.
        """
        rows = torch.from_numpy(self.rows[positions])
        picked = self._pixels.index_select(0, rows).permute(0, 3, 1, 2)
        x = picked.to(torch.float32).mul_(1 / 255)
        names = self.schema if labels is None else labels
        return Batch(x, {n: torch.from_numpy(self._labels[n])[rows] for n in names})
