"""FairFace (Kärkkäinen and Joo, WACV 2021): faces balanced over seven races, from Flickr.

Under `root`: `fairface_label_train.csv` and `fairface_label_val.csv` with the columns file, age,
gender, race and (not needed) service_test; and the pictures `train/1.jpg`, `val/1.jpg`, ... in
`root` or in `fairface-img-margin025-trainval` (or `margin125`) as a folder, .zip, .tar or .tar.gz.
Either label file is enough, and so is a part of the pictures with on_bad = "skip".

Spreadsheets turn the age groups 3-9 and 10-19 into dates ("9-Mar", "03-Sep", "19-Oct", "Oct-19"),
which are turned back. People are unknown. CC BY 4.0; see https://github.com/joojs/fairface.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from veil.data.cache import Images, Progress, decoded_images
from veil.data.columns import Cell, Table, read_table
from veil.data.dataset import BINARY, MISSING, Dataset, Label
from veil.data.face_attributes import AGE_GROUPS, RACES
from veil.data.image_files import ImageFiles
from veil.data.published import (
    TEST,
    TRAIN,
    PublishedConfig,
    bad_images,
    first_few,
    open_pictures,
    split_by_train_and_test,
)
from veil.data.splits import Splits
from veil.errors import VeilError, nearest

PARTS = {"train": TRAIN, "val": TEST}
PICTURES = ("fairface-img-margin025-trainval", "fairface-img-margin125-trainval")
SCHEMA = {
    "age_group": Label("multiclass", AGE_GROUPS),
    "gender": Label("binary", ("male", "female")),
    "race": Label("multiclass", RACES),
    "service_test": BINARY,
}

_COLUMNS = {"age_group": "age", "gender": "gender", "race": "race", "service_test": "service_test"}
_MONTHS = {"mar": 3, "sep": 9, "oct": 10}
_DATE = re.compile(r"([0-9]+|mar|sep|oct)[-/ ]([0-9]+|mar|sep|oct)")


class FairFaceConfig(PublishedConfig):
    """FairFace under `root`.

    Labels: "age_group" (nine), "gender", "race" (seven) and "service_test".

    There are 224 pixels to crop, or 448 with the margin of 1.25.
    """

    source: Literal["fairface"] = "fairface"

    def dataset(self, progress: Progress | None = None) -> Dataset:
        """All images with their labels, train before validation.

        Raises:
            VeilError: a file is missing, is not what its name says, or a line of it is wrong; an
                image is missing or bad and `on_bad` is "raise".
        """
        return _load(self, progress).dataset

    def splits(self, seed: int, progress: Progress | None = None) -> Splits:
        """`test` is the official validation set, the others are divided out of train.

        The official test set is not published, and figures in the literature are figures on the
        validation set: nothing may be chosen on it.

        Args:
            seed: decides who goes where within train.
            progress: called with (images decoded, images in all).

        Raises:
            VeilError: as `dataset`; or a split is empty.
        """
        loaded = _load(self, progress)
        splits = split_by_train_and_test(loaded.dataset, loaded.part, seed)
        both = len(np.unique(loaded.part)) == len(PARTS)
        notes = ("test is FairFace's validation set",) if both else ()
        return replace(splits, notes=notes + splits.notes + loaded.notes)


@dataclass(frozen=True, slots=True)
class _Loaded:
    dataset: Dataset
    part: NDArray[np.int64]
    notes: tuple[str, ...]


def age_group(text: str) -> str:
    """An age group as FairFace writes it, from what a spreadsheet may have made of it.

    A month's name stands for its number, and the lower number comes first: 9 March and 3 September
    are 3-9, 19 October and October '19 are 10-19.
    """
    found = _DATE.fullmatch(text.strip().lower())
    if found is None:
        return text
    low, high = sorted(_MONTHS.get(word) or int(word) for word in found.groups())
    return f"{low}-{high}"


def _load(config: FairFaceConfig, progress: Progress | None) -> _Loaded:
    names: list[str] = []
    columns: dict[str, list[NDArray[np.int64]]] = {name: [] for name in SCHEMA}
    part: list[int] = []
    for word, number in PARTS.items():
        path = config.root / f"fairface_label_{word}.csv"
        if not (path.is_file() or path.is_symlink()):
            continue
        table = read_table(path)
        names += _files(table, names)
        part += [number] * len(table.lines)
        for name, label in SCHEMA.items():
            columns[name].append(_classes(table, _COLUMNS[name], label))
    if not names:
        raise VeilError(
            f"{config.root}: no fairface_label_train.csv or fairface_label_val.csv there; "
            "set root to the folder that holds them"
        )
    rows, files, images, notes = _images(config, names, progress)
    labels = {name: np.concatenate(parts)[rows] for name, parts in columns.items()}
    dataset = Dataset("fairface", images.pixels, labels, SCHEMA, images.hashes, files=files)
    return _Loaded(dataset, np.array(part, dtype=np.int64)[rows], notes)


def _files(table: Table, before: Sequence[str]) -> list[str]:
    """Each row's picture as `train/1.jpg`, all different and none of them named before."""
    seen = set(before)
    files = []
    for row, cell in enumerate(_cells(table, "file")):
        if cell is None:
            raise table.bad(row, "names no file; remove the line")
        name = _key(cell)
        if name in seen:
            raise table.bad(row, f"'{cell}' is listed already; remove one of the lines")
        seen.add(name)
        files.append(name)
    return files


def _classes(table: Table, column: str, label: Label) -> NDArray[np.int64]:
    """(n,) classes of a column, -1 where a cell is empty; service_test may lack altogether.

    Case does not count, nor does a blank for an underscore.
    """
    if column == "service_test" and column not in table.columns:
        return np.full(len(table.lines), MISSING)
    # no/yes is written False/True.
    words = ("false", "true") if label == BINARY else label.classes
    number = {_plain(word): at for at, word in enumerate(words)}
    classes = np.full(len(table.lines), MISSING)
    for row, cell in enumerate(_cells(table, column)):
        if cell is None:
            continue
        word = _plain(age_group(cell) if column == "age" else cell)
        if word not in number:
            shown = ", ".join(words)
            raise table.bad(row, f"'{cell[:40]}' in column '{column}' is none of {shown}")
        classes[row] = number[word]
    return classes


def _cells(table: Table, column: str) -> list[Cell]:
    if column not in table.columns:
        hint = nearest(column, table.columns)
        raise VeilError(f"{table.path} has no column '{column}': {hint}")
    return table.columns[column]


def _plain(word: str) -> str:
    return word.lower().replace("_", " ")


def _key(name: str) -> str:
    """The last folder and the name: `train/1.jpg`, wherever the folder `train` lies."""
    return "/".join(name.replace("\\", "/").split("/")[-2:])


def _images(
    config: FairFaceConfig, listed: Sequence[str], progress: Progress | None
) -> tuple[NDArray[np.int64], list[str], Images, tuple[str, ...]]:
    """The rows whose picture is there, their names, the pictures, and notes on the others."""
    with open_pictures(config.root, PICTURES, "train/ and val/, or " + PICTURES[0]) as store:
        names = sorted(store.names(), key=lambda name: (name.count("/"), name))
        at = {_key(name): name for name in reversed(names)}
        there = [row for row, name in enumerate(listed) if name in at]
        absent = [name for name in listed if name not in at]
        lacking = f"{len(absent)} of {len(listed)} images that the label files list are"
        if absent and (config.on_bad == "raise" or not there):
            raise VeilError(
                f"{lacking} not in {store.path} ({first_few(absent)}); "
                'unpack all of them, or set on_bad = "skip" to use the others'
            )
        files = tuple(at[listed[row]] for row in there)
        images = decoded_images(
            ImageFiles(store, files),
            config.size,
            config.channels,
            config.crop,
            config.on_bad,
            progress,
        )
    notes = [f"{lacking} absent ({first_few(absent)})"] if absent else []
    if unlisted := len(at.keys() - set(listed)):
        notes.append(f"{unlisted} images that the label files do not list left out")
    rows = np.array(there, dtype=np.int64)[images.kept]
    return rows, [files[row] for row in images.kept], images, (*notes, *bad_images(images))
