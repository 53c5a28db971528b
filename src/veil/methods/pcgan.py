"""PCGAN: synthetic replacement of private attributes.

Martinsson, Listo Zec, Gillblad, Mogren: "Adversarial representation learning for synthetic
replacement of private attributes", arXiv 2006.08039, IEEE Big Data 2021.

Threat model: whoever receives the picture may query the release at will, trains on labelled
releases, and infers the private attribute that the face really had.

Equation map
    Eq. 1, L_f    `entropy_loss`, `likelihood_loss`; h_f's own loss is `losses.cross_entropy`
    L_g           `discriminator_loss`, of h_g (section 3.2);  g's own loss is `generator_loss`
    Constraints   `distortion_penalty`, of f and of g
    Algorithm 1   `PCGAN.round`
    Figure 8      `nets.unet.UNet`;  section 3.3: h_f and h_g are `nets.resnet.ResNet`
    Table 2       f: parts = "filter";  g: parts = "generator";  g after f: parts = "both"
    GAP           Huang et al., "Generative adversarial privacy" (2018), as the paper runs it:
                  parts = "filter", loss = "likelihood"

Departures
    1. The minimax problems (section 3) let a network and its discriminator fight over one loss;
       algorithm 1 gives each a loss of its own to minimise, and is followed.
    2. d is "defined as the L2-norm"; it is the mean squared error per pixel, so that 0.001 is a
       PSNR of 30 dB and budgets do not depend on the picture's size.
    3. Algorithm 1 computes all four losses and then moves f and g, then h_f and h_g. Here f and h_f
       move at once, from one forward pass, each on its own loss; then g and h_g. The filter's
       picture is drawn anew, with another z1 and the filter as it then is, for g: g sees what it
       will see when deployed, and its loss cannot reach f.
    4. Discriminators normalise by the statistics of the batch, always: while training that is what
       the paper's do, and they keep no others that f and g could push about.
    5. Several private attributes: an h_f, an h_g and an embedding of s' for each, one budget.

Unclear in the paper, and what we do
    1. Entropy is averaged over the batch, which weighs the same against the penalty at any batch
       size (entropy_over = "sum" is 64 times as much, as the figures were probably made).
    2. The batch size is not given: 64. Epsilon is a list of budgets: 0.01, the third of table 2.
    3. L_g and algorithm 1 add h_g's two terms, and so do we; to Adam half their sum is the same.
    4. Table 2's f may be trained on entropy or likelihood; its figures stand beside entropy's.
    5. Sides that 16 does not divide: the U-Net rounds down, and grows back to the skip's size.
       Up to 32 pixels h_f and h_g begin with the stem for small pictures, without striding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from veil.data.batch import Batch
from veil.data.dataset import MISSING
from veil.errors import VeilError
from veil.image_quality import psnr
from veil.losses import cross_entropy, entropy
from veil.method import (
    Adam,
    Method,
    MethodConfig,
    Move,
    Obfuscator,
    Player,
    Problem,
    Replacement,
    Round,
    Stage,
)
from veil.nets.resnet import ResNet
from veil.nets.unet import UNet
from veil.objectives import refuse_kinds

Over = Literal["mean", "sum"]
Stages = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
CIFAR_STEM_UP_TO = 32
LAMBDA = 1e5
# Accuracy of a fresh adversary of Smiling, by title.
TABLE_2 = {
    f"{name} epsilon={epsilon:g}": accuracy
    for epsilon, row in (
        (0.001, (0.893, 0.907, 0.887)),
        (0.005, (0.899, 0.912, 0.859)),
        (0.01, (0.898, 0.915, 0.832)),
        (0.05, (0.692, 0.787, 0.541)),
    )
    for name, accuracy in zip(("Filter", "Generator", "PCGAN"), row, strict=True)
}


class PCGANConfig(MethodConfig):
    """Fields with the paper's symbol, value and place.

    Attributes:
        parts: "both" is the paper's method, g after f; "filter" releases f's picture, "generator"
            g's of the original (table 2).
        loss: l_f, "entropy" (section 3.3) or "likelihood", the cross-entropy to 1 - s of GAP.
        entropy_over: the batch's "mean" or "sum" (unclear point 1).
        epsilon: budget of f and of g, a mean squared error per pixel; 0.001 to 0.05 (section 4).
        lam: lambda, weight of the penalty on distortion; 1e5 (section 4).
        widths: channels of the U-Nets; (32, 64, 128, 256, 512), figure 8.
        noise: numbers in z1 and in z2, drawn from N(0, 1); 1024 (appendix A.1).
        embedding: numbers that s' is embedded in; 128 (appendix A.1).
        h_f_blocks: residual blocks of each stage; (2, 2, 2, 2) is ResNet-18 (section 3.3).
        h_g_blocks: the same for h_g; (1, 1, 1, 1) is ResNet-10 (section 3.3).
        discriminator_widths: channels of each stage of both; (64, 128, 256, 512).
        lr: Adam's learning rate, of all players; 5e-4 (section 4), with beta (0.9, 0.999).
        batch_size: m, images; not given.
        epochs: passes over `fit`; 100 (section 4).
    """

    parts: Literal["filter", "generator", "both"] = "both"
    loss: Literal["entropy", "likelihood"] = "entropy"
    entropy_over: Over = "mean"
    epsilon: float = Field(0.01, ge=0)
    lam: float = Field(LAMBDA, ge=0)
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=2)] = (32, 64, 128, 256, 512)
    noise: int = Field(1024, ge=1)
    embedding: int = Field(128, ge=1)
    h_f_blocks: Stages = (2, 2, 2, 2)
    h_g_blocks: Stages = (1, 1, 1, 1)
    discriminator_widths: Stages = (64, 128, 256, 512)
    lr: float = Field(5e-4, gt=0)
    batch_size: int = Field(64, ge=2)
    epochs: int = Field(100, ge=1)


def distortion(released: Tensor, x: Tensor) -> Tensor:
    """(1/m) sum_i d(x'_i, x_i) of algorithm 1, d the mean squared error of one input's entries.

    Args:
        released: (n, ...) x' or x''; x: the same shape. Pictures in [0, 1], or points.

    Returns:
        A scalar in squared units of x; 0.001 on pictures is a PSNR of 30 dB.
    """
    return (released - x).square().mean()


def distortion_penalty(released: Tensor, x: Tensor, epsilon: float, lam: float) -> Tensor:
    """lam max(distortion - epsilon, 0)^2 of algorithm 1: free within the budget, quadratic beyond.

    Args:
        released: (n, ...) x' or x''; x: the same shape.
        epsilon: budget, in the units of `distortion`.
        lam: weight of the penalty, >= 0.
    """
    return lam * (distortion(released, x) - epsilon).relu().square()


def entropy_loss(logits: Tensor, over: Over) -> Tensor:
    """l_f of eq. 1, section 3.3: -H(softmax h_f(x')) in nats, averaged or summed over the batch.

    Args:
        logits: (n, K) of h_f on x'.
        over: "mean" lies in [-log K, 0]; "sum" is n times as much.
    """
    mean = -entropy(logits)
    return mean if over == "mean" else mean * len(logits)


def likelihood_loss(logits: Tensor, s: Tensor) -> Tensor:
    """l_f of eq. 1, appendix A.3: CE(h_f(x'), 1 - s), that of GAP, for binary s only.

    Args:
        logits: (n, 2) of h_f on x'.
        s: (n,) private classes 0 or 1, -1 where missing.
    """
    return cross_entropy(logits, torch.where(s == MISSING, s, 1 - s))


def generator_loss(logits: Tensor, s_new: Tensor) -> Tensor:
    """Algorithm 1: CE(h_g(x''), s'), h_g taking x'' for a real picture of class s'.

    Args:
        logits: (n, K + 1) of h_g on x'', the last for "fake".
        s_new: (n,) the classes s' drawn for x''.
    """
    return cross_entropy(logits, s_new)


def discriminator_loss(fake_logits: Tensor, real_logits: Tensor, s: Tensor) -> Tensor:
    """L_g of section 3.2: CE(h_g(x''), fake) + CE(h_g(x), s).

    Args:
        fake_logits: (n, K + 1) of h_g on x'', the last for "fake".
        real_logits: (n, K + 1) of h_g on x.
        s: (n,) private classes of x, -1 where missing.
    """
    fake = torch.full_like(s, fake_logits.shape[1] - 1)
    return cross_entropy(fake_logits, fake) + cross_entropy(real_logits, s)


class Filter(Obfuscator):
    """f: x' = f(x, z1), from which the attribute is taken out."""

    pictures = True

    def __init__(self, f: UNet) -> None:
        super().__init__()
        self.f = f

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        z1 = torch.randn(len(x), self.f.noise, generator=rng, device=x.device)
        released: Tensor = self.f(x, z1)
        return released


class Generator(Replacement):
    """g, after f where there is one: x'' = g(f(x, z1), s', z2), which shows s' instead.

    Args:
        f: the filter; without one, g reads x itself.
        g: reads a picture, z2, and s' of each private label.
        classes: private label -> K; s' is uniform among them.
    """

    def __init__(self, f: Filter | None, g: UNet, classes: Mapping[str, int]) -> None:
        super().__init__()
        self.filter = f
        self.g = g
        self.classes = dict(classes)

    def replace(self, x: Tensor, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():  # g's loss never reaches f
            given = x if self.filter is None else self.filter.release(x, rng)
        s_new = {
            name: torch.randint(classes, (len(x),), generator=rng, device=x.device)
            for name, classes in self.classes.items()
        }
        z2 = torch.randn(len(x), self.g.noise, generator=rng, device=x.device)
        released: Tensor = self.g(given, z2, [*s_new.values()])
        return released, s_new


class PCGAN(Method):
    """f and g with their discriminators h_f and h_g (figure 8), or one of the two pairs."""

    Config = PCGANConfig
    config: PCGANConfig
    obfuscator: Filter | Generator

    def __init__(self, config: MethodConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        assert isinstance(config, PCGANConfig)
        refuse_kinds("PCGAN", problem)
        if not problem.private:
            raise VeilError("PCGAN replaces private attributes: name one (--private)")
        channels, height, width = problem.image
        size = (height, width)
        classes = {name: len(problem.labels[name].classes) for name in problem.private}
        for name, k in classes.items():
            if config.parts != "generator" and config.loss == "likelihood" and k != 2:
                raise VeilError(
                    f"PCGAN's likelihood loss flips two classes, '{name}' has {k}: take entropy"
                )
        self.config = c = config
        self.problem = problem

        def discriminators(blocks: tuple[int, ...], fake: int) -> nn.ModuleList:
            return nn.ModuleList(
                ResNet(
                    blocks,
                    c.discriminator_widths,
                    classes=k + fake,
                    in_channels=channels,
                    stem="cifar" if max(size) <= CIFAR_STEM_UP_TO else "imagenet",
                    running_statistics=False,
                )
                for k in classes.values()
            )

        f, self.h_f, self.h_g = None, nn.ModuleList(), nn.ModuleList()
        if c.parts != "generator":
            self.h_f = discriminators(c.h_f_blocks, fake=0)
            self.obfuscator = f = Filter(UNet(channels, size, c.widths, c.noise))
        if c.parts != "filter":
            g = UNet(channels, size, c.widths, c.noise, [*classes.values()], c.embedding)
            self.h_g = discriminators(c.h_g_blocks, fake=1)
            self.obfuscator = Generator(f, g, classes)

    @property
    def generator(self) -> Generator | None:
        """g and what comes before it, unless f works alone."""
        return self.obfuscator if isinstance(self.obfuscator, Generator) else None

    @property
    def filter(self) -> Filter | None:
        """f, unless g works alone."""
        release = self.obfuscator
        return release.filter if isinstance(release, Generator) else release

    @cached_property
    def players(self) -> Mapping[str, Player]:
        f, g, adam = self.filter, self.generator, Adam(self.config.lr)
        of_f = {"filter": f, "adversary h_f": self.h_f} if f else {}
        of_g = {"generator": g.g, "adversary h_g": self.h_g} if g else {}
        return {name: Player(module, adam) for name, module in (of_f | of_g).items()}

    def stages(self) -> Sequence[Stage]:
        c = self.config
        return (Stage("adversarial", c.epochs, c.batch_size, self.round),)

    def round(self, batch: Batch, rng: torch.Generator) -> Round:
        """Algorithm 1, one iteration: f and h_f move at once, then g and h_g."""
        c, x, f, g = self.config, batch.x, self.filter, self.generator
        if f:
            censored = f.release(x, rng)
            hiding, inference = {}, {}
            for name, logits in self._read(self.h_f, censored):
                hiding[f"privacy {name}"] = (
                    entropy_loss(logits, c.entropy_over)
                    if c.loss == "entropy"
                    else likelihood_loss(logits, batch[name])
                )
                inference[f"inference {name}"] = cross_entropy(logits, batch[name])
            hiding["distortion"] = distortion_penalty(censored, x, c.epsilon, c.lam)
            yield Move("filter", hiding), Move("adversary h_f", inference)
        if g:
            replaced, s_new = g.replace(x, rng)
            real = dict(self._read(self.h_g, x))
            replacing, telling = {}, {}
            for name, fake in self._read(self.h_g, replaced):
                replacing[f"replacement {name}"] = generator_loss(fake, s_new[name])
                loss = discriminator_loss(fake, real[name], batch[name])
                telling[f"discrimination {name}"] = loss
            replacing["distortion"] = distortion_penalty(replaced, x, c.epsilon, c.lam)
            yield Move("generator", replacing), Move("adversary h_g", telling)

    def _read(self, discriminators: nn.ModuleList, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Private label -> the logits of its discriminator."""
        for name, h in zip(self.problem.private, discriminators, strict=True):
            yield name, h(x).float()

    def training_adversary(self, z: Tensor) -> dict[str, Tensor]:
        """h_f on the filter's pictures; where g follows, it never read what is released."""
        return dict(self._read(self.h_f, z)) if self.config.parts == "filter" else {}

    def measured(self, x: Tensor, rng: torch.Generator) -> Mapping[str, float]:
        """The release's distortion, to be held against epsilon, and its mean PSNR in dB."""
        z = self.obfuscator.release(x, rng)
        return {"distortion": distortion(z, x).item(), "PSNR": psnr(z, x).mean().item()}

    def title(self) -> str:
        c = self.config
        likelihood = c.loss == "likelihood"
        filters, both = ("GAP", "PCGAN likelihood") if likelihood else ("Filter", "PCGAN")
        name = {"filter": filters, "generator": "Generator", "both": both}[c.parts]
        shown = f"{name} epsilon={c.epsilon:g}"
        if c.lam != LAMBDA:
            shown += f" lam={c.lam:g}"
        summed = c.entropy_over == "sum" and not likelihood and c.parts != "generator"
        return f"{shown} summed" if summed else shown

    def reported(self, data: str) -> Mapping[str, float]:
        """Table 2, CelebA: accuracy of a fresh adversary of Smiling."""
        row = TABLE_2.get(self.title()) if data == "celeba" else None
        return {"Smiling": row} if row and self.problem.private == ("Smiling",) else {}
