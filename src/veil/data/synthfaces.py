"""SynthFaces, the embedded data set: drawn faces with known labels, and no photo of anyone.

Picture `index` of data set `seed` is a pure function of the two: any order, any batch, in
parallel, the same bits. Its person is `index // photos_per_person`; people keep their features
over photos that differ in pose, expression, light, background and what is worn.

Labels: 39 of CelebA's 40 attributes, FairFace's "race" and "age_group", "age", "identity" and five
"landmarks". docs/synthfaces.md says how each is drawn, and what was measured.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from veil.data import face_wear as wear
from veil.data.cache import Progress, drawn_images
from veil.data.dataset import BINARY, IDENTITY, Column, Dataset, Label
from veil.data.face_attributes import AGE_GROUP_STARTS, AGE_GROUPS, ATTRIBUTES, RACES
from veil.data.face_causes import Faces
from veil.data.face_head import Head, skin_colour
from veil.data.face_latents import Correlations, Indices, copula
from veil.data.face_parts import draw_face
from veil.data.splits import Splits, split_by_person
from veil.errors import VeilError

DRAWING_VERSION = 2  # raised with every change to the pixels, which are cached
SMALLEST, LARGEST = 32, 256

SCHEMA: dict[str, Label] = {
    **dict.fromkeys(ATTRIBUTES, BINARY),
    "race": Label("multiclass", RACES),
    "age_group": Label("multiclass", AGE_GROUPS),
    "age": Label("continuous"),
    "identity": IDENTITY,
    "landmarks": Label("landmarks"),
}


def faces(
    seed: int,
    indices: Indices,
    size: int = 64,
    channels: int = 3,
    correlations: Correlations = "celeba",
    photos_per_person: int = 5,
    label_noise: bool = True,
    showing: Mapping[str, bool] | None = None,
) -> NDArray[np.uint8]:
    """The pictures with these indices.

    Args:
        seed: the data set.
        indices: (n,) int64, 0 or more, in any order.
        size: height and width in pixels, 32 to 256.
        channels: 3 (RGB) or 1 (grey, ITU-R 601).
        correlations: "celeba", "independent", or "Male,Smiling" -> phi (other pairs independent).
        photos_per_person: consecutive indices of one person.
        label_noise: whether the labels will be an annotator's, with mistakes. The correlations
            are those of the labels either way, so the attributes shown are slightly more
            correlated when the annotator blurs them.
        showing: attributes to show (or hide) in every picture, whatever was drawn for it: twins
            that differ in nothing else (Young: 25 or 60 years where it must change). `labels`
            knows nothing of it.

    Returns:
        (n, size, size, channels) uint8.

    Raises:
        VeilError: a size, channel count, index or correlation out of range.
    """
    if not SMALLEST <= size <= LARGEST:
        raise VeilError(f"synthfaces: size {size} is outside {SMALLEST} to {LARGEST}")
    if channels not in (1, 3):
        raise VeilError(f"synthfaces: channels must be 1 or 3, not {channels}")
    model = copula(correlations, label_noise)
    indices = _checked(indices, photos_per_person)
    pictures = np.empty((len(indices), size, size, channels), dtype=np.uint8)

    def draw(start: int) -> None:
        rows = slice(start, start + block)
        f = Faces.of(seed, indices[rows], photos_per_person, model).showing(showing or {})
        pictures[rows] = _draw(f, size, channels)

    block = max(1, 16 * 64**2 // size**2)  # what the second-level cache holds
    starts = range(0, len(indices), block)
    if len(starts) <= 1:
        for start in starts:
            draw(start)
    else:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(draw, starts))
    return pictures


def face(
    seed: int,
    index: int,
    size: int = 64,
    channels: int = 3,
    correlations: Correlations = "celeba",
    photos_per_person: int = 5,
    label_noise: bool = True,
) -> NDArray[np.uint8]:
    """One picture, (size, size, channels) uint8; arguments as for `faces`."""
    one = np.array([index], dtype=np.int64)
    pictures = faces(seed, one, size, channels, correlations, photos_per_person, label_noise)
    picture: NDArray[np.uint8] = pictures[0]
    return picture


def labels(
    seed: int,
    indices: Indices,
    size: int = 64,
    correlations: Correlations = "celeba",
    photos_per_person: int = 5,
    label_noise: bool = True,
) -> dict[str, Column]:
    """The labels of the pictures that `faces` draws with the same arguments.

    Returns:
        name -> column, as `SCHEMA` says: attributes, "race", "age_group" and "identity" (n,)
        int64, "age" (n,) float32 years, "landmarks" (n, 10) float32 pixels of a picture of `size`
        (left eye, right eye, nose tip, left and right corner of the mouth as seen in the picture;
        (0, 0) is the centre of the top left pixel). Without `label_noise`, attributes are exactly
        as drawn; with it, `Attribute.noise` of them contradict the picture.
    """
    indices = _checked(indices, photos_per_person)
    model = copula(correlations, label_noise)
    f = Faces.of(seed, indices, photos_per_person, model)
    attributes = model.annotate(seed, f.shown, f.photo)
    return {
        **{name: attributes[:, i] for i, name in enumerate(ATTRIBUTES)},
        "race": f.race,
        "age_group": np.searchsorted(AGE_GROUP_STARTS, f.age, side="right").astype(np.int64),
        "age": f.age.astype(np.float32),
        "identity": indices // photos_per_person,
        "landmarks": Head.of(f).landmarks(size),
    }


def _checked(indices: Indices, photos_per_person: int) -> Indices:
    if photos_per_person < 1:
        raise VeilError(f"synthfaces: photos_per_person must be 1 or more, not {photos_per_person}")
    indices = np.asarray(indices, dtype=np.int64)
    if indices.ndim != 1 or (indices.size and int(indices.min()) < 0):
        raise VeilError("synthfaces: indices must be a list of numbers, each 0 or more")
    return indices


def _draw(f: Faces, size: int, channels: int) -> NDArray[np.uint8]:
    """The pictures of these causes, from back to front."""
    head = Head.of(f)
    patch = head.patch(size, np.maximum(1, wear.blur(f) * np.float32(size / 2)))
    skin, hair = skin_colour(f), wear.Hair(patch, f, head)
    wear.background(patch, f)
    hair.behind(patch)
    wear.torso(patch.rows(0.2, 1), f, skin)
    draw_face(patch, f, head, skin)
    hair.over(patch)
    wear.earrings(patch.rows(-0.35, 0.75), f, head)
    wear.glasses(patch.rows(-0.55, 0.45), f, head)
    wear.hat(patch.rows(-1, 0.1), f, head)
    pictures = wear.camera(patch, f, size)
    if channels == 3:
        return pictures
    red, green, blue = np.moveaxis(pictures.astype(np.uint32), -1, 0)
    # Pillow's convert("L"): ITU-R 601 in 16-bit fixed point.
    grey = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    luminance: NDArray[np.uint8] = grey.astype(np.uint8)[..., None]
    return luminance


class SynthFacesConfig(BaseModel):
    """A data set of drawn faces.

    Attributes:
        people: number of people.
        photos_per_person: photos of each.
        size: height and width of the pictures in pixels.
        channels: 3 (RGB) or 1 (grey).
        seed: which data set; not the seed of the splits.
        correlations: "celeba" (as in CelebA), "independent", or pairs of attributes with the phi
            coefficient of their labels, {"Male,Smiling" = -0.3}; other pairs are independent.
        label_noise: whether some labels contradict the picture, as an annotator's do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["synthfaces"] = "synthfaces"
    people: int = Field(1600, ge=1)
    photos_per_person: int = Field(5, ge=1)
    size: int = Field(64, ge=SMALLEST, le=LARGEST)
    channels: Literal[1, 3] = 3
    seed: int = 0
    correlations: Literal["celeba", "independent"] | dict[str, float] = "celeba"
    label_noise: bool = True

    @model_validator(mode="after")
    def _correlations_exist(self) -> SynthFacesConfig:
        if not isinstance(self.correlations, str):
            copula(self.correlations, self.label_noise)
        return self

    def dataset(self, progress: Progress | None = None) -> Dataset:
        """All pictures with their labels; drawn once, then taken from the cache on disk.

        Args:
            progress: called with (pictures drawn, pictures in all).
        """
        count = self.people * self.photos_per_person
        pictures = drawn_images(
            self._key(), count, self.size, self.channels, self._pictures, progress
        )
        columns = labels(
            self.seed,
            np.arange(count, dtype=np.int64),
            self.size,
            self.correlations,
            self.photos_per_person,
            self.label_noise,
        )
        return Dataset("synthfaces", pictures.pixels, columns, SCHEMA, pictures.hashes)

    def splits(self, seed: int, progress: Progress | None = None) -> Splits:
        """Four sets divided by person; `seed` decides who goes where."""
        return split_by_person(self.dataset(progress), seed)

    def _pictures(self, indices: Indices) -> NDArray[np.uint8]:
        return faces(
            self.seed,
            indices,
            self.size,
            self.channels,
            self.correlations,
            self.photos_per_person,
            self.label_noise,
        )

    def _key(self) -> str:
        causes = self.model_dump_json(
            include={"seed", "correlations", "photos_per_person", "label_noise"}
        )
        return f"synthfaces {DRAWING_VERSION} {causes}"
