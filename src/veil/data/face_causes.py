"""The causes of a picture, which its parts ask for by name: attributes shown, draws, race, age."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veil.data.face_attributes import ATTRIBUTES, RACES
from veil.data.face_drawing import Colour, Field
from veil.data.face_latents import CUTS, NAMES, Copula, age_of, hashed, uniform
from veil.errors import VeilError, nearest


@dataclass(frozen=True)
class Looks:
    """How the faces of one of FairFace's classes are drawn: means, with wide overlaps.

    Schematic, and no statement about people: it gives audits by race something to read.
    """

    skin: tuple[float, float, float]
    nose: float
    lips: float
    eyes: float
    slant: float
    brows: float


LOOKS = {
    "White": Looks((0.93, 0.76, 0.67), 0.92, 0.92, 1.0, 0.00, 1.0),
    "Black": Looks((0.43, 0.28, 0.20), 1.30, 1.40, 1.0, 0.00, 1.0),
    "Latino_Hispanic": Looks((0.80, 0.60, 0.45), 1.02, 1.10, 1.0, 0.03, 1.1),
    "East Asian": Looks((0.94, 0.79, 0.62), 1.02, 0.95, 0.72, 0.16, 0.85),
    "Southeast Asian": Looks((0.75, 0.56, 0.40), 1.18, 1.15, 0.78, 0.10, 0.9),
    "Indian": Looks((0.60, 0.42, 0.29), 1.05, 1.08, 1.08, 0.00, 1.35),
    "Middle Eastern": Looks((0.83, 0.66, 0.52), 1.12, 0.95, 1.05, -0.03, 1.45),
}


class Faces:
    """The causes of n pictures, as (n, 1, 1) fields that the parts ask for by name.

    Args:
        seed: of the data set.
        person, photo: (n,) uint64 counters.
        shown: (n, k) whether the picture shows each of ATTRIBUTES, in order.
        race: (n,) index into RACES.
        age: (n,) years.
    """

    def __init__(
        self,
        seed: int,
        person: NDArray[np.uint64],
        photo: NDArray[np.uint64],
        shown: NDArray[np.bool_],
        race: NDArray[np.int64],
        age: NDArray[np.float64],
    ) -> None:
        self.seed, self.person, self.photo = seed, person, photo
        self.shown, self.race, self.age = shown, race, age
        self.child = field(np.clip((15 - age) / 14, 0, 1))
        self.old = field(np.clip((age - 32) / 33, 0, 1))

    @classmethod
    def of(
        cls, seed: int, indices: NDArray[np.int64], photos_per_person: int, model: Copula
    ) -> Faces:
        """The causes of the photos with these indices; a person has consecutive ones."""
        photo = indices.astype(np.uint64)
        person = (indices // photos_per_person).astype(np.uint64)
        z = model.latent(seed, person, photo)
        race = (uniform(seed, "race", person) * len(RACES)).astype(np.int64)
        age = age_of(z[:, NAMES.index("Young")])
        return cls(seed, person, photo, z > CUTS, race, age)

    def showing(self, chosen: Mapping[str, bool]) -> Faces:
        """The same faces, but with the named attributes shown or hidden in every picture."""
        shown = self.shown.copy()
        for name, value in chosen.items():
            if name not in ATTRIBUTES:
                raise VeilError(f"there is no attribute '{name}': {nearest(name, ATTRIBUTES)}")
            shown[:, NAMES.index(name)] = value
        young = shown[:, NAMES.index("Young")]
        age = np.where(young == (self.age < 40), self.age, np.where(young, 25, 60))
        return Faces(self.seed, self.person, self.photo, shown, self.race, age)

    def __getitem__(self, attribute: str) -> Field:
        """1 where the attribute is shown, else 0."""
        return field(self.shown[:, NAMES.index(attribute)])

    def looks(self, name: str) -> Field:
        """A number of `Looks` for each picture's race."""
        return field(np.array([getattr(LOOKS[race], name) for race in RACES])[self.race])

    def skin(self) -> Colour:
        """(3, n, 1, 1) the mean tone of each picture's race."""
        tones = np.array([LOOKS[race].skin for race in RACES], dtype=np.float32)
        return tones[self.race].T[:, :, None, None]

    def of_person(self, name: str) -> Field:
        """A bell-shaped draw that persists over a person's photos: mean 0, deviation 1, +-3.5."""
        return bell(self.seed, "person's " + name, self.person)

    def of_photo(self, name: str) -> Field:
        """A bell-shaped draw of one photo: mean 0, deviation 1, within +-3.5."""
        return bell(self.seed, "photo's " + name, self.photo)

    def chance_of_person(self, name: str) -> Field:
        """Uniform on (0, 1), persisting over a person's photos."""
        return field(uniform(self.seed, "person's " + name, self.person))

    def chance_of_photo(self, name: str) -> Field:
        """Uniform on (0, 1), drawn for each photo."""
        return field(uniform(self.seed, "photo's " + name, self.photo))

    def grain(self, size: int) -> Field:
        """(n, size, size) bell-shaped draws, one a pixel."""
        pixels = np.arange(size * size, dtype=np.uint64)
        counter = self.photo[:, None] * np.uint64(size * size) + pixels
        bits = hashed(self.seed, "grain", counter)
        return quarters(bits).reshape(-1, size, size)


def field(values: NDArray[np.generic]) -> Field:
    """(n,) -> (n, 1, 1) float32."""
    return values.astype(np.float32)[:, None, None]


def quarters(bits: NDArray[np.uint64]) -> Field:
    """The standardised sum of four 16-bit uniforms: close to normal, within +-3.5."""
    parts = bits.view(np.uint16).reshape(*bits.shape, 4)
    total = parts[..., 0].astype(np.float32)
    for i in (1, 2, 3):
        total += parts[..., i]
    total -= np.float32(2 * 65535)
    total *= np.float32(3**0.5 / 65536)
    return total


def bell(seed: int, purpose: str, counter: NDArray[np.uint64]) -> Field:
    """(n, 1, 1) bell-shaped draws, one per counter."""
    return quarters(hashed(seed, purpose, counter))[:, None, None]
