"""VGGFace2 (Cao, Shen, Xie, Parkhi and Zisserman, FG 2018): many pictures of 9,131 people.

Under `root`: `train` and `test`, unpacked, with folders of people (`n000001/0001_01.jpg`), all or
some of them. And, where it exists, there or in `meta`:

- `identity_meta.csv`: Class_ID, Name, Sample_Num, Flag (1 train, 0 test) and Gender (m, f) of each
  person. For people whom it lacks the folders `train` and `test` decide, and gender is missing.

Research only; see https://www.robots.ox.ac.uk/~vgg/data/vgg_face2/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from veil.data.cache import Progress, decoded_images
from veil.data.dataset import BINARY, IDENTITY, MISSING, Column, Dataset
from veil.data.image_files import ImageFiles
from veil.data.published import (
    TEST,
    TRAIN,
    PublishedConfig,
    bad_images,
    open_pictures,
    read_names,
    split_by_train_and_test,
)
from veil.data.splits import Splits
from veil.data.textfile import read_text
from veil.errors import VeilError

# The name is free text, with commas, quotes or neither: it is what the other fields leave. Some
# lines end in a comma, and copies of the file add columns.
_META = re.compile(r'"?n([0-9]{6})"?\s*,.*?,\s*[0-9]+\s*,\s*([01])\s*,\s*"?([mf])"?\s*(?:,.*)?')
_PICTURE = re.compile(r"(?:(?:.*/)?(train|test)/)?(?:.*/)?n([0-9]{6})/[^/]+")
_PART_OF_FLAG = {"1": TRAIN, "0": TEST}
_PART_OF_FOLDER = {"train": TRAIN, "test": TEST}


class VGGFaceConfig(PublishedConfig):
    """VGGFace2 under `root`.

    Labels: "identity", the number of the person's folder; "Male" where identity_meta.csv is there.
    """

    source: Literal["vggface"] = "vggface"

    def dataset(self, progress: Progress | None = None) -> Dataset:
        """All images with their labels, in the order of their names.

        Raises:
            VeilError: there are no images, or one is bad or misplaced and `on_bad` is "raise"; the
                label file is not what its name says, or a line of it is wrong.
        """
        return _load(self, progress).dataset

    def splits(self, seed: int, progress: Progress | None = None) -> Splits:
        """`test` is the official test set, the others are divided out of train by person.

        Args:
            seed: decides who goes where within train.
            progress: called with (images decoded, images in all).

        Raises:
            VeilError: as `dataset`; or a split is empty.
        """
        loaded = _load(self, progress)
        splits = split_by_train_and_test(loaded.dataset, loaded.part, seed)
        return replace(splits, notes=splits.notes + loaded.notes)


@dataclass(frozen=True, slots=True)
class _Loaded:
    dataset: Dataset
    part: NDArray[np.int64]
    notes: tuple[str, ...]


def _load(config: VGGFaceConfig, progress: Progress | None) -> _Loaded:
    meta = _read_meta(config.root)
    expected = "train and test with a folder n000001 for each person"
    with open_pictures(config.root, (), expected) as store:
        names, said, notes = read_names(store, _said_by, "n000001/0001_01.jpg", config.on_bad)
        images = decoded_images(
            ImageFiles(store, tuple(names)),
            config.size,
            config.channels,
            config.crop,
            config.on_bad,
            progress,
        )
    people, folders = np.array([said[row] for row in images.kept], dtype=np.int64).T
    labels: dict[str, Column] = {"identity": people}
    schema = {"identity": IDENTITY}
    part = folders
    more: list[str] = []
    if meta is not None:
        flags = np.array([meta[one].part if one in meta else MISSING for one in people.tolist()])
        part = np.where(flags == MISSING, folders, flags)
        other = (folders != MISSING) & (part != folders)
        if other.any():
            more.append(f"{other.sum()} images lie in the other part than Flag says: Flag counts")
        male = [meta[one].male if one in meta else MISSING for one in people.tolist()]
        labels["Male"], schema["Male"] = np.array(male, dtype=np.int64), BINARY
        if unknown := sum(one not in meta for one in people.tolist()):
            more.append(f"{unknown} images of people who are not in identity_meta.csv")
    files = [names[row] for row in images.kept]
    dataset = Dataset("vggface", images.pixels, labels, schema, images.hashes, files=files)
    return _Loaded(dataset, part, (*notes, *bad_images(images), *more))


def _said_by(name: str) -> tuple[int, int] | None:
    """The person's number and the part that a picture's folders say; None where they do not."""
    found = _PICTURE.fullmatch(name)
    if found is None:
        return None
    return int(found[2]), _PART_OF_FOLDER[found[1]] if found[1] else MISSING


@dataclass(frozen=True, slots=True)
class _Person:
    part: int
    male: int


def _read_meta(root: Path) -> dict[int, _Person] | None:
    """Everyone in `identity_meta.csv` by number; None where there is no such file."""
    for path in (root / "identity_meta.csv", root / "meta" / "identity_meta.csv"):
        if path.is_file() or path.is_symlink():
            break
    else:
        return None
    people: dict[int, _Person] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        text = line.strip()
        if not text or (not people and text.lower().startswith("class_id")):
            continue
        found = _META.fullmatch(text)
        if found is None:
            raise VeilError(
                f"{path}, line {number}: 'n000001, \"Name\", 424, 0, m' is expected, "
                f"not '{text[:40]}'; mend the line or download the file again"
            )
        person = int(found[1])
        if person in people:
            raise VeilError(f"{path}, line {number}: n{found[1]} is there already; remove one")
        people[person] = _Person(_PART_OF_FLAG[found[2]], int(found[3] == "m"))
    if not people:
        raise VeilError(f"{path} has a header and no rows: download it again")
    return people
