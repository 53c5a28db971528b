"""The whole contract between a paper's method and the one training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
class Scale:
    """Mean and standard deviation of each number of a continuous label or of landmarks, on `fit`.

    In the label's own units; one number for "continuous", 2k of them for "landmarks".
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


@dataclass(frozen=True)
class Problem:
    """What is to be hidden, what is to be kept, and what the images are (AIA, problem 1).

    Attributes:
        private: names of the labels the release must not carry; "reconstruction" is the picture
            itself (`labels` says kind "picture").
        utility: names of the labels it must support; "identity" means 1-to-1 face matching.
        labels: name -> what the label means, for all of them.
        image: (c, h, w) of the images in [0, 1]; h = w.
        people: number of people in `fit` (0 when unknown).
        scales: name -> the scale of every continuous label and of landmarks.
    """

    private: tuple[str, ...]
    utility: tuple[str, ...]
    labels: Mapping[str, Label]
    image: tuple[int, int, int]
    people: int = 0
    scales: Mapping[str, Scale] = field(default_factory=dict)

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
        pictures: whether releases are pictures again, (n, c, h, w) in [0, 1] like those given.
    """

    mechanism: ClippedGaussian | None = None
    pictures: ClassVar[bool] = False

    @abstractmethod
    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """What leaves the building for each image, independent of the rest of the batch.

        Args:
            x: (n, c, h, w) in [0, 1].
            rng: the source of all randomness, on the device of x.

        Returns:
            (n, ...) the release.
        """

    def draws(self, x: Tensor, rngs: Iterable[torch.Generator]) -> Iterator[Tensor]:
        """A release of the same images for each generator, as `release` would give it.

        To be overridden where most of the work is not random, and need be done once only.
        """
        for rng in rngs:
            yield self.release(x, rng)


class Replacement(Obfuscator):
    """Releases pictures in which private attributes were drawn anew, whatever they had been."""

    pictures: ClassVar[bool] = True

    @abstractmethod
    def replace(self, x: Tensor, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The release of x, and private label -> (n,) int64 classes that it was made to show.

        Args:
            x: (n, c, h, w) in [0, 1].
            rng: as in `release`; the same generator gives the same pictures.
        """

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return self.replace(x, rng)[0]


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015).

    Attributes:
        lr: learning rate.
        betas: decay rates of the two moments.
        weight_decay: L2, not decoupled.
        cosine: anneal the learning rate over each stage, lr (1 + cos(pi e / epochs)) / 2 in its
            epoch e = 0, 1, ... (Loshchilov & Hutter 2017, without restarts).
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    cosine: bool = False


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

    Attributes:
        player: who moves; several names where one backward pass serves several players, each of
            whom minimises the same sum (`losses.scale_gradient` turns a term against those
            behind it).
        terms: name -> scalar.
    """

    player: str | tuple[str, ...]
    terms: dict[str, Tensor]

    @property
    def movers(self) -> tuple[str, ...]:
        """Everybody who moves."""
        return (self.player,) if isinstance(self.player, str) else self.player


Round = Iterator[Move | tuple[Move, ...]]
Sampling = Literal["images", "pairs", "own and public"]


@dataclass(frozen=True)
class Stage:
    """One phase of training.

    Attributes:
        name: "pretrain", "adversarial", ...
        epochs: passes over `fit`.
        batch_size: images a round sees.
        round: (batch, rng) -> the moves of one iteration; a yielded tuple is a simultaneous update.
        sampling: "images" draws images without replacement; "pairs" draws people, two photos of
            each: photo i and photo i + n/2 of a batch of n show the same person; "own and public"
            divides the people for good, and the first half of every batch shows the defender's
            own, the second half those whose pictures the adversary may have.
        patience: stop after this many epochs without a better `select` total; None never stops.
        public_share: share of the people who are public where the sampling divides them.
    """

    name: str
    epochs: int
    batch_size: int
    round: Callable[[Batch, torch.Generator], Round]
    sampling: Sampling = "images"
    patience: int | None = None
    public_share: float = 0.2


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
        """The public task heads: useful label -> their answer.

        Logits (n, K) of classes, embeddings (n, d) of identity, estimates (n, k) of a continuous
        label or landmarks in the label's own units. A method without heads (it releases pictures,
        say) answers nothing.
        """
        return {}

    def training_adversary(self, z: Tensor) -> dict[str, Tensor]:
        """The defender's own adversary: private label -> logits (n, K); none by default."""
        return {}

    def reconstruct(self, z: Tensor) -> Tensor | None:
        """(n, c, h, w) in [0, 1]: the defender's own reconstruction, where it has a decoder."""
        return None

    def measured(self, x: Tensor, rng: torch.Generator) -> Mapping[str, float]:
        """Figures of the release that only the method can tell, such as its signal-to-noise ratio.

        Args:
            x: (n, c, h, w) pictures of `select`.
            rng: source of all randomness.
        """
        return {}

    def title(self) -> str:
        """What tables and reports call this configuration: its row in the paper's tables."""
        return type(self).__name__

    def reported(self, data: str) -> Mapping[str, float]:
        """The paper's figures for this configuration on a data source: label -> score in [0, 1]."""
        return {}
