"""What a method sees: images in [0, 1] and named labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from veil.errors import VeilError, nearest


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of images with their labels.

    Attributes:
        x: (n, c, h, w) float32 in [0, 1], c = 3 (RGB) or 1 (grey); channels-last in memory.
        labels: name -> (n,) int64 classes, (n,) float32 values, or (n, k) float32 landmarks.
            A missing class is -1, a missing value is NaN.
    """

    x: Tensor
    labels: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        try:
            return self.labels[name]
        except KeyError:
            hint = nearest(name, self.labels)
            raise VeilError(f"the batch has no label '{name}': {hint}") from None

    def __len__(self) -> int:
        return self.x.shape[0]

    def split(self, parts: int) -> list[Batch]:
        """Consecutive batches of nearly equal size, for methods that play several a round."""
        columns = {name: label.tensor_split(parts) for name, label in self.labels.items()}
        return [
            Batch(x, {name: column[i] for name, column in columns.items()})
            for i, x in enumerate(self.x.tensor_split(parts))
        ]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device` (itself when it is there already)."""
        if self.x.device == torch.device(device):
            return self
        moved = {name: label.to(device, non_blocking=True) for name, label in self.labels.items()}
        return Batch(self.x.to(device, non_blocking=True), moved)
