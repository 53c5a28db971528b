"""The whole contract between a paper's method and the one training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from veil.data.batch import Batch
from veil.data.dataset import Label
from veil.errors import VeilError
from veil.mechanism import ClippedGaussian


@dataclass(frozen=True)
class Problem:
    """What is to be hidden, what is to be kept, and what the images are (AIA, problem 1).

    Attributes:
        private: names of the labels the release must not carry.
        utility: names of the labels it must support; "identity" means 1-to-1 face matching.
        labels: name -> what the label means, for all of them.
        image: (c, h, w) of the images in [0, 1]; h = w.
        people: number of people in `fit` (0 when unknown).
    """

    private: tuple[str, ...]
    utility: tuple[str, ...]
    labels: Mapping[str, Label]
    image: tuple[int, int, int]
    people: int = 0

    def __post_init__(self) -> None:
        both = set(self.private) & set(self.utility)
        if both:
            raise VeilError(f"'{both.pop()}' is both private and useful: choose one")

    @property
    def names(self) -> tuple[str, ...]:
        return self.private + self.utility


class Obfuscator(nn.Module, ABC):
    """What is deployed: the one function through which anything leaves the building.

    Attributes:
        mechanism: what every release provably ends with, where it does; an audit's certificate.
    """

    mechanism: ClippedGaussian | None = None

    @abstractmethod
    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """What leaves the building for each image, independent of the rest of the batch.

        Args:
            x: (n, c, h, w) in [0, 1].
            rng: the source of all randomness, on the device of x.

        Returns:
            (n, ...) the release.
        """


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015): learning rate, betas, L2 weight decay (not decoupled)."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Player:
    """One party of the game: the parameters it moves and how; named by the paper's noun."""

    module: nn.Module
    optimiser: Adam


@dataclass(frozen=True)
class Move:
    """One player's update: the sum of its named, weighted terms is minimised over its parameters.

    Without terms it moves nobody (there may be no private label, say, to infer).
    Signs are visible here and nowhere else. No other player's parameters receive a gradient.
    """

    player: str
    terms: dict[str, Tensor]


Round = Iterator[Move | tuple[Move, ...]]
Sampling = Literal["images", "pairs"]


@dataclass(frozen=True)
class Stage:
    """One phase of training.

    Attributes:
        name: "pretrain", "adversarial", ...
        epochs: passes over `fit`.
        batch_size: images a round sees.
        round: (batch, rng) -> the moves of one iteration; a yielded tuple is a simultaneous update.
        sampling: "images" draws images without replacement; "pairs" draws people, two photos of
            each: photo i and photo i + n/2 of a batch of n show the same person.
        patience: stop after this many epochs without a better `select` total; None never stops.
    """

    name: str
    epochs: int
    batch_size: int
    round: Callable[[Batch, torch.Generator], Round]
    sampling: Sampling = "images"
    patience: int | None = None


class MethodConfig(BaseModel):
    """Base of every method's configuration: frozen, finite, unknown keys refused.

    TOML has no null: a field that may be None has None as its default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Method(nn.Module, ABC):
    """A paper's method: its networks, its players, and its algorithm box as a generator.

    Subclasses set `Config` and `reported`, build their networks in `__init__(config, problem)`
    (refusing in one line what makes no sense for them) and never print, save, seed or step.
    """

    Config: ClassVar[type[MethodConfig]]
    obfuscator: Obfuscator

    @abstractmethod
    def __init__(self, config: MethodConfig, problem: Problem) -> None:
        super().__init__()

    @cached_property
    @abstractmethod
    def players(self) -> Mapping[str, Player]:
        """Disjoint sets of parameters, each with its optimiser recipe."""

    @abstractmethod
    def stages(self) -> Sequence[Stage]:
        """The phases of training, in order."""

    def answers(self, z: Tensor) -> dict[str, Tensor]:
        """The public task heads: useful label -> logits (n, K), or (n, d) embeddings for identity.

        A method without heads (it releases pictures, say) answers nothing.
        """
        return {}

    def training_adversary(self, z: Tensor) -> dict[str, Tensor]:
        """The defender's own adversary: private label -> logits (n, K); none by default."""
        return {}

    def reconstruct(self, z: Tensor) -> Tensor | None:
        """(n, c, h, w) in [0, 1]: the defender's own reconstruction, where it has a decoder."""
        return None

    def title(self) -> str:
        """What tables and reports call this configuration: its row in the paper's tables."""
        return type(self).__name__

    def reported(self, data: str) -> Mapping[str, float]:
        """The paper's figures for this configuration on a data source: label -> score in [0, 1]."""
        return {}
