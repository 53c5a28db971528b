"""UTKFace (Zhang, Song and Qi, CVPR 2017): faces whose file names say age, gender and race.

Under `root`: `UTKFace`, as a folder, .zip, .tar or .tar.gz, or the pictures themselves, in folders
(`part1`, `part2`, `part3`) or without. A name is `age_gender_race_date.jpg` or, for the aligned
faces, `age_gender_race_date.jpg.chip.jpg`. Some published names leave out the race or the gender or
mistype them; what a name does not say is missing.

People are unknown, and many photographs are there twice, often with two ages: near copies share a
split. Non-commercial research only; see https://susanqq.github.io/UTKFace/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from veil.data.cache import Progress, decoded_images
from veil.data.copies import split_with_copies_together
from veil.data.dataset import MISSING, Dataset, Label
from veil.data.face_attributes import AGE_GROUP_STARTS, AGE_GROUPS
from veil.data.image_files import ImageFiles
from veil.data.published import PublishedConfig, bad_images, open_pictures, read_names
from veil.data.splits import Splits

GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "Others")
OLDEST = 116

# Eight digits are a date; the blanks, doubled endings and missing dots after it say nothing.
_NAME = re.compile(r"([0-9]{1,3})_([0-9]?)_(?:([0-9]?)_)?[0-9]{8}")


class UTKFaceConfig(PublishedConfig):
    """UTKFace under `root`.

    Labels: "age" in years, "age_group" (FairFace's nine), "gender" and "race" (five).

    The aligned faces have 200 pixels to crop.
    """

    source: Literal["utkface"] = "utkface"

    def dataset(self, progress: Progress | None = None) -> Dataset:
        """All images with their labels, in the order of their names.

        Raises:
            VeilError: there are no images; one is bad or misnamed and `on_bad` is "raise".
        """
        return _load(self, progress)[0]

    def splits(self, seed: int, progress: Progress | None = None) -> Splits:
        """Everything divided by picture, near copies together: there is no official partition.

        Args:
            seed: decides which picture goes where.
            progress: called with (images decoded, images in all).

        Raises:
            VeilError: as `dataset`; or a split is empty.
        """
        dataset, notes = _load(self, progress)
        splits = split_with_copies_together(dataset, seed)
        return replace(splits, notes=splits.notes + notes)


@dataclass(frozen=True, slots=True)
class Said:
    """What a name says: years, and classes of `GENDERS` and `RACES`; -1 where it says nothing."""

    age: int
    gender: int
    race: int


def said_by(name: str) -> Said | None:
    """What the name of a picture of UTKFace says; None where it is no such name."""
    found = _NAME.match(name.rpartition("/")[2])
    if found is None:
        return None
    age, gender, race = (MISSING if field in (None, "") else int(field) for field in found.groups())
    return Said(
        age if age <= OLDEST else MISSING,
        gender if gender < len(GENDERS) else MISSING,
        race if race < len(RACES) else MISSING,
    )


def _load(config: UTKFaceConfig, progress: Progress | None) -> tuple[Dataset, tuple[str, ...]]:
    expected = "UTKFace (a folder, .zip or .tar.gz), or part1, part2 and part3 unpacked"
    with open_pictures(config.root, ("UTKFace",), expected) as store:
        names, said, notes = read_names(store, said_by, "age_gender_race_date.jpg", config.on_bad)
        images = decoded_images(
            ImageFiles(store, tuple(names)),
            config.size,
            config.channels,
            config.crop,
            config.on_bad,
            progress,
        )
    kept = [said[row] for row in images.kept]
    age = np.array([one.age for one in kept], dtype=np.int64)
    group = np.searchsorted(AGE_GROUP_STARTS, age, side="right")
    labels = {
        "age": np.where(age == MISSING, np.nan, age).astype(np.float32),
        "age_group": np.where(age == MISSING, MISSING, group),
        "gender": np.array([one.gender for one in kept], dtype=np.int64),
        "race": np.array([one.race for one in kept], dtype=np.int64),
    }
    schema = {
        "age": Label("continuous"),
        "age_group": Label("multiclass", AGE_GROUPS),
        "gender": Label("binary", GENDERS),
        "race": Label("multiclass", RACES),
    }
    files = [names[row] for row in images.kept]
    dataset = Dataset("utkface", images.pixels, labels, schema, images.hashes, files=files)
    return dataset, notes + bad_images(images)
