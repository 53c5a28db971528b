"""NARL: Noisy Adversarial Representation Learning.

Jeong, Cho, Benz, Kim: "Noisy Adversarial Representation Learning for Effective and Efficient Image
Obfuscation", UAI 2023, PMLR 216:953-962, and its supplement.

Threat model: whoever receives the noisy map z of an image computes a useful label from it with the
server's half of the network, and knows enough to train a classifier of a private label, or a
reconstruction of the picture, on other people's maps.

Equation map (E obfuscator, T task, A adversary, n ~ N(0, I))
    E, T, A                        a ResNet-18 cut after a stage; T and A are each the rest of one
    z = E(x) + sigma n             `NARLObfuscator.release`
    min over E, T  L_task - w L_adv;  min over A  L_adv
                                   `NARL.joint_move`, by `losses.scale_gradient`
    L_task, L_adv                  `objectives.label_loss`: cross-entropy, squared error of
                                   z-scores; one logit for two classes, `LogOdds`
    reconstruction attack          `nets.transposed_decoder`
    client cost                    `cost.client_cost`

Departures
    1. One backward pass serves all three: A stands behind a reversed gradient. The released code
       divides A's gradient by -w instead, and has none at w = 0; here w = 0 is an ordinary value.
    2. A's batch norms use the batch's own statistics in evaluation as they do in training. What A
       says of a release is then what E played against; remembered means lag behind E's and would
       make A look fooled. T answers single images, and remembers.
    3. `bound`: an L2 clip of the whole map before the noise, which makes of sigma a certificate
       (`mechanism.ClippedGaussian`). Without it features are unbounded: E can outgrow any sigma,
       and sigma certifies nothing.
    4. Several labels get one T or A each, and their losses are summed.
    5. Pictures of 32 pixels and less go through ResNet's stem for small pictures.

Unclear in the paper, and what we do
    1. w and the epochs of each row were swept and are not given: 0.01, 20.
    2. "Light" colour jitter: brightness, contrast, saturation times U[0.9, 1.1] each. No flips
       where landmarks are a label: they would point to the other side.
    3. Landmarks: the table's squared errors fit z-scores of each coordinate.
    4. -w L_adv has no floor: past chance it rewards E for making A wrong, which hides nothing. It
       is left so; at w = 0.01 the noise does most of the work.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import pad

from veil.augmentation import flipped, jittered
from veil.data.batch import Batch
from veil.losses import scale_gradient
from veil.mechanism import ClippedGaussian, clip_norm
from veil.method import Adam, Method, MethodConfig, Move, Obfuscator, Player, Problem, Round, Stage
from veil.nets.resnet import ResNet, Stem
from veil.objectives import answer_of, label_loss, outputs_for, refuse_kinds, sampling_for

CIFAR_STEM_UP_TO = 32
RESNET18 = ((2, 2, 2, 2), (64, 128, 256, 512))
# Supplement, tables 1 to 3: data, private, useful, cut, sigma -> privacy and, where it is an
# accuracy, utility.
REPORTED: Mapping[tuple[str, str, str, int, float], tuple[float, ...]] = {
    ("fairface", "race", "age_group", 3, 960): (0.2068, 0.5264),
    ("fairface", "race", "age_group", 4, 15): (0.2070, 0.5277),
    ("fairface", "age_group", "race", 3, 960): (0.3189, 0.6245),
    ("fairface", "age_group", "race", 4, 15): (0.2975, 0.6298),
    ("celeba", "Mouth_Slightly_Open", "Smiling", 3, 15360): (0.7699, 0.9156),
    ("celeba", "Mouth_Slightly_Open", "Smiling", 4, 15360): (0.5744, 0.9161),
    ("celeba", "Male", "landmarks", 3, 1920): (0.5853,),
}


class NARLConfig(MethodConfig):
    """Fields with the paper's symbol, value and place.

    Attributes:
        cut: the last stage of E, 0 (the stem) to 4; 3 is RN18_3, 4 is RN18_4, which releases the
            map before the average pool.
        sigma: standard deviation of the noise of every element, in units of the features; swept on
            15 * 2^k. 960 for RN18_3 and 15 for RN18_4 (supplement A.1), 1920 for landmarks (A.2),
            15360 for mouth and smile (B).
        w: weight of the adversary; swept. 0 leaves the noise alone to hide.
        bound: C, L2 norm to which the whole map is clipped before the noise, in units of the
            features; None (the paper's) does not clip.
        blocks: residual blocks of each stage; (2, 2, 2, 2) is ResNet-18.
        widths: channels of each stage; (64, 128, 256, 512) is ResNet-18.
        stem: "imagenet" shrinks the picture fourfold, "cifar" keeps it; "auto" is "cifar" up to 32
            pixels.
        flip: whether pictures are turned left to right at random in training; never where
            landmarks are a label.
        jitter: strength of the colour jitter in training, a share; "light" in the paper.
        lr: Adam's learning rate, of all players; 1e-3, not annealed.
        batch_size: images; 128.
        epochs: passes over `fit`; swept.
    """

    cut: int = Field(3, ge=0)
    sigma: float = Field(960.0, ge=0)
    w: float = Field(0.01, ge=0)
    bound: float | None = Field(None, gt=0)
    blocks: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = RESNET18[0]
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = RESNET18[1]
    stem: Literal["auto", "imagenet", "cifar"] = "auto"
    flip: bool = True
    jitter: float = Field(0.1, ge=0, le=1)
    lr: float = Field(1e-3, gt=0)
    batch_size: int = Field(128, ge=4)
    epochs: int = Field(20, ge=1)


def noisy(features: Tensor, sigma: float, rng: torch.Generator) -> Tensor:
    """z = E(x) + sigma n, n ~ N(0, 1) for each element.

    Args:
        features: (n, ...) E(x), float32: in bfloat16 a signal drowns in the noise's rounding.
        sigma: in the units of the features.
        rng: on their device.
    """
    noise = torch.randn(features.shape, generator=rng, device=features.device, dtype=features.dtype)
    return features + sigma * noise


def signal_to_noise(signal: Tensor, sigma: float) -> dict[str, float]:
    """Mean square of a signal's elements over sigma^2, in decibels: as it is, and between images.

    Args:
        signal: (n, ...) of n images; "between images" is without what all of them share, the mean
            of every element. Receivers who know the direction gain 10 log10 of the number of
            elements.
        sigma: > 0.
    """
    shares = {
        "signal-to-noise ratio, dB": signal,
        "signal-to-noise ratio between images, dB": signal - signal.mean(dim=0),
    }
    least = torch.finfo(torch.float64).tiny
    return {
        name: 10 * math.log10(max(least, share.double().square().mean().item() / sigma**2))
        for name, share in shares.items()
    }


class LogOdds(nn.Module):
    """One logit l (n, 1) of a binary label -> (0, l), whose cross-entropy is binary of l."""

    def forward(self, logit: Tensor) -> Tensor:
        return pad(logit, (1, 0))


class NARLObfuscator(Obfuscator):
    """The stem and first stages of a ResNet, and the noise: image -> z, a map."""

    def __init__(self, encoder: nn.Module, sigma: float, bound: float | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.sigma = sigma
        self.mechanism = None if bound is None else ClippedGaussian(bound, sigma)

    def features(self, x: Tensor) -> Tensor:
        """E(x), (n, c', h', w') float32, before any clip."""
        features: Tensor = self.encoder(x)
        return features.float()

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return next(self.draws(x, (rng,)))

    def draws(self, x: Tensor, rngs: Iterable[torch.Generator]) -> Iterator[Tensor]:
        features = self.features(x)
        for rng in rngs:
            if self.mechanism is not None:
                yield self.mechanism.apply(features, rng)
            else:
                yield noisy(features, self.sigma, rng)


class NARL(Method):
    """The obfuscator E, and for every label its own T or A: the rest of a ResNet."""

    Config = NARLConfig
    config: NARLConfig
    obfuscator: NARLObfuscator

    def __init__(self, config: MethodConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        assert isinstance(config, NARLConfig)
        refuse_kinds("NARL", problem)
        self.config = config
        self.problem = problem
        self.obfuscator = NARLObfuscator(
            self._network(outputs=1).stem_and_stages(config.cut), config.sigma, config.bound
        )
        self.tasks = nn.ModuleList(self._head(name) for name in problem.utility)
        self.adversaries = nn.ModuleList(
            self._head(name, running_statistics=False) for name in problem.private
        )

    def _network(self, outputs: int, running_statistics: bool = True) -> ResNet:
        c, (channels, size, _) = self.config, self.problem.image
        stem: Stem = "cifar" if size <= CIFAR_STEM_UP_TO else "imagenet"
        return ResNet(
            c.blocks,
            c.widths,
            classes=outputs,
            in_channels=channels,
            stem=stem if c.stem == "auto" else c.stem,
            running_statistics=running_statistics,
        )

    def _head(self, name: str, running_statistics: bool = True) -> nn.Sequential:
        """The rest of a network for a label: z -> as many numbers as `outputs_for` says."""
        outputs = outputs_for(self.problem, name)
        binary = self.problem.labels[name].is_class and outputs == 2
        network = self._network(1 if binary else outputs, running_statistics)
        rest = network.rest_after(self.config.cut)
        return rest.append(LogOdds()) if binary else rest

    @cached_property
    def players(self) -> Mapping[str, Player]:
        adam = Adam(self.config.lr)
        return {
            "obfuscator": Player(self.obfuscator, adam),
            "task": Player(self.tasks, adam),
            "adversary": Player(self.adversaries, adam),
        }

    def stages(self) -> Sequence[Stage]:
        c = self.config
        return (Stage("joint", c.epochs, c.batch_size, self.round, sampling_for(self.problem)),)

    def round(self, batch: Batch, rng: torch.Generator) -> Round:
        """z, with noise in training as at release; then everybody at once."""
        x = self.augmented(batch.x, rng) if self.training else batch.x
        yield self.joint_move(self.obfuscator.release(x, rng), batch)

    def augmented(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Pictures as they are trained on."""
        kinds = {self.problem.labels[name].kind for name in self.problem.names}
        if self.config.flip and "landmarks" not in kinds:
            x = flipped(x, rng)
        return jittered(x, rng, self.config.jitter) if self.config.jitter else x

    def joint_move(self, z: Tensor, batch: Batch) -> Move:
        """E and T: min L_task - w L_adv; A: min L_adv, all of one z.

        Args:
            z: (n, c', h', w') the releases, with the graph that leads to E.
            batch: their labels.
        """
        terms = {
            f"utility {name}": label_loss(self.problem, name, task(z), batch)
            for name, task in zip(self.problem.utility, self.tasks, strict=True)
        }
        reversed_z = scale_gradient(z, -self.config.w)
        terms |= {
            f"inference {name}": label_loss(self.problem, name, adversary(reversed_z), batch)
            for name, adversary in zip(self.problem.private, self.adversaries, strict=True)
        }
        parts = {"obfuscator": True, "task": self.tasks, "adversary": self.adversaries}
        return Move(tuple(player for player, heads in parts.items() if heads), terms)

    def answers(self, z: Tensor) -> dict[str, Tensor]:
        pairs = zip(self.problem.utility, self.tasks, strict=True)
        return {name: answer_of(self.problem, name, task(z).float()) for name, task in pairs}

    def training_adversary(self, z: Tensor) -> dict[str, Tensor]:
        pairs = zip(self.problem.private, self.adversaries, strict=True)
        return {name: adversary(z).float() for name, adversary in pairs}

    def measured(self, x: Tensor, rng: torch.Generator) -> Mapping[str, float]:
        c, signal = self.config, self.obfuscator.features(x)
        if c.sigma == 0:
            return {}
        return signal_to_noise(signal if c.bound is None else clip_norm(signal, c.bound), c.sigma)

    def title(self) -> str:
        c, usual = self.config, NARLConfig()
        shown = [
            f"{field}={getattr(c, field):g}"
            for field in ("sigma", "w", "bound")
            if getattr(c, field) != getattr(usual, field)
        ]
        return " ".join([f"NARL RN{2 * sum(c.blocks) + 2}_{c.cut}", *shown])

    def reported(self, data: str) -> Mapping[str, float]:
        """Supplement, tables 1 to 3: accuracies, at a w that it does not give."""
        c = self.config
        if (c.blocks, c.widths) != RESNET18 or c.w == 0 or c.bound is not None:
            return {}
        private, useful = ", ".join(self.problem.private), ", ".join(self.problem.utility)
        figures = REPORTED.get((data, private, useful, c.cut, c.sigma), ())
        return dict(zip(self.problem.names, figures, strict=False))
