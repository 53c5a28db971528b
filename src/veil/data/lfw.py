"""Labeled Faces in the Wild (Huang, Ramesh, Berg and Learned-Miller, 2007): who is it?

Under `root`: `lfw` (or `lfw_funneled`, `lfw-deepfunneled`) as a folder, .tgz, .tar or .zip of
`NAME/NAME_0001.jpg`, or the folders of people themselves; and, where they exist,

- `male_names.txt`, `female_names.txt` (Afifi and Abdelhamed, 2019): one file name a line;
- `lfw_labels.csv`: the columns file and male or smiling, coded 0/1, empty where unknown;
- `pairs.txt`: the official pairs for face verification, see `official_pairs`.

See https://vis-www.cs.umass.edu/lfw/.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from veil.data.cache import Progress, decoded_images
from veil.data.columns import label_of, read_table
from veil.data.copies import split_with_copies_together
from veil.data.dataset import BINARY, IDENTITY, MISSING, Column, Dataset
from veil.data.image_files import ImageFiles
from veil.data.published import PublishedConfig, bad_images, first_few, open_pictures, read_names
from veil.data.splits import Splits
from veil.data.textfile import read_text
from veil.errors import VeilError

PICTURES = ("lfw", "lfw_funneled", "lfw-deepfunneled")
FEMALE, MALE = 0, 1

_PHOTO = re.compile(r"(?:.*/)?([^/]+)/\1_([0-9]{4,})\.[^./]+")


class LFWConfig(PublishedConfig):
    """LFW under `root`.

    Labels: "identity"; "Male" and "Smiling" where files say them.

    There are 250 pixels to crop; 128 leave little but the face.
    """

    source: Literal["lfw"] = "lfw"

    def dataset(self, progress: Progress | None = None) -> Dataset:
        """All images with their labels, in the order of their names; people in that order too.

        Raises:
            VeilError: there are no images, or one is bad or misplaced and `on_bad` is "raise"; a
                label file is not what its name says, or a line of it is wrong.
        """
        return _load(self, progress)[0]

    def splits(self, seed: int, progress: Progress | None = None) -> Splits:
        """Everything divided by person, near copies together: LFW trains nothing officially.

        Args:
            seed: decides who goes where.
            progress: called with (images decoded, images in all).

        Raises:
            VeilError: as `dataset`; or a split is empty.
        """
        dataset, notes = _load(self, progress)
        splits = split_with_copies_together(dataset, seed)
        return replace(splits, notes=splits.notes + notes)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of pictures for face verification.

    Attributes:
        left: (n,) int64 position of the first picture in the data set.
        right: (n,) int64 position of the second.
        same: (n,) bool, whether both show one person.
        fold: (n,) int64 from 0: a threshold for one fold is chosen on the others.
        absent: pairs of the file that are left out because a picture is not in the data set.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]
    absent: int


def official_pairs(path: Path, dataset: Dataset) -> Pairs:
    """The pairs of `pairs.txt` (ten folds), `pairsDevTrain.txt` or `pairsDevTest.txt` (one fold).

    The first line says how many folds there are (one if it does not) and how many pairs of each
    kind a fold has: first `NAME i j` of one person, then `NAME i NAME j` of two, parted by tabs.

    Args:
        path: the file.
        dataset: LFW or a view of it; positions are those of this view.

    Raises:
        VeilError: the file is none of these, is cut off, or names no pair of the data set.
    """
    lines = [(number, line) for number, line in enumerate(read_text(path).split("\n"), 1)]
    rows = [(number, line.split()) for number, line in lines if line.strip()]
    counts = rows[0][1]
    if len(counts) not in (1, 2) or not all(map(str.isdecimal, counts)):
        raise VeilError(
            f"{path}, line {rows[0][0]}: the number of folds and of pairs is expected there, "
            f"not '{' '.join(counts)[:40]}'; download the file again"
        )
    folds, each = (1, int(counts[0])) if len(counts) == 1 else map(int, counts)
    if len(rows) - 1 != 2 * folds * each:
        raise VeilError(
            f"{path}: the first line says {folds} x 2 x {each} pairs but {len(rows) - 1} follow; "
            "download it again"
        )
    at = {_photo(name): row for row, name in enumerate(dataset.files or ())}
    pairs = [_pair(path, number, fields) for number, fields in rows[1:]]
    positions = np.array([(at.get(a, MISSING), at.get(b, MISSING)) for a, b in pairs])
    there = (positions != MISSING).all(axis=1)
    if not there.any():
        raise VeilError(f"{path}: {dataset.name} has both pictures of none of its pairs")
    same = np.array([a[0] == b[0] for a, b in pairs])
    fold = np.repeat(np.arange(folds), 2 * each)
    left, right = positions[there].T
    return Pairs(left, right, same[there], fold[there], int((~there).sum()))


Photo = tuple[str, int]
"""A person's name and a photo's number."""


def _pair(path: Path, line: int, fields: Sequence[str]) -> tuple[Photo, Photo]:
    if len(fields) == 3:
        fields = (fields[0], fields[1], fields[0], fields[2])
    if len(fields) != 4 or not (fields[1].isdecimal() and fields[3].isdecimal()):
        raise VeilError(
            f"{path}, line {line}: 'NAME i j' or 'NAME i NAME j' is expected, "
            f"not '{' '.join(fields)[:40]}'; mend the line or download the file again"
        )
    return (fields[0], int(fields[1])), (fields[2], int(fields[3]))


def _photo(name: str) -> Photo | None:
    """The person, from the folder, and the number of a picture; None where it names neither."""
    found = _PHOTO.fullmatch(name)
    return None if found is None else (found[1], int(found[2]))


def _load(config: LFWConfig, progress: Progress | None) -> tuple[Dataset, tuple[str, ...]]:
    expected = "lfw (a folder or lfw.tgz) with a folder for each person"
    with open_pictures(config.root, PICTURES, expected) as store:
        names, photos, notes = read_names(store, _photo, "NAME/NAME_0001.jpg", config.on_bad)
        images = decoded_images(
            ImageFiles(store, tuple(names)),
            config.size,
            config.channels,
            config.crop,
            config.on_bad,
            progress,
        )
    files = [names[row] for row in images.kept]
    stems = [_stem(name) for name in files]
    _, people = np.unique([photos[row][0] for row in images.kept], return_inverse=True)
    labels: dict[str, Column] = {"identity": people.astype(np.int64)}
    male, more = _listed_genders(config.root, stems)
    said = _table_labels(config.root, stems)
    if male is not None or "male" in said:
        listed = np.full(len(files), MISSING) if male is None else male
        labels["Male"] = np.where(listed == MISSING, said.get("male", MISSING), listed)
    if "smiling" in said:
        labels["Smiling"] = said["smiling"]
    schema = {name: IDENTITY if name == "identity" else BINARY for name in labels}
    dataset = Dataset("lfw", images.pixels, labels, schema, images.hashes, files=files)
    return dataset, (*notes, *bad_images(images), *more)


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rsplit(".", 1)[0]


def _listed_genders(root: Path, stems: Sequence[str]) -> tuple[Column | None, tuple[str, ...]]:
    """(n,) classes from the lists, -1 where both or neither have a name; None without lists."""
    lists: dict[int, set[str]] = {}
    for code, file in ((FEMALE, "female_names.txt"), (MALE, "male_names.txt")):
        path = root / file
        if path.is_file() or path.is_symlink():
            lines = read_text(path).split("\n")
            lists[code] = {_stem(line.strip()) for line in lines if line.strip()}
    if not lists:
        return None, ()
    if all(listed.isdisjoint(stems) for listed in lists.values()):
        raise VeilError(
            f"{root}: male_names.txt and female_names.txt name none of the {len(stems)} images; "
            "expected a name (NAME_0001.jpg) on each line"
        )
    said = [[code for code, listed in lists.items() if stem in listed] for stem in stems]
    twice = [stem for stem, codes in zip(stems, said, strict=True) if len(codes) > 1]
    male = np.array([codes[0] if len(codes) == 1 else MISSING for codes in said], dtype=np.int64)
    note = f"{len(twice)} images in the lists of both genders ({first_few(twice)})"
    return male, (note,) if twice else ()


def _table_labels(root: Path, stems: Sequence[str]) -> dict[str, Column]:
    """The columns male and smiling of `lfw_labels.csv`, -1 where it says nothing."""
    path = root / "lfw_labels.csv"
    if not (path.is_file() or path.is_symlink()):
        return {}
    table = read_table(path)
    names = table.columns.get("file")
    found = [name for name in ("male", "smiling") if name in table.columns]
    if names is None or not found:
        raise VeilError(f"{path} needs the columns file and male or smiling in its header")
    row_of = {_stem(name): row for row, name in enumerate(names) if name is not None}
    rows = np.array([row_of.get(stem, MISSING) for stem in stems], dtype=np.int64)
    labels: dict[str, Column] = {}
    for name in found:
        label, column = label_of(table, name, "binary")
        if label != BINARY:
            raise VeilError(f"{path}: '{name}' is coded {' and '.join(label.classes)}, not 0 and 1")
        labels[name] = np.where(rows == MISSING, MISSING, column[rows])
    return labels
