"""Task-oriented representations against model inversion.

Xiao, Tsai, Sohn, Chandraker, Yang: "Adversarial Learning of Privacy-Preserving and Task-Oriented
Representations", AAAI 2020, arXiv 1911.10143, and its poster.

Threat model: whoever receives z may have the encoder turn any number of public pictures X2 into
releases (a black box), trains a decoder on those pairs, and redraws the faces behind other z.

Equation map (the poster numbers none)
    L_u         `TaskOriented.utility_loss`
    L_p         mean squared error, in `TaskOriented.adversary_moves` and `.privacy_terms`
    L_perc      `feature_distances`
    L_adv, D    `fooling_loss`, `critic_losses`
    Adversary   min_Dec L_p + mu1 L_adv + mu2 L_perc on X2: `TaskOriented.adversary_moves`
    Protector   min_{Enc,f} L_u - lambda1 L_p - lambda2 L_perc on X1: `.adversarial_round`
    Table       "lambda1 = 0" is lambda1 = lambda2 = 0. Dec^a is the audit's own, trained afresh:
                "decoder perceptual" is mu1 = 0, "decoder adversarial" mu1 > 0

Departures
    1. log(1 - D), as printed, hardly pulls while D wins: Dec minimises -log D. The printed form is
       an option.
    2. The poster calls the protector's pixel term a GAN loss; it is the pixel distance, L_p.
    3. -lambda2 L_perc is unbounded: a picture further from x than other people's pictures are
       gains nothing more (`hinge`). L_p is at most 1, pictures being in [0, 1], and is as printed.
    4. Squared norms are means: over pixels; over the entries of each stage of g, summed over
       stages. Weights then hold for any size of picture.
    5. Binary cross-entropy is cross-entropy over two logits. Other classes, numbers and landmarks
       may be useful too; L_u is the mean over the useful labels.
    6. Enc and f are fixed for the adversary to the last bit: X2 passes through Enc as deployed (in
       eval mode), and leaves no trace in its batch statistics.

Unclear in the paper, and what we do
    1. Networks: Enc is ResNet-18 up to its average pool, a fully connected layer, batch norm and
       ReLU; f a fully connected layer; Dec `nets.upsampling.vector_decoder`, D
       `nets.decoder.picture_critic`. What f does not read (the negative) does not leave; no entry
       of z dies for good, and a larger z gains nothing.
    2. g: a recogniser's network (`recognition`), by default the one trained on drawn faces.
    3. Order: Enc and f alone; Dec and D on that undefended Enc; then Dec and D once
       (`adversary_steps`), Enc and f once, and so on. Dec and D move together, from one forward.
    4. lambda1, lambda2, mu1, mu2, the optimiser (Adam, 1e-4), the size of pictures and of z,
       batches and epochs are not given; nor whether lambda1 > 0 means lambda2 > 0: here it does.
    5. Dec normalises by the batch's own statistics, as every adversary here: against remembered
       ones an encoder wins by moving its features about, and hides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

from veil.data.batch import Batch
from veil.data.dataset import RECONSTRUCTION, LabelKind
from veil.errors import VeilError
from veil.method import Adam, Method, MethodConfig, Move, Obfuscator, Player, Problem, Round, Stage
from veil.nets.decoder import picture_critic
from veil.nets.resnet import ResNet, Stem
from veil.nets.upsampling import vector_decoder
from veil.objectives import answer_of, label_loss, outputs_for, refuse_kinds
from veil.recognition import load_recogniser

Stages = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
GanForm = Literal["non-saturating", "printed"]
KEPT: tuple[LabelKind, ...] = ("binary", "multiclass", "continuous", "landmarks")
CIFAR_STEM_UP_TO = 32
SMALLEST_SIZE = 16


class TaskOrientedConfig(MethodConfig):
    """Fields with the paper's symbol; the poster gives none of the values.

    Attributes:
        lambda1, lambda2: the protector's weights of the pixel distance (mean square of pictures in
            [0, 1]) and of the perceptual one (mean squares of g).
        mu1, mu2: the training adversary's weights of the GAN term (0 leaves the critic idle) and
            of the perceptual distance.
        gan: "non-saturating" is -log D(x'), "printed" log(1 - D(x')) (departure 1).
        hinge: perceptual distance at which the protector gains nothing more, in units of the mean
            distance between pictures of different rows of the batch (departure 3).
        perceptual: g, a recogniser with stages: "synthfaces", or a .safetensors file.
        blocks, widths: of Enc's residual stages; these are ResNet-18.
        dimension: entries of z.
        decoder_width: channels of Dec's 4x4 map.
        critic_width: channels after D's first convolution.
        adversary_steps: moves of Dec and D before each of the protector's.
        public_share: share of the people of `fit` who are X2; 40k of 200k pictures.
        lr: Adam's learning rate, of all players.
        batch_size: pictures, half of X1 and half of X2.
        pretrain_epochs, warmup_epochs, adversarial_epochs: passes over X1 of Enc and f alone; of
            Dec on the undefended Enc; of the game.
    """

    lambda1: float = Field(1.0, ge=0)
    lambda2: float = Field(0.1, ge=0)
    mu1: float = Field(0.005, ge=0)
    mu2: float = Field(0.05, ge=0)
    gan: GanForm = "non-saturating"
    hinge: float = Field(1.0, gt=0)
    perceptual: str = "synthfaces"
    blocks: Stages = (2, 2, 2, 2)
    widths: Stages = (64, 128, 256, 512)
    dimension: int = Field(512, ge=1)
    decoder_width: int = Field(512, ge=1)
    critic_width: int = Field(64, ge=1)
    adversary_steps: int = Field(1, ge=1)
    public_share: float = Field(0.2, gt=0, lt=1)
    lr: float = Field(1e-4, gt=0)
    batch_size: int = Field(128, ge=4)
    pretrain_epochs: int = Field(10, ge=0)
    warmup_epochs: int = Field(5, ge=0)
    adversarial_epochs: int = Field(20, ge=0)


def feature_distances(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """L_perc of each picture, ||g(x') - g(x)||^2: mean squares of the stages of g, summed.

    Args:
        a, b: the maps (n, c, h, w) after each stage of g.

    Returns:
        (n,).
    """
    stages = [(p - q).float().square().flatten(1).mean(1) for p, q in zip(a, b, strict=True)]
    return torch.stack(stages).sum(0)


def fooling_loss(judged: Tensor, form: GanForm) -> Tensor:
    """L_adv, which Dec minimises: -log D(x'), or as printed log(1 - D(x')); their means.

    Args:
        judged: (n, ...) logits of D on redrawn pictures, higher where they look real.
        form: which of the two.
    """
    return -softplus(judged).mean() if form == "printed" else softplus(-judged).mean()


def critic_losses(judged_real: Tensor, judged_redrawn: Tensor) -> dict[str, Tensor]:
    """-log D(x) and -log(1 - D(x')), which D minimises; their means."""
    return {"real": softplus(-judged_real).mean(), "redrawn": softplus(judged_redrawn).mean()}


@contextmanager
def fixed(module: nn.Module) -> Iterator[None]:
    """The module in eval mode and without gradients of its own: nothing of it moves."""
    mode = module.training
    module.eval().requires_grad_(False)
    try:
        yield
    finally:
        module.train(mode).requires_grad_(True)


class TaskOrientedObfuscator(Obfuscator):
    """Enc: image -> z = ReLU(BatchNorm(FC(ResNet trunk)))."""

    def __init__(self, trunk: ResNet, dimension: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(trunk, nn.BatchNorm1d(dimension), nn.ReLU())

    def encode(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> z, (n, dimension), not negative."""
        z: Tensor = self.layers(x).float()
        return z

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return self.encode(x)


class TaskOriented(Method):
    """The protector (Enc and f), the adversary (Dec) and the critic (D)."""

    Config = TaskOrientedConfig
    config: TaskOrientedConfig
    obfuscator: TaskOrientedObfuscator

    def __init__(self, config: MethodConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        assert isinstance(config, TaskOrientedConfig)
        if problem.private != (RECONSTRUCTION,):
            raise VeilError(f"task-oriented hides the picture alone: --private {RECONSTRUCTION}")
        refuse_kinds("task-oriented", problem, ("picture",), KEPT)
        if not problem.utility:
            raise VeilError("task-oriented keeps a task: name a useful label (--utility)")
        channels, size, _ = problem.image
        if size < SMALLEST_SIZE:
            raise VeilError(f"task-oriented needs images of {SMALLEST_SIZE} px or more, not {size}")
        self.config = config
        self.problem = problem
        d = config.dimension
        stem: Stem = "cifar" if size <= CIFAR_STEM_UP_TO else "imagenet"
        trunk = ResNet(config.blocks, config.widths, classes=d, in_channels=channels, stem=stem)
        self.obfuscator = TaskOrientedObfuscator(trunk, d)
        self.task = nn.Linear(d, sum(outputs_for(problem, name) for name in problem.utility))
        self.decoder = vector_decoder(d, problem.image, config.decoder_width)
        self.critic = picture_critic(problem.image, config.critic_width)
        self.recogniser = load_recogniser(config.perceptual)
        if self.recogniser.features(torch.zeros(1, *problem.image)) is None:
            raise VeilError(
                f"perceptual = '{config.perceptual}' shows no stages; give a .safetensors"
            )

    @cached_property
    def players(self) -> Mapping[str, Player]:
        adam = Adam(self.config.lr)
        return {
            "protector": Player(nn.ModuleList([self.obfuscator, self.task]), adam),
            "adversary": Player(self.decoder, adam),
            "critic": Player(self.critic, adam),
        }

    def stages(self) -> Sequence[Stage]:
        c = self.config
        size, share = c.batch_size, c.public_share
        stage = partial(Stage, batch_size=size, sampling="own and public", public_share=share)
        return (
            stage("pretrain", c.pretrain_epochs, round=self.pretrain_round),
            stage("warm up", c.warmup_epochs, round=self.warmup_round),
            stage("adversarial", c.adversarial_epochs, round=self.adversarial_round),
        )

    def pretrain_round(self, batch: Batch, rng: torch.Generator) -> Round:
        """The undefended Enc and f: L_u on X1."""
        own, _ = batch.split(2)
        z = self.obfuscator.encode(own.x)
        yield Move("protector", {"utility": self.utility_loss(z, own)})

    def warmup_round(self, batch: Batch, rng: torch.Generator) -> Round:
        """Dec and D learn to invert the undefended Enc, on X2."""
        _, public = batch.split(2)
        yield self.adversary_moves(public.x)

    def adversarial_round(self, batch: Batch, rng: torch.Generator) -> Round:
        """The adversary moves on X2; then the protector on X1, against what Dec has become."""
        own, public = batch.split(2)
        for _ in range(self.config.adversary_steps):
            yield self.adversary_moves(public.x)
        z = self.obfuscator.encode(own.x)
        privacy = self.privacy_terms(z, own.x)
        yield Move("protector", {"utility": self.utility_loss(z, own), **privacy})

    def adversary_moves(self, x: Tensor) -> tuple[Move, Move]:
        """L_p + mu1 L_adv + mu2 L_perc of Dec on x of X2, Enc fixed; beside it D's own loss."""
        c = self.config
        with fixed(self.obfuscator):
            z = self.obfuscator.encode(x)
        x_hat = self.reconstruct(z)
        terms = {"pixels": mse_loss(x_hat, x)}
        if c.mu2 > 0:
            terms["perception"] = c.mu2 * feature_distances(self.seen(x_hat), self.seen(x)).mean()
        judging: dict[str, Tensor] = {}
        if c.mu1 > 0:
            real, redrawn = self.critic(x).float(), self.critic(x_hat).float()
            judging = critic_losses(real, redrawn)
            terms["realism"] = c.mu1 * fooling_loss(redrawn, c.gan)
        return Move("critic", judging), Move("adversary", terms)

    def privacy_terms(self, z: Tensor, x: Tensor) -> dict[str, Tensor]:
        """-lambda1 L_p - lambda2 L_perc of z of x in X1, Dec fixed; no term of weight 0."""
        c = self.config
        if c.lambda1 == c.lambda2 == 0:
            return {}
        with fixed(self.decoder):
            x_hat = self.reconstruct(z)
        terms = {}
        if c.lambda1 > 0:
            terms["pixels"] = -c.lambda1 * mse_loss(x_hat, x)
        if c.lambda2 > 0:
            seen = self.seen(x)
            others = [stage.roll(1, 0) for stage in seen]
            limit = c.hinge * feature_distances(seen, others).mean()
            distances = feature_distances(self.seen(x_hat), seen).minimum(limit)
            terms["perception"] = -c.lambda2 * distances.mean()
        return terms

    def seen(self, x: Tensor) -> Sequence[Tensor]:
        """g(x): the maps of x, (n, c, h, w) in [0, 1], after each stage of the recogniser."""
        stages = self.recogniser.features(x)
        assert stages is not None
        return stages

    def utility_loss(self, z: Tensor, batch: Batch) -> Tensor:
        """L_u: the mean of the useful labels' losses, cross-entropy in nats of classes."""
        said = self.outputs(z).items()
        losses = [label_loss(self.problem, name, output, batch) for name, output in said]
        return torch.stack(losses).mean()

    def outputs(self, z: Tensor) -> dict[str, Tensor]:
        """f(z): (n, K) of every useful label, side by side in one layer."""
        names = self.problem.utility
        parts = self.task(z).split([outputs_for(self.problem, name) for name in names], dim=1)
        return dict(zip(names, parts, strict=True))

    def answers(self, z: Tensor) -> dict[str, Tensor]:
        said = self.outputs(z).items()
        return {name: answer_of(self.problem, name, output) for name, output in said}

    def reconstruct(self, z: Tensor) -> Tensor:
        """Dec(z), normalised by the statistics of this batch of releases."""
        x_hat: Tensor = self.decoder(z).float().sigmoid()
        return x_hat

    def title(self) -> str:
        c, name = self.config, "Task-oriented"
        shown = ["lambda1", "lambda2", "mu1", "mu2", "adversary_steps", "public_share"]
        if c.lambda1 == c.lambda2 == 0:
            name, shown = "Task-oriented, undefended", ["public_share"]
        usual = {field: TaskOrientedConfig.model_fields[field].default for field in shown}
        given = {field: getattr(c, field) for field in shown}
        settings = [f"{f}={value:g}" for f, value in given.items() if value != usual[f]]
        only = [
            f"{useful} only" for useful in self.problem.utility if len(self.problem.utility) < 2
        ]
        return " ".join([name, *settings, *only])
