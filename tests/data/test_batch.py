"""Batches are divided in order."""

from __future__ import annotations

import torch

from veil.data.batch import Batch


def test_a_split_batch_keeps_pictures_and_labels_together() -> None:
    x = torch.arange(7.0).reshape(7, 1, 1, 1)
    parts = Batch(x, {"n": torch.arange(7)}).split(3)
    assert [len(part) for part in parts] == [3, 2, 2]
    for part in parts:
        assert part["n"].tolist() == part.x.flatten().tolist()
    assert torch.equal(torch.cat([part.x for part in parts]), x)
