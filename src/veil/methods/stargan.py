"""StarGAN: private attributes relabelled at random by an image-to-image translator.

Choi, Choi, Kim, Ha, Kim, Choo: "StarGAN: Unified Generative Adversarial Networks for Multi-Domain
Image-to-Image Translation", CVPR 2018, arXiv 1711.09020; used as a baseline of privacy by
Martinsson, Listo Zec, Gillblad, Mogren, arXiv 2006.08039, section 5.

Threat model: whoever receives a picture, whose private attributes show a value drawn at random,
infers the true ones. StarGAN was not made to prevent that, and nothing here trains against it.

Equation map
    Eq. 1, 8    `critic_loss`, `gradient_penalty`
    Eq. 2, 3    `losses.cross_entropy` of D_cls, on pictures and on generated ones
    Eq. 4       `reconstruction_loss`
    Eq. 5, 6    `StarGAN.critic_terms`, `StarGAN.generator_terms`
    Table 4, 5  `Generator`, `Discriminator`
    Section 5.3 `StarGAN.round`: one move of the generator for `n_critic` of the discriminator

Departures
    1. A release draws new values c = s' uniformly and independently of the picture (Martinsson et
       al., section 3.3): StarGAN lets a user choose.
    2. Labels are private attributes only. Each is its own softmax over K classes; the paper has one
       vector of domains. Useful labels are not used for training (Martinsson et al., section 4).
    3. Pictures are in [0, 1] outside; the networks see [-1, 1], and eq. 4 is in these units.
    4. The learning rate falls along a cosine to nothing; the paper's is constant for the first half
       and falls linearly in the second.
    5. Pictures whose side the generator cannot halve evenly are padded by their edge and cut again;
       the discriminator halves no more often than down to one pixel (64 px: six times).

Unclear in the paper, and what we do
    1. The penalty of eq. 8 needs one number of a picture, and D_src gives a map: its mean, whose
       expectation the other terms of eq. 8 take.
    2. Normalisation of the second convolution of a residual block (table 4 lists one of each):
       convolution, instance norm, ReLU, convolution, instance norm, added to the input.
    3. Statistics of instance norm: always the picture's own, also at release.
    4. Which pictures the generator learns from: those that the discriminator has just seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from veil.augmentation import flipped
from veil.data.batch import Batch
from veil.errors import VeilError
from veil.losses import cross_entropy
from veil.method import Adam, Method, MethodConfig, Move, Player, Problem, Replacement, Round, Stage
from veil.objectives import refuse_kinds

RELABELLED_BY_MARTINSSON = ("Smiling", "Male", "Wearing_Lipstick", "Young")
EXPLORED = (0.0, 5.0, 10.0, 50.0)


class StarGANConfig(MethodConfig):
    """Fields with the paper's symbol, value and place.

    Attributes:
        lam_cls: lambda_cls of eq. 5 and 6, weight of the classification in nats; 1 (section 3.1).
        lam_rec: lambda_rec of eq. 6, weight of the L1 reconstruction in [-1, 1]; 10 (section 3.1).
        lam_gp: lambda_gp of eq. 8, weight of the gradient penalty; 10 (section 4).
        n_critic: moves of the discriminator for one of the generator; 5 (section 5.3).
        channels: of the generator's first convolution, doubled at each downsampling; 64 (table 4).
        downsamplings: strided convolutions, and as many transposed ones; 2 (table 4).
        blocks: residual blocks of the bottleneck; 6 (table 4).
        critic_channels: of the discriminator's first convolution, doubled at each; 64 (table 5).
        critic_layers: its strided convolutions; 6 (table 5).
        lr: Adam's learning rate at the start, betas (0.5, 0.999); 1e-4 (section 5.3).
        batch_size: images of one move; 16 (section 5.3).
        epochs: passes over `fit`; 20 on CelebA (section 5.3).
    """

    lam_cls: float = Field(1.0, ge=0)
    lam_rec: float = Field(10.0, ge=0)
    lam_gp: float = Field(10.0, ge=0)
    n_critic: int = Field(5, ge=1)
    channels: int = Field(64, ge=1)
    downsamplings: int = Field(2, ge=1)
    blocks: int = Field(6, ge=1)
    critic_channels: int = Field(64, ge=1)
    critic_layers: int = Field(6, ge=1)
    lr: float = Field(1e-4, gt=0)
    batch_size: int = Field(16, ge=1)
    epochs: int = Field(20, ge=0)


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-E[D_src(x)] + E[D_src(G(x, c))] of scores (n, 1, h', w'): eq. 8 without its penalty."""
    return fake.mean() - real.mean()


def gradient_penalty(critic: nn.Module, x: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """E[(|grad D_src(x_mixed)|_2 - 1)^2] of eq. 8, on lines between pictures and generated ones.

    Args:
        critic: (n, c, h, w) -> scores (n, 1, h', w') first of all; the mean counts (unclear 1).
        x, fake: (n, c, h, w) in [-1, 1].
        mix: (n, 1, 1, 1) in [0, 1], the share of x.
    """
    learning = torch.is_grad_enabled()
    with torch.enable_grad():  # the penalty is a gradient, also where nobody learns
        mixed = (mix * x + (1 - mix) * fake).detach().requires_grad_()
        score = critic(mixed)[0].float().mean(dim=(1, 2, 3)).sum()
        (slope,) = torch.autograd.grad(score, mixed, create_graph=learning)
    steepness: Tensor = torch.linalg.vector_norm(slope.flatten(1), dim=1)
    return (steepness - 1).square().mean()


def reconstruction_loss(x: Tensor, x_hat: Tensor) -> Tensor:
    """Eq. 4: E[|x - G(G(x, c), c')|_1], the mean over pixels of pictures in [-1, 1]."""
    return (x - x_hat).abs().mean()


class InstanceNorm(nn.InstanceNorm2d):
    """Laid out as the convolution after it: a ReLU between two layouts is slow on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).contiguous(memory_format=torch.channels_last)


def convolution(before: int, after: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size, or halves it, and its normalisation."""
    conv = nn.Conv2d(before, after, kernel, stride, padding=(kernel - 1) // 2, bias=False)
    return [conv, InstanceNorm(after, affine=True)]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity (unclear point 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *convolution(channels, channels, 3), nn.ReLU(), *convolution(channels, channels, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.residual(x)
        return y


class Generator(nn.Module):
    """Table 4: a picture and the vector of what it is to show -> a picture, both in [-1, 1]."""

    def __init__(self, image_channels: int, target_channels: int, config: StarGANConfig) -> None:
        super().__init__()
        widths = [config.channels * 2**i for i in range(config.downsamplings + 1)]
        layers = [*convolution(image_channels + target_channels, widths[0], 7), nn.ReLU()]
        for i in range(config.downsamplings):
            layers += [*convolution(widths[i], widths[i + 1], 4, stride=2), nn.ReLU()]
        layers += [ResidualBlock(widths[-1]) for _ in range(config.blocks)]
        for i in reversed(range(config.downsamplings)):
            layers += [
                nn.ConvTranspose2d(widths[i + 1], widths[i], 4, 2, padding=1, bias=False),
                InstanceNorm(widths[i], affine=True),
                nn.ReLU(),
            ]
        last = nn.Conv2d(widths[0], image_channels, 7, padding=3, bias=False)
        self.layers = nn.Sequential(*layers, last, nn.Tanh())
        self.multiple = 2**config.downsamplings

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """(n, c, h, w) and (n, target_channels) -> (n, c, h, w)."""
        height, width = x.shape[2:]
        maps = target[:, :, None, None].expand(-1, -1, height, width)
        beside = torch.cat([x, maps.to(x.dtype)], dim=1)
        missing = (-width % self.multiple, -height % self.multiple)
        if any(missing):
            beside = F.pad(beside, (0, missing[0], 0, missing[1]), mode="replicate")
        y: Tensor = self.layers(beside.contiguous(memory_format=torch.channels_last)).float()
        return y[..., :height, :width]


class Discriminator(nn.Module):
    """Table 5: is a picture in [-1, 1] real, patch by patch, and which of K classes each shows."""

    def __init__(
        self, image: tuple[int, int, int], classes: Sequence[int], config: StarGANConfig
    ) -> None:
        super().__init__()
        channels, size, _ = image
        halvings = min(config.critic_layers, size.bit_length() - 1)
        widths = [channels, *(config.critic_channels * 2**i for i in range(halvings))]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, 2, padding=1), nn.LeakyReLU(0.01)]
        self.trunk = nn.Sequential(*layers)
        self.source = nn.Conv2d(widths[-1], 1, 3, padding=1, bias=False)
        self.attributes = nn.Conv2d(widths[-1], sum(classes), size // 2**halvings, bias=False)
        self.classes = tuple(classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """D_src, (n, 1, h', w') scores, and D_cls, (n, K) logits of each attribute."""
        maps = self.trunk(x)
        logits: Tensor = self.attributes(maps).flatten(1).float()
        return self.source(maps).float(), torch.split(logits, list(self.classes), dim=1)


class StarGANObfuscator(Replacement):
    """The generator, and a uniform draw of what it is to show."""

    def __init__(self, generator: Generator, classes: Mapping[str, int]) -> None:
        super().__init__()
        self.generator = generator
        self.classes = dict(classes)

    def draw(self, x: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Private label -> (n,) int64 classes, uniform and independent of x."""
        # Row by row, so that what one picture gets does not depend on how many others there are.
        u = torch.rand(len(x), len(self.classes), generator=rng, device=x.device)
        return {name: (u[:, i] * k).long() for i, (name, k) in enumerate(self.classes.items())}

    def target(self, s: Mapping[str, Tensor]) -> Tensor:
        """The vector c: one 0/1 entry for a binary label, one-hot entries for one of K classes."""
        parts = [
            F.one_hot(s[name], k) if k > 2 else s[name][:, None] for name, k in self.classes.items()
        ]
        return torch.cat(parts, dim=1).float()

    def replace(self, x: Tensor, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        s_new = self.draw(x, rng)
        y: Tensor = self.generator(2 * x - 1, self.target(s_new))
        return (y + 1) / 2, s_new


class StarGAN(Method):
    """Generator and discriminator of figure 3."""

    Config = StarGANConfig
    config: StarGANConfig
    obfuscator: StarGANObfuscator

    def __init__(self, config: MethodConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        assert isinstance(config, StarGANConfig)
        refuse_kinds("StarGAN", problem)
        if not problem.private:
            raise VeilError("StarGAN draws private attributes anew: name at least one (--private)")
        channels, size, _ = problem.image
        if size < 2 ** (config.downsamplings + 1):
            raise VeilError(
                f"StarGAN: {config.downsamplings} downsamplings leave nothing of {size} px to "
                "normalise: lower method.downsamplings"
            )
        self.config = config
        self.problem = problem
        classes = {name: len(problem.labels[name].classes) for name in problem.private}
        target_channels = sum(k if k > 2 else 1 for k in classes.values())
        self.obfuscator = StarGANObfuscator(Generator(channels, target_channels, config), classes)
        self.discriminator = Discriminator(problem.image, [*classes.values()], config)

    @cached_property
    def players(self) -> Mapping[str, Player]:
        adam = Adam(self.config.lr, betas=(0.5, 0.999), cosine=True)
        return {
            "discriminator": Player(self.discriminator, adam),
            "generator": Player(self.obfuscator, adam),
        }

    def stages(self) -> Sequence[Stage]:
        c = self.config
        return (Stage("adversarial", c.epochs, c.n_critic * c.batch_size, self.round),)

    def round(self, batch: Batch, rng: torch.Generator) -> Round:
        """Section 5.3: n_critic moves of the discriminator, then one of the generator."""
        parts = [part for part in batch.split(self.config.n_critic) if len(part)]
        for part in parts:
            x = 2 * part.x - 1
            if self.training:  # section 5.3
                x = flipped(x, rng)
            s_new = self.obfuscator.draw(x, rng)
            last = part is parts[-1]  # the generator learns from what it made of these
            with torch.set_grad_enabled(last and torch.is_grad_enabled()):
                fake = self.obfuscator.generator(x, self.obfuscator.target(s_new))
            yield Move("discriminator", self.critic_terms(x, fake.detach(), part, rng))
        yield Move("generator", self.generator_terms(x, fake, part, s_new))

    def critic_terms(
        self, x: Tensor, fake: Tensor, batch: Batch, rng: torch.Generator
    ) -> dict[str, Tensor]:
        """Eq. 5: L_D = -L_adv + lambda_cls L_cls^r."""
        scores, logits = self.discriminator(torch.cat([x, fake]))
        real, made = scores.chunk(2)
        mix = torch.rand(len(x), 1, 1, 1, generator=rng, device=x.device)
        penalty = gradient_penalty(self.discriminator, x, fake, mix)
        terms = {"critic": critic_loss(real, made), "penalty": self.config.lam_gp * penalty}
        for name, said in zip(self.problem.private, logits, strict=True):
            seen = cross_entropy(said[: len(x)], batch[name])
            terms[f"classification {name}"] = self.config.lam_cls * seen
        return terms

    def generator_terms(
        self, x: Tensor, fake: Tensor, batch: Batch, s_new: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Eq. 6: L_G = L_adv + lambda_cls L_cls^f + lambda_rec L_rec."""
        scores, logits = self.discriminator(fake)
        terms = {"realism": -scores.mean()}
        for name, said in zip(self.problem.private, logits, strict=True):
            terms[f"replacement {name}"] = self.config.lam_cls * cross_entropy(said, s_new[name])
        x_hat = self.obfuscator.generator(fake, self.obfuscator.target(batch.labels))
        terms["reconstruction"] = self.config.lam_rec * reconstruction_loss(x, x_hat)
        return terms

    def title(self) -> str:
        lam = self.config.lam_rec
        return "StarGAN" if lam == 10 else f"StarGAN lam_rec={lam:g}"

    def reported(self, data: str) -> Mapping[str, float]:
        """Martinsson et al., section 5: fresh adversaries reach "roughly 90%" on CelebA."""
        if data != "celeba" or self.config.lam_rec not in EXPLORED or len(self.problem.private) > 1:
            return {}
        return {name: 0.90 for name in self.problem.private if name in RELABELLED_BY_MARTINSSON}
