"""MaxEnt-ARL and ML-ARL: an adversary that should be left in doubt, or be made wrong.

Roy, Boddeti: "Mitigating Information Leakage in Image Representations: A Maximum Entropy Approach",
CVPR 2019, arXiv 1904.05514.

Threat model: whoever receives the vector z of an image reads a useful label from it and trains a
classifier of a private one on other people's vectors, knowing the encoder.

Equation map (section 3; E encoder, T predictor, A discriminator, a trade-off)
    A: min CE(A(sg(z)), s)              `MaxEnt.round`, first move
    E, T: min (1-a) CE(T(z), y) + a R   `MaxEnt.round`, second move; `encoder_terms`
    R = -H(softmax A(z))                `privacy_term`, form "entropy": MaxEnt-ARL
    R = -CE(A(z), s)                    `privacy_term`, form "likelihood": ML-ARL
    -H(p) + log K = KL(p | uniform)     the paper's form of R; the same gradients

Departures
    1. The adversary's batch norms always use the batch's own statistics, never remembered ones:
       those would move whenever the encoder computes R, and an encoder can fool an adversary that
       normalises by remembered ones by shifting its own means, which hides nothing.
    2. Several private or useful labels get one head each; their losses are summed. A useful label
       may be continuous, landmarks or an identity (`objectives.label_loss`).
    3. Pictures of 32 pixels and less go through ResNet-18's stem for small pictures.

Unclear in the paper, and what we do
    1. Who plays when: A first, then E and T in one step, once each for every batch, all from one
       forward of E. A is asked again after its step, so that R is about the adversary as it is.
    2. Dropout while E computes R: left as in training. E plays against another thinned adversary at
       every step, and must not rely on the one that it has just seen.
    3. Weight decay: added to the gradient (L2), as Adam did at the time, biases and norms included.
    4. a is given as a list for the trade-off curve; our default lies in its middle.
    5. R of the form "likelihood" is unbounded. It is left so: for two classes its best answer is
       an adversary that is certain and wrong, whose flipped answers are right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from veil.data.batch import Batch
from veil.losses import cross_entropy, entropy
from veil.method import Adam, Method, MethodConfig, Move, Obfuscator, Player, Problem, Round, Stage
from veil.nets.resnet import ResNet
from veil.objectives import answer_of, label_loss, outputs_for, refuse_kinds, sampling_for

PrivacyForm = Literal["entropy", "likelihood"]
CIFAR_STEM_UP_TO = 32
# Jeong et al. (NARL, UAI 2023), tables 1-3 of the supplement: data, private label, useful label ->
# accuracies. Of landmarks they give a squared error, 1.2156.
REPORTED: Mapping[tuple[str, ...], Mapping[str, float]] = {
    ("fairface", "race", "age_group"): {"race": 0.2340, "age_group": 0.5382},
    ("fairface", "age_group", "race"): {"age_group": 0.3082, "race": 0.6327},
    ("celeba", "Mouth_Slightly_Open", "Smiling"): {
        "Mouth_Slightly_Open": 0.8082,
        "Smiling": 0.9329,
    },
    ("celeba", "Male", "landmarks"): {"Male": 0.5743},
}


class MaxEntConfig(MethodConfig):
    """Fields with the paper's symbol and value.

    Attributes:
        form: R; "entropy" is MaxEnt-ARL, "likelihood" ML-ARL.
        alpha: weight of R against the task's, in [0, 1]; a in {.1, .2, .3, .4, .5, .6}.
        blocks: residual blocks of each stage; (2, 2, 2, 2) is ResNet-18.
        widths: channels of each stage; (64, 128, 256, 512) is ResNet-18.
        embedding: numbers in z; 128.
        head_units: of the two hidden layers of A and T; (256, 128).
        dropout: probability with which a unit of the first hidden layer is dropped; .5.
        encoder_lr, encoder_weight_decay: Adam of E; 1e-4 and 1e-2.
        head_lr, head_weight_decay: Adam of A and of T; 1e-2 and 1e-3. All anneal as a cosine.
        batch_size: images; 128.
        epochs: passes over `fit`; 150.
    """

    form: PrivacyForm = "entropy"
    alpha: float = Field(0.5, ge=0, le=1)
    blocks: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (2, 2, 2, 2)
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64, 128, 256, 512)
    embedding: int = Field(128, ge=1)
    head_units: tuple[PositiveInt, PositiveInt] = (256, 128)
    dropout: float = Field(0.5, ge=0, lt=1)
    encoder_lr: float = Field(1e-4, gt=0)
    encoder_weight_decay: float = Field(1e-2, ge=0)
    head_lr: float = Field(1e-2, gt=0)
    head_weight_decay: float = Field(1e-3, ge=0)
    batch_size: int = Field(128, ge=4)
    epochs: int = Field(150, ge=1)


def privacy_term(logits: Tensor, s: Tensor, form: PrivacyForm) -> Tensor:
    """R, minimised by the encoder, in nats.

    Args:
        logits: (n, K) of the adversary on z.
        s: (n,) private classes, -1 where missing; the entropy does not look at them.
        form: "entropy" is -H(softmax logits) in [-log K, 0], lowest where the adversary doubts;
            "likelihood" is -CE, unbounded below, low where it is wrong.
    """
    return -entropy(logits) if form == "entropy" else -cross_entropy(logits, s)


def encoder_terms(
    utility: Mapping[str, Tensor], privacy: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """What E and T minimise: (1-a) CE(T(z), y) + a R, over all labels.

    Args:
        utility: useful label -> its loss.
        privacy: private label -> its `privacy_term`.
        alpha: a in [0, 1].
    """
    terms = {f"utility {name}": (1 - alpha) * loss for name, loss in utility.items()}
    return terms | {f"privacy {name}": alpha * loss for name, loss in privacy.items()}


class Head(nn.Sequential):
    """A or T: Linear, BatchNorm, PReLU, Dropout, Linear, BatchNorm, PReLU, Linear.

    Args:
        inputs: d of the vectors (n, d).
        units: of the two hidden layers.
        outputs: numbers given.
        dropout: probability with which a unit of the first hidden layer is dropped.
        running_statistics: as in `nets.resnet.ResNet`.
    """

    def __init__(
        self,
        inputs: int,
        units: tuple[int, int],
        outputs: int,
        dropout: float,
        running_statistics: bool,
    ) -> None:
        first, second = units
        super().__init__(
            nn.Linear(inputs, first),
            nn.BatchNorm1d(first, track_running_stats=running_statistics),
            nn.PReLU(),
            nn.Dropout(dropout),
            nn.Linear(first, second),
            nn.BatchNorm1d(second, track_running_stats=running_statistics),
            nn.PReLU(),
            nn.Linear(second, outputs),
        )


class MaxEntObfuscator(Obfuscator):
    """The encoder E: image -> z, a vector."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        z: Tensor = self.encoder(x)
        return z


class MaxEnt(Method):
    """Encoder E, predictors T and discriminators A."""

    Config = MaxEntConfig
    config: MaxEntConfig
    obfuscator: MaxEntObfuscator

    def __init__(self, config: MethodConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        assert isinstance(config, MaxEntConfig)
        refuse_kinds("MaxEnt-ARL", problem)
        self.config = config
        self.problem = problem
        channels, size, _ = problem.image
        self.obfuscator = MaxEntObfuscator(
            ResNet(
                config.blocks,
                config.widths,
                classes=config.embedding,
                in_channels=channels,
                stem="cifar" if size <= CIFAR_STEM_UP_TO else "imagenet",
            )
        )
        self.tasks, self.adversaries = (
            nn.ModuleList(
                Head(
                    config.embedding,
                    config.head_units,
                    outputs_for(problem, name),
                    config.dropout,
                    running_statistics,
                )
                for name in names
            )
            for names, running_statistics in ((problem.utility, True), (problem.private, False))
        )

    @cached_property
    def players(self) -> Mapping[str, Player]:
        c = self.config
        encoder = Adam(c.encoder_lr, weight_decay=c.encoder_weight_decay, cosine=True)
        head = Adam(c.head_lr, weight_decay=c.head_weight_decay, cosine=True)
        return {
            "encoder": Player(self.obfuscator, encoder),
            "task": Player(self.tasks, head),
            "adversary": Player(self.adversaries, head),
        }

    def stages(self) -> Sequence[Stage]:
        c = self.config
        sampling = sampling_for(self.problem)
        return (Stage("adversarial", c.epochs, c.batch_size, self.round, sampling),)

    def round(self, batch: Batch, rng: torch.Generator) -> Round:
        """A learns from sg(z); then E and T share one backward pass."""
        z: Tensor = self.obfuscator.encoder(batch.x)
        guesses = self.guesses(z.detach())
        yield Move("adversary", {f"inference {n}": cross_entropy(g, batch[n]) for n, g in guesses})
        utility = {
            name: label_loss(self.problem, name, task(z), batch)
            for name, task in zip(self.problem.utility, self.tasks, strict=True)
        }
        privacy = {n: privacy_term(g, batch[n], self.config.form) for n, g in self.guesses(z)}
        yield Move(
            ("encoder", "task") if utility else "encoder",
            encoder_terms(utility, privacy, self.config.alpha),
        )

    def guesses(self, z: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Every private label and its adversary's logits (n, K) on z, n > 1."""
        for name, adversary in zip(self.problem.private, self.adversaries, strict=True):
            yield name, adversary(z).float()

    def answers(self, z: Tensor) -> dict[str, Tensor]:
        pairs = zip(self.problem.utility, self.tasks, strict=True)
        return {name: answer_of(self.problem, name, task(z)) for name, task in pairs}

    def training_adversary(self, z: Tensor) -> dict[str, Tensor]:
        # One vector has no statistics of its own, and batch norm refuses it: it comes twice.
        several = z if len(z) > 1 else z.repeat(2, 1)
        return {name: logits[: len(z)] for name, logits in self.guesses(several)}

    def title(self) -> str:
        c = self.config
        name = "MaxEnt-ARL" if c.form == "entropy" else "ML-ARL"
        return name if c.alpha == 0.5 else f"{name} alpha={c.alpha:g}"

    def reported(self, data: str) -> Mapping[str, float]:
        """Figures of MaxEnt-ARL by Jeong et al. (UAI 2023), who do not say which a they chose."""
        if self.config.form != "entropy" or len(self.problem.private) != 1:
            return {}
        return REPORTED.get((data, *self.problem.names), {})
