"""DISCO: dynamic and invariant sensitive channel obfuscation.

Singh, Chopra, Garza, Zhang, Vepakomma, Sharma, Raskar: "DISCO: Dynamic and Invariant Sensitive
Channel Obfuscation for Deep Neural Networks", CVPR 2021, arXiv 2012.11025.

Threat model: a server that receives a feature map, most of its channels zeroed, answers the useful
question from it and trains a classifier of a private label on other people's maps.

Equation map (E encoder, P pruner, T predictor, A adversary, r ratio, a trade-off)
    scores P(sg(z)), one a channel        `DISCOObfuscator.scores`
    k = floor(r C) channels are zeroed    `channels_pruned`
    threshold: smallest score kept        `threshold_of`
    soft = sigmoid((score - threshold)/t) `soft_mask`
    hard = 1 where the score is kept      `hard_mask`
    forward hard, backward soft           `straight_through`
    A: min CE(A(sg(hard z)), s)           `DISCO.round`, first move
    E, T: min CE(T(hard z), y)            `DISCO.round`, second move, together with
    P: min (1-a) CE(T) - a CE(A)          `DISCO.round`, by `losses.scale_gradient`

Departures
    1. The hard mask is released. A soft one zeroes nothing: an attacker who normalises every
       channel reads what was only turned down.
    2. Every picture has exactly k channels of its own zeroed, equal scores or not; k is the floor
       of the ratio as it is written (.29 of 100 channels are 29).
    3. The adversary's batch norms always use the batch's own statistics: remembered ones would
       move whenever the pruner computes its term, and could be fooled by a shift of means.
    4. The paper first cuts the input into disjoint parts, so that a zeroed channel takes a place in
       the picture with it. This is left out: whole pictures go through one ResNet.
    5. Several private or useful labels get one A or T each; their losses are summed. A useful label
       may be continuous, landmarks or an identity (`objectives.label_loss`).
    6. Pictures of 32 pixels and less go through ResNet-18's stem for small pictures.

Unclear in the paper, and what we do
    1. The pruner's network: ours is one hidden layer on every channel's spatial mean, small beside
       the encoder. It knows no batch norm, so that training and release score alike.
    2. Where ResNet-18 is cut: after stage 3 of 4 (256 channels, 3 of them kept at r = .99).
       T and A are the rest of the network, one each.
    3. Whether the threshold is differentiated: it is, as the score that it is. A shift of all
       scores then has no gradient, as it has no effect.
    4. Who plays when: A first; then E, T and P at once, from one forward of E, P and T.
    5. Learning rate, batch size and epochs: ours, below.
    6. -a CE(A) is unbounded and left so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from veil.data.batch import Batch
from veil.errors import VeilError
from veil.losses import cross_entropy, scale_gradient
from veil.method import Adam, Method, MethodConfig, Move, Obfuscator, Player, Problem, Round, Stage
from veil.nets.heads import MLP
from veil.nets.resnet import ResNet
from veil.objectives import answer_of, label_loss, outputs_for, refuse_kinds, sampling_for

CIFAR_STEM_UP_TO = 32


class DISCOConfig(MethodConfig):
    """Fields with the paper's symbol and value.

    Attributes:
        alpha: a, weight of the adversary against the task in the pruner's loss, in [0, 1]; .5.
        ratio: r, the share of channels that are zeroed, in [0, 1); .99.
        temperature: t of the soft mask, in units of a score; 1/30.
        stage: ResNet stage after which z leaves the client; 0 is the stem (unclear point 2).
        blocks: residual blocks of each stage; (2, 2, 2, 2) is ResNet-18.
        widths: channels of each stage; (64, 128, 256, 512) is ResNet-18.
        pruner_units: of the pruner's hidden layer; ours.
        lr: Adam's learning rate, of all players; ours.
        batch_size: images; ours.
        epochs: passes over `fit`; ours.
    """

    alpha: float = Field(0.5, ge=0, le=1)
    ratio: float = Field(0.99, ge=0, le=1)
    temperature: float = Field(1 / 30, gt=0)
    stage: int = Field(3, ge=0)
    blocks: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (2, 2, 2, 2)
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64, 128, 256, 512)
    pruner_units: int = Field(128, ge=1)
    lr: float = Field(1e-3, gt=0)
    batch_size: int = Field(128, ge=4)
    epochs: int = Field(50, ge=1)


def channels_pruned(ratio: float, channels: int) -> int:
    """k = floor(r C), of the ratio as it is written and not as binary rounds it.

    Args:
        ratio: r in [0, 1].
        channels: C.
    """
    return math.floor(Decimal(repr(ratio)) * channels)


def threshold_of(scores: Tensor, pruned: int) -> Tensor:
    """The smallest score that is kept, for every sample.

    Args:
        scores: (n, C), one for each channel.
        pruned: k < C, the channels that are zeroed.

    Returns:
        (n, 1), differentiable.
    """
    return scores.topk(scores.shape[1] - pruned, dim=1).values[:, -1:]


def soft_mask(scores: Tensor, threshold: Tensor, temperature: float) -> Tensor:
    """sigmoid((score - threshold) / t): 1/2 at the threshold, near 0 or 1 a few t beside it.

    Args:
        scores: (n, C).
        threshold: (n, 1), as from `threshold_of`.
        temperature: t > 0, in units of a score.

    Returns:
        (n, C) in (0, 1).
    """
    return ((scores - threshold) / temperature).sigmoid()


def hard_mask(scores: Tensor, pruned: int) -> Tensor:
    """0 at the k lowest scores of every sample and 1 elsewhere, whether scores are equal or not.

    Args:
        scores: (n, C).
        pruned: k < C.

    Returns:
        (n, C) of 0 and 1, without gradient.
    """
    kept = scores.detach().topk(scores.shape[1] - pruned, dim=1).indices
    return torch.zeros_like(scores).scatter(1, kept, 1.0)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The hard mask with the soft one's gradient (Bengio et al. 2013); zeros stay exactly zero."""
    return soft + (hard - soft).detach()


class DISCOObfuscator(Obfuscator):
    """The encoder E and the pruner P: image -> map with k zeroed channels."""

    def __init__(self, encoder: nn.Module, channels: int, units: int, pruned: int) -> None:
        super().__init__()
        self.encoder = encoder
        mean = nn.AdaptiveAvgPool2d(1)
        self.pruner = nn.Sequential(mean, MLP(channels, (units,), channels, nn.ReLU))
        self.pruned = pruned

    def scores(self, z: Tensor) -> Tensor:
        """(n, C, h, w) -> (n, C), high where a channel shall be kept; z learns nothing from it."""
        scores: Tensor = self.pruner(z.detach()).float()
        return scores

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        z: Tensor = self.encoder(x)
        return z * hard_mask(self.scores(z), self.pruned)[:, :, None, None]


class DISCO(Method):
    """Encoder E, pruner P, predictors T and adversaries A."""

    Config = DISCOConfig
    config: DISCOConfig
    obfuscator: DISCOObfuscator

    def __init__(self, config: MethodConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        assert isinstance(config, DISCOConfig)
        refuse_kinds("DISCO", problem)
        if not problem.utility:
            raise VeilError("DISCO's encoder learns from its task alone: name a useful label")
        self.config = config
        self.problem = problem
        encoder = self._resnet(outputs=1).stem_and_stages(config.stage)
        channels = config.widths[max(0, config.stage - 1)]
        pruned = channels_pruned(config.ratio, channels)
        if pruned == channels:
            raise VeilError(
                f"DISCO: ratio = {config.ratio:g} keeps none of {channels} channels: give below 1"
            )
        self.obfuscator = DISCOObfuscator(encoder, channels, config.pruner_units, pruned)
        self.tasks, self.adversaries = (
            nn.ModuleList(
                self._resnet(outputs_for(problem, name), running).rest_after(config.stage)
                for name in names
            )
            for names, running in ((problem.utility, True), (problem.private, False))
        )

    def _resnet(self, outputs: int, running_statistics: bool = True) -> ResNet:
        channels, size, _ = self.problem.image
        return ResNet(
            self.config.blocks,
            self.config.widths,
            classes=outputs,
            in_channels=channels,
            stem="cifar" if size <= CIFAR_STEM_UP_TO else "imagenet",
            running_statistics=running_statistics,
        )

    @cached_property
    def players(self) -> Mapping[str, Player]:
        adam = Adam(self.config.lr)
        return {
            "encoder": Player(self.obfuscator.encoder, adam),
            "pruner": Player(self.obfuscator.pruner, adam),
            "task": Player(self.tasks, adam),
            "adversary": Player(self.adversaries, adam),
        }

    def stages(self) -> Sequence[Stage]:
        c = self.config
        sampling = sampling_for(self.problem)
        return (Stage("adversarial", c.epochs, c.batch_size, self.round, sampling),)

    def round(self, batch: Batch, rng: torch.Generator) -> Round:
        """A learns from the masked map; then E, T and P move at once, each on its own loss.

        One backward pass serves all three. Through the mask the pruner hears (1-a) of the task's
        loss and -a of the adversary's; the encoder hears the task alone, and T its own loss.
        """
        alpha = self.config.alpha
        z: Tensor = self.obfuscator.encoder(batch.x)
        mask = self.mask(z)
        yield Move("adversary", self.inference_losses((z * mask).detach(), batch))
        kept = z * scale_gradient(mask, 1 - alpha)
        terms = {
            f"utility {name}": label_loss(self.problem, name, task(kept), batch)
            for name, task in zip(self.problem.utility, self.tasks, strict=True)
        }
        attacked = z.detach() * scale_gradient(mask, -alpha)
        terms |= self.inference_losses(attacked, batch)
        yield Move(("encoder", "pruner", "task"), terms)

    def mask(self, z: Tensor) -> Tensor:
        """(n, C, 1, 1) the mask of the release, through which the pruner learns in training."""
        pruned, scores = self.obfuscator.pruned, self.obfuscator.scores(z)
        soft = soft_mask(scores, threshold_of(scores, pruned), self.config.temperature)
        return straight_through(hard_mask(scores, pruned), soft)[:, :, None, None]

    def inference_losses(self, z: Tensor, batch: Batch) -> dict[str, Tensor]:
        """CE(A(z), s) of each private label."""
        return {
            f"inference {name}": cross_entropy(guess, batch[name])
            for name, guess in self.guesses(z)
        }

    def guesses(self, z: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Every private label and its adversary's logits (n, K) on z."""
        for name, adversary in zip(self.problem.private, self.adversaries, strict=True):
            yield name, adversary(z).float()

    def answers(self, z: Tensor) -> dict[str, Tensor]:
        pairs = zip(self.problem.utility, self.tasks, strict=True)
        return {name: answer_of(self.problem, name, task(z)) for name, task in pairs}

    def training_adversary(self, z: Tensor) -> dict[str, Tensor]:
        return dict(self.guesses(z))

    def title(self) -> str:
        usual = {"alpha": 0.5, "ratio": 0.99}
        shown = [
            f"{field}={getattr(self.config, field):g}"
            for field, value in usual.items()
            if getattr(self.config, field) != value
        ]
        return " ".join(["DISCO", *shown])

    def reported(self, data: str) -> Mapping[str, float]:
        """Mouth open and smiling on CelebA, by Jeong et al. (NARL, UAI 2023, supplement)."""
        labels = (self.problem.private, self.problem.utility)
        if data != "celeba" or labels != (("Mouth_Slightly_Open",), ("Smiling",)):
            return {}
        row = {"Mouth_Slightly_Open": 0.7830, "Smiling": 0.9070}
        return row if self.title() == "DISCO" else {}
