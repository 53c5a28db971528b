"""Where published pictures lie, and official parts without a validation set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from veil.data.dataset import IDENTITY, Dataset
from veil.data.image_files import FolderStore
from veil.data.published import open_pictures, read_names, split_by_train_and_test
from veil.errors import VeilError

COUNT = 200


def dataset(people: NDArray[np.int64] | None, hashes: NDArray[np.uint64]) -> Dataset:
    labels = {} if people is None else {"identity": people}
    images = np.zeros((len(hashes), 2, 2, 1), np.uint8)
    return Dataset("drawn", images, labels, dict.fromkeys(labels, IDENTITY), hashes)


def test_train_is_divided_and_test_is_kept() -> None:
    """0.42, 0.33 and 0.10 of 0.85 of the 80 people of train."""
    people = np.arange(COUNT) // 2
    part = (people >= 80).astype(np.int64)
    everything = dataset(people, np.arange(COUNT, dtype=np.uint64))
    splits = split_by_train_and_test(everything, part, seed=0)
    assert np.array_equal(splits.test.column("identity"), people[part == 1])
    counts = {name: len(set(split.column("identity"))) for name, split in splits.items()}
    assert counts == {"fit": 40, "attack": 31, "select": 9, "test": 20}
    assert splits.notes == ("official train, divided by person: fit 49% attack 39% select 12%",)
    other = split_by_train_and_test(everything, part, seed=1)
    assert set(other.fit.rows) != set(splits.fit.rows)


def test_copies_and_rows_of_no_part_are_left_out_and_counted() -> None:
    hashes = np.arange(COUNT, dtype=np.uint64)
    part = np.repeat([0, 1], [150, 50])
    hashes[[3, 4]] = hashes[199]  # train holds two copies of a picture of test
    part[10:13] = -1
    splits = split_by_train_and_test(dataset(None, hashes), part, seed=0)
    assert sum(len(split) for _, split in splits.items()) == COUNT - 5
    assert len(splits.test) == 50
    assert splits.notes[1:] == (
        "2 images left out of train: the same picture is in test",
        "3 images of no official part left out",
    )


@pytest.mark.parametrize(("only", "absent"), [(0, "test"), (1, "train")])
def test_without_one_part_all_is_divided(only: int, absent: str) -> None:
    everything = dataset(None, np.arange(COUNT, dtype=np.uint64))
    splits = split_by_train_and_test(everything, np.full(COUNT, only), seed=0)
    assert sum(len(split) for _, split in splits.items()) == COUNT
    assert splits.notes[0] == f"no official {absent} part, so all is divided afresh"


def test_the_pictures_folder_is_found_by_name_or_is_root(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.jpg").touch()
    # An empty folder of the right name is passed over.
    assert open_pictures(tmp_path, ("faces",), "faces").names() == ["other/a.jpg"]
    (tmp_path / "faces" / "b.jpg").touch()
    assert open_pictures(tmp_path, ("faces",), "faces").names() == ["b.jpg"]
    assert open_pictures(tmp_path / "faces", ("faces",), "faces").names() == ["b.jpg"]


def test_no_folder_and_no_pictures_are_said(tmp_path: Path) -> None:
    with pytest.raises(VeilError, match="nowhere: no such folder"):
        open_pictures(tmp_path / "nowhere", (), "faces")
    with pytest.raises(VeilError, match="no images; expected faces there"):
        open_pictures(tmp_path, (), "faces")


def test_names_that_say_nothing_are_refused_or_counted(tmp_path: Path) -> None:
    for name in ("1.jpg", "two.jpg", "3.jpg"):
        (tmp_path / name).touch()
    store = FolderStore(tmp_path)

    def number(name: str) -> int | None:
        return int(name[:-4]) if name[:-4].isdecimal() else None

    names, said, notes = read_names(store, number, "1.jpg", "skip")
    assert (names, said) == (["1.jpg", "3.jpg"], [1, 3])
    assert notes == ("1 images left out, not named like 1.jpg (two.jpg)",)
    with pytest.raises(VeilError, match=r"two\.jpg is not named like 1\.jpg \(1 such images\)"):
        read_names(store, number, "1.jpg", "raise")
    with pytest.raises(VeilError, match=r"none of its 3 images is named like x\.jpg"):
        read_names(FolderStore(tmp_path), {"9.jpg": 9}.get, "x.jpg", "skip")
