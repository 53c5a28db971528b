"""AIA: Adversarial Image Anonymizer.

Mosallanezhad, Silva, Mancenido, Liu: "Toward Privacy and Utility Preserving Image Representation",
arXiv 2009.14376, and its poster.

Threat model: whoever receives the vector g of a face matches it 1-to-1 (or reads another useful
label) and tries to infer a private attribute, gender in the paper, from g alone.

Equation map
    Eq. 2, 3    `AIAObfuscator.encode` (its network: `nets.codec.pooled_encoder`)
    Eq. 4       `nets.codec.upsampling_decoder`
    Eq. 5       `losses.binary_cross_entropy_image`
    Eq. 6       `nets.heads.MLP` with tanh
    Eq. 7       `losses.contrastive`, paired by `losses.matching_loss`
    Eq. 8       `AIA.joint_round`, its privacy term in `privacy_term`
    Stage 1     `AIA.pretrain_round`;  stage 2  `AIA.joint_round`
    Section 5.3 Original: joint_epochs = 0;  Random: joint_epochs = 0, replaced = 0.5;
                AIA\\T: alpha = 0

Departures
    1. Eq. 5 is misprinted (no minus, arguments swapped); we minimise
       -mean[x log x' + (1-x) log(1-x')].
    2. The poster prints the formula of eq. 5 for the gender classifier; it is cross-entropy on the
       classifier's output, here over K classes (K = 2: the paper's sigmoid, as a softmax).
    3. -beta L_Adv is unbounded: by default it stops at chance, L_Adv = log K ("capped"). The
       entropy form and the printed form are options.
    4. Colour images are turned to grey (ITU-R 601 luma) by the encoder; the paper's are grey.
    5. The release keeps the map's shape (n, 12, h/4, w/4): flattening (eq. 3) would only hide the
       layout from a careless attacker.
    6. Matching is one utility among others: a class label is kept by the same network T with
       cross-entropy; several private labels get one adversary each.

Unclear in the paper, and what we do
    1. Values of g lie "within [0.0, 1.0]": a sigmoid ends the encoder.
    2. T takes images in stage 1 and must read g in stage 2: it reads g's 12-channel map in both.
    3. Whether A and T move in stage 2: A plays before every step of the auto-encoder
       (adversary_steps = 0 freezes it) and T moves with the auto-encoder, from the same forward.
       T keeps learning at alpha = 0, on representations that it cannot influence.
    4. Image size, kernel (3), margin, learning rate, batch size and epochs are not given: 100 x 100
       at full size, 2.0, 5e-4, 64; all fields below.
    5. Normalisation is not mentioned. Entries of g hardly differ at first (deviation .014 around
       .5), and an adversary or T that reads them as they are stays at chance for a dozen epochs:
       both read g standardised per channel by batch norm. The adversary always uses the batch's
       own statistics: against remembered ones the encoder wins by moving the channels' means
       about, and hides nothing (seen here: adversary .53, fresh attacker .90).
    6. Section 5.2 gives the adversary six convolutions, eq. 6 one tanh layer: `adversary` chooses
       the one trained against; the audit attacks with both and more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from veil.augmentation import LUMA
from veil.data.batch import Batch
from veil.errors import VeilError
from veil.losses import (
    binary_cross_entropy_image,
    cross_entropy,
    entropy,
    matching_loss,
)
from veil.method import (
    Adam,
    Method,
    MethodConfig,
    Move,
    Obfuscator,
    Player,
    Problem,
    Round,
    Stage,
)
from veil.nets.codec import pooled_encoder, upsampling_decoder
from veil.nets.heads import MLP, ConvHead
from veil.nets.siamese import SiameseNet

Channels = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
PrivacyForm = Literal["capped", "entropy", "printed"]
AUDIT_CHANNELS = (32, 64, 64, 128, 128, 256)


class AIAConfig(MethodConfig):
    """Fields with the paper's symbol, value and place.

    Attributes:
        alpha: weight of the utility in eq. 8; 0.5 (section 5.4). 0 is AIA\\T.
        beta: weight of the adversary in eq. 8; 0.5.
        margin: m of eq. 7, in units of embedding distance; not given.
        privacy: form of the privacy term of eq. 8 (departure 3).
        adversary: "mlp" is eq. 6, "conv" the six convolutions of section 5.2.
        adversary_hidden: units of the tanh layer of eq. 6; not given.
        adversary_steps: adversary updates before each auto-encoder update; 0 freezes it.
        replaced: probability with which an entry of g is replaced by U[0, 1] at release; the
            baseline Random has 0.5 (section 5.3).
        encoder_channels: (8, 12), section 5.2.
        decoder_channels: (256, 128), section 5.2; the last convolution to the image comes after.
        siamese_channels: (4, 8, 8), section 5.2.
        siamese_hidden, embedding: 500 and 128 units, section 5.2.
        lr: Adam's learning rate, of all players; not given.
        batch_size: images; not given.
        pretrain_epochs, joint_epochs: passes over `fit` in stages 1 and 2; not given. No joint
            epochs is the baseline Original.
        patience: epochs of stage 1 without a better loss on `select` before it stops; 0 never does.
    """

    alpha: float = Field(0.5, ge=0)
    beta: float = Field(0.5, ge=0)
    margin: float = Field(2.0, gt=0)
    privacy: PrivacyForm = "capped"
    adversary: Literal["mlp", "conv"] = "mlp"
    adversary_hidden: int = Field(128, ge=1)
    adversary_steps: int = Field(1, ge=0)
    replaced: float = Field(0.0, ge=0, le=1)
    encoder_channels: Channels = (8, 12)
    decoder_channels: Channels = (256, 128)
    siamese_channels: Channels = (4, 8, 8)
    siamese_hidden: int = Field(500, ge=1)
    embedding: int = Field(128, ge=1)
    lr: float = Field(5e-4, gt=0)
    batch_size: int = Field(64, ge=4)
    pretrain_epochs: int = Field(20, ge=0)
    joint_epochs: int = Field(20, ge=0)
    patience: int = Field(4, ge=0)


def privacy_term(logits: Tensor, s: Tensor, form: PrivacyForm) -> Tensor:
    """The -L_Adv of eq. 8, to be minimised by the encoder.

    Args:
        logits: (n, K) of the adversary on g.
        s: (n,) private classes.
        form: "printed" is -CE, unbounded; "capped" stops at chance, -min(CE, log K); "entropy"
            is minus the mean entropy of the adversary's answer.
    """
    if form == "entropy":
        return -entropy(logits)
    loss = cross_entropy(logits, s)
    return -loss if form == "printed" else -loss.clamp(max=math.log(logits.shape[1]))


def standardised(channels: int, net: nn.Module, running_statistics: bool) -> nn.Sequential:
    """`net` reading g with zero mean and unit deviation per channel (unclear point 5)."""
    norm = nn.BatchNorm2d(channels, affine=False, track_running_stats=running_statistics)
    return nn.Sequential(norm, net)


class AIAObfuscator(Obfuscator):
    """The encoder: image -> g in [0, 1]."""

    def __init__(self, channels: Sequence[int], replaced: float) -> None:
        super().__init__()
        self.blocks = pooled_encoder((1, *channels))
        self.replaced = replaced
        self.register_buffer("luma", torch.tensor(LUMA).view(1, 3, 1, 1), persistent=False)

    def grey(self, x: Tensor) -> Tensor:
        """(n, 3 or 1, h, w) -> (n, 1, h, w)."""
        luma: Tensor = self.get_buffer("luma")
        grey: Tensor = x if x.shape[1] == 1 else (x * luma).sum(dim=1, keepdim=True)
        return grey

    def encode(self, x: Tensor) -> Tensor:
        """Eq. 2 and 3: (n, c, h, w) -> g, (n, 12, h/4, w/4) in [0, 1]."""
        g: Tensor = self.blocks(self.grey(x)).float().sigmoid()
        return g

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        g = self.encode(x)
        if self.replaced == 0:
            return g
        redrawn = torch.rand(g.shape, generator=rng, device=g.device) < self.replaced
        return torch.where(redrawn, torch.rand(g.shape, generator=rng, device=g.device), g)


class AIA(Method):
    """The auto-encoder, the adversary and the task T of figure 1."""

    Config = AIAConfig
    config: AIAConfig
    obfuscator: AIAObfuscator

    def __init__(self, config: MethodConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        assert isinstance(config, AIAConfig)
        for name in problem.private:
            if not problem.labels[name].is_class:
                raise VeilError(f"AIA's adversary is a classifier: '{name}' has no classes to hide")
        for name in problem.utility:
            if not problem.labels[name].is_class and name != "identity":
                raise VeilError(f"AIA keeps classes or 'identity' (matching): not '{name}'")
        _, size, _ = problem.image
        reduction = 2 ** len(config.encoder_channels)
        if size < 4 * reduction:
            raise VeilError(f"AIA needs images of {4 * reduction} px or more, not {size}")
        self.config = config
        self.problem = problem
        self.obfuscator = AIAObfuscator(config.encoder_channels, config.replaced)
        depth = config.encoder_channels[-1]
        self.decoder = upsampling_decoder((depth, *config.decoder_channels), 1, (size, size))
        map_size = size // reduction
        self.adversaries = nn.ModuleList(
            standardised(
                depth,
                self._adversary(depth, map_size, len(problem.labels[name].classes)),
                running_statistics=False,
            )
            for name in problem.private
        )
        self.tasks = nn.ModuleList(
            standardised(
                depth,
                SiameseNet(
                    depth,
                    map_size,
                    config.siamese_channels,
                    config.siamese_hidden,
                    len(problem.labels[name].classes) or config.embedding,
                ),
                running_statistics=True,
            )
            for name in problem.utility
        )

    def _adversary(self, depth: int, map_size: int, classes: int) -> nn.Module:
        if self.config.adversary == "conv":
            return ConvHead(depth, AUDIT_CHANNELS, classes, running_statistics=False)
        inputs = depth * map_size**2
        return MLP(inputs, (self.config.adversary_hidden,), classes, nn.Tanh)

    @cached_property
    def players(self) -> Mapping[str, Player]:
        adam = Adam(self.config.lr)
        return {
            "autoencoder": Player(nn.ModuleList([self.obfuscator, self.decoder]), adam),
            "adversary": Player(self.adversaries, adam),
            "task": Player(self.tasks, adam),
        }

    def stages(self) -> Sequence[Stage]:
        c = self.config
        sampling: Literal["pairs", "images"] = (
            "pairs" if "identity" in self.problem.utility else "images"
        )
        return (
            Stage(
                "pretrain",
                c.pretrain_epochs,
                c.batch_size,
                self.pretrain_round,
                sampling,
                c.patience or None,
            ),
            Stage("joint", c.joint_epochs, c.batch_size, self.joint_round, sampling),
        )

    def pretrain_round(self, batch: Batch, rng: torch.Generator) -> Round:
        """Stage 1: each component by itself; the adversary and T only watch g."""
        g = self.obfuscator.encode(batch.x)
        watched = g.detach()
        yield (
            Move("autoencoder", {"reconstruction": self.reconstruction_loss(g, batch)}),
            Move("adversary", self.adversary_losses(watched, batch)),
            Move("task", self.task_losses(watched, batch)),
        )

    def joint_round(self, batch: Batch, rng: torch.Generator) -> Round:
        """Stage 2, eq. 8: L_AE + alpha L_Siamese - beta L_Adv."""
        g = self.obfuscator.encode(batch.x)
        for _ in range(self.config.adversary_steps):
            yield Move("adversary", self.adversary_losses(g.detach(), batch))
        tasks = self.task_losses(g, batch)
        terms = {"reconstruction": self.reconstruction_loss(g, batch)}
        terms |= {name: self.config.alpha * loss for name, loss in tasks.items()}
        for name, adversary in zip(self.problem.private, self.adversaries, strict=True):
            hidden = privacy_term(adversary(g).float(), batch[name], self.config.privacy)
            terms[f"privacy {name}"] = self.config.beta * hidden
        yield Move("task", tasks), Move("autoencoder", terms)

    def reconstruction_loss(self, g: Tensor, batch: Batch) -> Tensor:
        """L_AE, eq. 5 corrected."""
        return binary_cross_entropy_image(self.decoder(g).float(), self.obfuscator.grey(batch.x))

    def adversary_losses(self, g: Tensor, batch: Batch) -> dict[str, Tensor]:
        """L_Adv of each private label."""
        return {
            f"inference {name}": cross_entropy(adversary(g).float(), batch[name])
            for name, adversary in zip(self.problem.private, self.adversaries, strict=True)
        }

    def task_losses(self, g: Tensor, batch: Batch) -> dict[str, Tensor]:
        """L_Siamese of matching (eq. 7), cross-entropy of a class label."""
        losses = {}
        for name, task in zip(self.problem.utility, self.tasks, strict=True):
            output = task(g).float()
            losses[f"utility {name}"] = (
                matching_loss(output, batch[name], self.config.margin)
                if name == "identity"
                else cross_entropy(output, batch[name])
            )
        return losses

    def answers(self, z: Tensor) -> dict[str, Tensor]:
        return {n: task(z) for n, task in zip(self.problem.utility, self.tasks, strict=True)}

    def training_adversary(self, z: Tensor) -> dict[str, Tensor]:
        pairs = zip(self.problem.private, self.adversaries, strict=True)
        return {name: adversary(z) for name, adversary in pairs}

    def reconstruct(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.decoder(z).float().sigmoid()
        return x_hat

    def title(self) -> str:
        c = self.config
        usual: dict[str, tuple[float, ...]]
        if c.joint_epochs == 0:
            name, usual = "Random" if c.replaced else "Original", {"replaced": (0, 0.5)}
        else:
            name = "AIA\\T" if c.alpha == 0 else "AIA"
            usual = {"alpha": (0, 0.5), "beta": (0.5,), "replaced": (0,)}
        fields = {field: getattr(c, field) for field in usual}
        shown = [
            f"{field}={fields[field]:g}" for field in usual if fields[field] not in usual[field]
        ]
        return " ".join([name, *shown])

    def reported(self, data: str) -> Mapping[str, float]:
        """Table 1, CelebA: gender accuracy and matching accuracy, at alpha = beta = 0.5."""
        table = {
            "Original": {"Male": 0.7801, "identity": 0.8887},
            "Random": {"Male": 0.5212, "identity": 0.5689},
            "AIA\\T": {"Male": 0.6253, "identity": 0.6934},
            "AIA": {"Male": 0.6496, "identity": 0.7864},
        }
        row = table.get(self.title(), {}) if data == "celeba" else {}
        if "identity" not in self.problem.utility:
            return {}
        return {name: figure for name, figure in row.items() if name in self.problem.names}
