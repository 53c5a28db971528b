"""Copies of one photograph are found whatever was done to them, and stay in one split."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from veil.data.copies import near_copies, split_with_copies_together
from veil.data.dataset import IDENTITY, Dataset

COUNT = 60


def pictures(count: int = COUNT, seed: int = 1) -> NDArray[np.uint8]:
    """(count, 32, 32, 3): different smooth pictures."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(one).resize((32, 32))) for one in coarse]
    return np.stack(large)


def dataset(images: NDArray[np.uint8], people: NDArray[np.int64] | None = None) -> Dataset:
    hashes = np.array([hash(one.tobytes()) & (2**63 - 1) for one in images], dtype=np.uint64)
    labels = {} if people is None else {"identity": people}
    return Dataset("drawn", images, labels, dict.fromkeys(labels, IDENTITY), hashes)


def squeezed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Made small and large again."""
    return np.asarray(Image.fromarray(image).resize((18, 18)).resize((32, 32)))


def darkened(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return (image * 0.6 + 10).astype(np.uint8)


def noisy(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(2).normal(0, 10, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", [squeezed, darkened, noisy])
def test_a_changed_copy_is_found_and_nothing_else(change) -> None:  # type: ignore[no-untyped-def]
    images = pictures()
    images[41] = change(images[7])
    assert near_copies(dataset(images)).tolist() == [[7, 41]]


def test_every_pair_of_three_copies_is_found_once_across_blocks() -> None:
    """Two of the copies lie in the second block of the comparison."""
    images = np.random.default_rng(3).integers(0, 256, (2300, 16, 16, 1), dtype=np.uint8)
    images[2100] = images[2299] = images[5]
    assert near_copies(dataset(images)).tolist() == [[5, 2100], [5, 2299], [2100, 2299]]


def test_positions_are_those_of_the_view() -> None:
    images = pictures()
    images[41] = squeezed(images[7])
    view = dataset(images).view(np.array([41, 3, 7]))
    assert near_copies(view).tolist() == [[0, 2]]


def test_blank_and_tiny_pictures_are_copies_of_nothing() -> None:
    blank = np.repeat(np.array([0, 90, 255], np.uint8)[:, None, None, None], 32, axis=1)
    blank = np.ascontiguousarray(np.broadcast_to(blank, (3, 32, 32, 3)))
    assert len(near_copies(dataset(blank))) == 0
    tiny = pictures()[:, ::4, ::4]
    tiny[1] = tiny[0]
    assert len(near_copies(dataset(np.ascontiguousarray(tiny)))) == 0


def test_copies_share_a_split_at_every_seed() -> None:
    """A split by picture alone puts some of these ten copies elsewhere than their originals."""
    images = pictures()
    for at in range(10):
        images[50 + at] = squeezed(images[at])
    everything = dataset(images)
    for seed in range(5):
        splits = split_with_copies_together(everything, seed)
        where = {row: name for name, split in splits.items() for row in split.rows.tolist()}
        assert len(where) == COUNT
        assert all(where[at] == where[50 + at] for at in range(10))
    assert "20 pictures are near copies of another: kept together" in splits.notes


def test_two_people_with_copies_of_one_picture_share_a_split() -> None:
    images = pictures()
    people = np.arange(COUNT) // 2
    images[59] = squeezed(images[0])  # of person 29, and of person 0
    for seed in range(5):
        splits = split_with_copies_together(dataset(images, people), seed)
        shared = [name for name, split in splits.items() if {0, 29} & {*split.column("identity")}]
        assert len(shared) == 1
        assert splits.notes[0].startswith("divided by person")
