"""Answer-only: release nothing but the task's answer, one codeword per class.

The line that every learned release has to beat when its one task is known in advance. It has no
paper of its own; "rn18" is the classifier of Jeong et al. (NARL, UAI 2023), He et al. (CVPR 2016).

Threat model: whoever receives the answer infers a private attribute from it. What they can learn
is what the answer itself gives away, so the leakage sits on the copy floor, for every attacker.

Equation map
    release     z = one-hot argmax T(x), the answers of several tasks side by side
    training    `AnswerOnly.round`: cross-entropy of T on clean images

Departures
    None: there is no paper.

Unclear in the paper
    Nothing to be unclear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import one_hot

from veil.data.batch import Batch
from veil.errors import VeilError
from veil.losses import cross_entropy
from veil.method import Adam, Method, MethodConfig, Move, Obfuscator, Player, Problem, Round, Stage
from veil.nets.resnet import ResNet

CIFAR_STEM_UP_TO = 32
CERTAIN = 20.0  # the logit of the released class above the others


class AnswerOnlyConfig(MethodConfig):
    """Fields.

    Attributes:
        blocks: residual blocks of each stage; (2, 2, 2, 2) is ResNet-18.
        widths: channels of each stage; (64, 128, 256, 512) is ResNet-18.
        lr: Adam's learning rate.
        batch_size: images.
        epochs: passes over `fit`.
        patience: epochs without a better loss on `select` before it stops; 0 never stops.
    """

    blocks: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (2, 2, 2, 2)
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64, 128, 256, 512)
    lr: float = Field(1e-3, gt=0)
    batch_size: int = Field(128, ge=4)
    epochs: int = Field(8, ge=1)
    patience: int = Field(3, ge=0)


class AnswerOnlyObfuscator(Obfuscator):
    """One classifier for each task, of which only the most probable class leaves the building."""

    def __init__(self, classifiers: Sequence[nn.Module], classes: Sequence[int]) -> None:
        super().__init__()
        self.classifiers = nn.ModuleList(classifiers)
        self.classes = tuple(classes)

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        answers = [net(x).argmax(dim=1) for net in self.classifiers]
        pairs = zip(answers, self.classes, strict=True)
        return torch.cat([one_hot(answer, k) for answer, k in pairs], dim=1).float()


class AnswerOnly(Method):
    """A classifier whose answers are the release."""

    Config = AnswerOnlyConfig
    config: AnswerOnlyConfig
    obfuscator: AnswerOnlyObfuscator

    def __init__(self, config: MethodConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        assert isinstance(config, AnswerOnlyConfig)
        if not problem.utility:
            raise VeilError("answer-only releases a task's answer: name a useful label (--utility)")
        for name in problem.utility:
            if not problem.labels[name].is_class:
                raise VeilError(f"answer-only releases classes; '{name}' has none known in advance")
        if len(config.blocks) != len(config.widths):
            raise VeilError(
                f"answer-only: {len(config.blocks)} blocks but {len(config.widths)} widths"
            )
        self.config = config
        self.problem = problem
        channels, size, _ = problem.image
        classes = [len(problem.labels[name].classes) for name in problem.utility]
        networks = [
            ResNet(
                config.blocks,
                config.widths,
                classes=k,
                in_channels=channels,
                stem="cifar" if size <= CIFAR_STEM_UP_TO else "imagenet",
            )
            for k in classes
        ]
        self.obfuscator = AnswerOnlyObfuscator(networks, classes)

    @cached_property
    def players(self) -> Mapping[str, Player]:
        return {"task": Player(self.obfuscator, Adam(self.config.lr))}

    def stages(self) -> Sequence[Stage]:
        c = self.config
        return (Stage("train", c.epochs, c.batch_size, self.round, patience=c.patience or None),)

    def round(self, batch: Batch, rng: torch.Generator) -> Round:
        """Cross-entropy of every task's classifier on the images themselves."""
        pairs = zip(self.problem.utility, self.obfuscator.classifiers, strict=True)
        yield Move(
            "task",
            {f"utility {n}": cross_entropy(net(batch.x).float(), batch[n]) for n, net in pairs},
        )

    def answers(self, z: Tensor) -> dict[str, Tensor]:
        parts = torch.split(z, list(self.obfuscator.classes), dim=1)
        return {n: CERTAIN * part for n, part in zip(self.problem.utility, parts, strict=True)}

    def title(self) -> str:
        return "Answer only"
