"""What face data sets have in common as they are published: a place for pictures, names that say
who or what they show, and an official training and test part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from veil.data.cache import Images, OnBad
from veil.data.dataset import MISSING, Dataset
from veil.data.image_files import ARCHIVES, FolderStore, Store, open_store
from veil.data.splits import SHARES, Splits, divide, split_by_person, units_of
from veil.errors import VeilError

TRAIN, TEST = 0, 1

Said = TypeVar("Said")


class PublishedConfig(BaseModel):
    """What every published data set of pictures asks for.

    Attributes:
        source: which data set.
        root: the folder that holds its pictures (or their archive) and its label files.
        size: height and width of the stored images in pixels.
        channels: 3 (RGB) or 1 (grey).
        crop: side of the centre square that is kept, in pixels of the file; the largest square by
            default.
        on_bad: "raise" at an image that is missing, cannot be decoded or is not named as the data
            set names its images, or "skip" and count it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    root: Path
    size: int = Field(64, ge=1)
    channels: Literal[1, 3] = 3
    crop: int | None = Field(None, ge=1)
    on_bad: OnBad = "raise"


def open_pictures(root: Path, names: Sequence[str], expected: str) -> Store:
    """The first folder or archive in `root` with one of these names that holds any, else `root`.

    Args:
        root: the data set's folder, or already the folder of the pictures.
        names: what the pictures' folder is called, without an archive's ending, best first.
        expected: what should be there, for the message ("UTKFace or part1, part2, part3").

    Returns:
        The store, open.

    Raises:
        VeilError: there are no pictures, or an archive cannot be read.
    """
    if not root.is_dir():
        raise VeilError(f"{root}: no such folder")
    for name in names:
        for ending in ("", *ARCHIVES):
            path = root / (name + ending)
            if path.is_dir() if ending == "" else path.is_file():
                store = open_store(path)
                if store.names():
                    return store
                store.close()
    whole = FolderStore(root)
    if not whole.names():
        raise VeilError(f"{root}: no images; expected {expected} there (unpack a .7z first)")
    return whole


def read_names(
    store: Store, read: Callable[[str], Said | None], form: str, on_bad: OnBad
) -> tuple[list[str], list[Said], tuple[str, ...]]:
    """The pictures whose names can be read, what the names say, and notes on the others.

    Args:
        store: where the pictures are.
        read: a posix path in the store -> what its name says, or None where it says nothing.
        form: what names look like, for the message ("age_gender_race_date.jpg").
        on_bad: "raise" at a name that says nothing, or "skip" such pictures.

    Raises:
        VeilError: such a name, and `on_bad` is "raise"; no name at all can be read.
    """
    names, said, silent = [], [], []
    for name in store.names():
        what = read(name)
        if what is None:
            silent.append(name)
        else:
            names.append(name)
            said.append(what)
    if not names:
        raise VeilError(
            f"{store.path}: none of its {len(silent)} images is named like {form} "
            f"({first_few(silent)}); set root to the folder of the data set"
        )
    if silent and on_bad == "raise":
        raise VeilError(
            f"{store.where(silent[0])} is not named like {form} ({len(silent)} such images): "
            'remove them, or set on_bad = "skip" to leave them out'
        )
    notes = (f"{len(silent)} images left out, not named like {form} ({first_few(silent)})",)
    return names, said, notes if silent else ()


def bad_images(images: Images) -> tuple[str, ...]:
    """A note on the pictures that could not be decoded, where there are any."""
    reasons = [f"{bad.name} {bad.reason}" for bad in images.skipped]
    return (f"{len(reasons)} bad images left out ({first_few(reasons)})",) if reasons else ()


def first_few(names: Sequence[str]) -> str:
    """The first three names, for a message or a note."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def split_by_train_and_test(dataset: Dataset, part: NDArray[np.int64], seed: int) -> Splits:
    """Official training and test parts without validation: `select` is taken out of train.

    Train is divided by person (by picture where people are unknown) in the proportions of `SHARES`.
    A picture of train with an identical copy in test is left out. Where one of the parts is absent,
    everything is divided by person and the notes say so.

    Args:
        dataset: all pictures.
        part: (n,) `TRAIN` or `TEST`; -1 where unknown, which leaves the row out.
        seed: decides who goes where within train.

    Raises:
        VeilError: the parts share a person, or a split is empty.
    """
    in_train, in_test = part == TRAIN, part == TEST
    if not in_train.any() or not in_test.any():
        divided = split_by_person(dataset, seed)
        note = f"no official {'test' if in_train.any() else 'train'} part, so all is divided afresh"
        return replace(divided, notes=(note, *divided.notes))
    copied = in_train & np.isin(dataset.content(), dataset.content()[in_test])
    train = dataset.view(in_train & ~copied)
    shares = {name: share for name, share in SHARES.items() if name != "test"}
    whole = sum(shares.values())
    shares = {name: share / whole for name, share in shares.items()}
    parts = divide(units_of(train), shares, seed)
    how = "person" if dataset.identity is not None else "picture (people unknown)"
    shown = " ".join(f"{name} {share:.0%}" for name, share in shares.items())
    notes = [f"official train, divided by {how}: {shown}"]
    if copied.any():
        notes.append(f"{copied.sum()} images left out of train: the same picture is in test")
    if unknown := int((part == MISSING).sum()):
        notes.append(f"{unknown} images of no official part left out")
    return Splits(
        fit=train.view(parts["fit"]),
        attack=train.view(parts["attack"]),
        select=train.view(parts["select"]),
        test=dataset.view(in_test),
        notes=tuple(notes),
    )
