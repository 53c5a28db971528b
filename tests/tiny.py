"""A small world for tests: faces with planted attributes and people, and toy methods on scalars."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from veil.data.batch import Batch
from veil.data.dataset import BINARY, IDENTITY, PICTURE, RECONSTRUCTION, Dataset, Label
from veil.data.splits import Splits
from veil.method import (
    Adam,
    Method,
    MethodConfig,
    Obfuscator,
    Player,
    Problem,
    Round,
    Scale,
    Stage,
)

SCHEMA = {
    "Male": BINARY,
    "Smiling": BINARY,
    "Race": Label("multiclass", ("a", "b", "c")),
    "Age": Label("continuous"),
    "landmarks": Label("landmarks"),
    "identity": IDENTITY,
}


def faces(
    people: int = 12,
    photos: int = 2,
    size: int = 16,
    channels: int = 3,
    first_person: int = 0,
) -> Dataset:
    """Every person has a pattern; men are brighter on the left, smiles at the bottom; phi = 0."""
    rng = np.random.default_rng([people, photos, size, first_person])
    count = people * photos
    identity = first_person + np.repeat(np.arange(people), photos)
    male = identity % 2
    smiling = (np.arange(count) + np.arange(count) // photos // 2) % 2
    pattern = np.repeat(rng.normal(0, 15, (people, size, size, channels)), photos, axis=0)
    x = 60 + pattern + rng.normal(0, 10, pattern.shape)
    x[:, :, : size // 2] += 70 * male[:, None, None, None]
    x[:, size // 2 :] += 70 * smiling[:, None, None, None]
    labels = {
        "Male": male,
        "Smiling": smiling,
        "Race": identity % 3,
        "Age": rng.uniform(20, 60, count).astype(np.float32),
        "landmarks": (size / 2 + rng.normal(0, 2, (count, 4))).astype(np.float32),
        "identity": identity,
    }
    hashes = (first_person * 1000 + np.arange(count)).astype(np.uint64)
    return Dataset("tiny", x.clip(0, 255).astype(np.uint8), labels, SCHEMA, hashes)


def splits(size: int = 16, channels: int = 3) -> Splits:
    """24 photos of 12 people in fit and attack, 12 of 6 in select and test."""
    return Splits(
        fit=faces(12, 2, size, channels, 0),
        attack=faces(12, 2, size, channels, 12),
        select=faces(6, 2, size, channels, 24),
        test=faces(6, 2, size, channels, 30),
    )


def problem(
    private: tuple[str, ...] = ("Male",),
    utility: tuple[str, ...] = ("Smiling",),
    size: int = 16,
    channels: int = 3,
) -> Problem:
    """A problem on the faces above."""
    scales = {"Age": Scale((40.0,), (11.5,)), "landmarks": Scale((size / 2,) * 4, (2.0,) * 4)}
    labels = {n: PICTURE if n == RECONSTRUCTION else SCHEMA[n] for n in private + utility}
    known = {name: scale for name, scale in scales.items() if name in labels}
    return Problem(private, utility, labels, (channels, size, size), people=12, scales=known)


class Bare(Obfuscator):
    """Releases the image as it is."""

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return x


class Scalar(nn.Module):
    """A player of one number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))


class Toy(Method):
    """A game of scalars, `self[name]`, with one round for every stage.

    Args:
        start: player -> its first value.
        play: game -> the moves of one round; `game.batch` and `game.rng` are what it sees.
        stages: (name, epochs, patience) of each.
        lr: of everybody.
        batch_size: photos.
    """

    Config = MethodConfig

    def __init__(
        self,
        start: Mapping[str, float],
        play: Callable[[Toy], Round],
        stages: Sequence[tuple[str, int, int | None]] = (("only", 1, None),),
        lr: float = 0.1,
        batch_size: int = 6,
    ) -> None:
        super().__init__(MethodConfig(), problem())
        self.obfuscator = Bare()
        self.scalars = nn.ModuleDict({name: Scalar(value) for name, value in start.items()})
        self.play = play
        self.plan = stages
        self.lr = lr
        self.batch_size = batch_size

    def __getitem__(self, name: str) -> Tensor:
        scalar = self.scalars[name]
        assert isinstance(scalar, Scalar)
        return scalar.value

    def values(self) -> dict[str, float]:
        """Where everybody stands."""
        return {name: self[name].item() for name in self.scalars}

    @cached_property
    def players(self) -> Mapping[str, Player]:
        return {name: Player(scalar, Adam(self.lr)) for name, scalar in self.scalars.items()}

    def stages(self) -> Sequence[Stage]:
        def play(batch: Batch, rng: torch.Generator) -> Round:
            self.batch, self.rng = batch, rng
            return self.play(self)

        return [
            Stage(name, epochs, self.batch_size, play, "images", patience)
            for name, epochs, patience in self.plan
        ]
