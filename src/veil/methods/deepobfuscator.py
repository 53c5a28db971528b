"""DeepObfuscator: features that neither a reconstructor nor an attribute classifier can use.

Li, Guo, Yang, Salim, Chen: "DeepObfuscator: Obfuscating Intermediate Representations with
Privacy-Preserving Adversarial Learning on Smartphones", IoTDI 2021, arXiv 1909.04126.

Threat model: whoever receives the feature map z of a picture classifies it for its useful label,
and tries to rebuild the picture and to infer a private attribute from z alone.

Equation map
    Obfuscator E        `nets.vgg.vgg_blocks`: blocks 1 and 2 of VGG-16 with batch norm
    Classifiers C, P    `Classifier`: blocks 3 to 5 and fully connected layers
    Reconstructor R     `reconstructor`
    Reconstruction loss `dissimilarity`, 1 - MS-SSIM
    Pretraining         `DeepObfuscator.pretrain_round`, then `attackers_round`
    Five-batch cycle    `DeepObfuscator.adversarial_round`, a batch for each phase:
        (0) E: CE(C(z), y) + w (1 - MS-SSIM(R(z), noise))
        (1) E: CE(C(z), y) - w (1 - MS-SSIM(R(z), x))
        (2) E: CE(C(z), y) - w CE(P(z), s)
        (3) R: 1 - MS-SSIM(R(z), x);  P: CE(P(z), s)
        (4) C: CE(C(z), y)
    Schedule of w       `adversarial_weight`

Departures
    1. MS-SSIM uses windows that lie inside the picture and counts negative terms as 0 before the
       power (the published form gives NaN for them); below 161 pixels it has fewer scales.
    2. One logit l of a binary label is answered as the two logits (0, l): cross-entropy is then
       the paper's binary cross-entropy. Labels of K > 2 classes have K logits, several labels
       their outputs side by side; identity, numbers and landmarks are kept by `objectives`.
    3. Whoever does not move is in eval mode, so that no batch norm remembers for a player at rest:
       C while E moves, E while the others do (they learn from the release as it is deployed).
       P and R always take the batch's own statistics: against remembered ones an encoder wins by
       shifting the channels' means, and hides nothing from a fresh attacker.

Unclear in the paper, and what we do
    1. The noise image: uniform in [0, 1], of its own for every picture, drawn anew every time.
    2. Epochs of w = 20 - epoch: counted from 0, so that it falls from 10 to 1 and the last epoch
       still has an adversary; for other numbers of epochs in proportion.
    3. Epochs of pretraining: 10, for E and C, then for R and P on what E releases.
    4. Dropout between fully connected layers, as VGG-16 had on ImageNet: none.
    5. Sizes of the two upsamplings: those of the maps before E's two poolings, so that pictures
       need not be divisible by four. Corners are not aligned.
    6. -w CE(P(z), s) has no lower bound: it is left as it is printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import groupby
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from veil.data.batch import Batch
from veil.errors import VeilError
from veil.image_quality import ms_ssim
from veil.method import Adam, Method, MethodConfig, Move, Obfuscator, Player, Problem, Round, Stage
from veil.nets import vgg
from veil.objectives import answer_of, label_loss, outputs_for, refuse_kinds, sampling_for

FiveBlocks = Annotated[tuple[PositiveInt, ...], Field(min_length=5, max_length=5)]
RELEASED = 2  # blocks of E
SMALLEST = 32  # five poolings leave one pixel
PHASES = 5


class DeepObfuscatorConfig(MethodConfig):
    """Fields with the paper's symbol and value.

    Attributes:
        weight: w of all three adversarial terms at first; 10.
        widths: channels of the five blocks of VGG-16; E has the first two, C and P the others.
        convolutions: of each block, VGG-16's.
        hidden: units of the fully connected layers of C and P; 4096 and 4096.
        lr: Adam's learning rate, of all players; 1e-4.
        batch_size: pictures of one phase; 32. A round of the cycle sees five times as many.
        pretrain_epochs: passes over `fit` of E and C, then as many of R and P; not given.
        epochs: passes over `fit` of the cycle; 20.
    """

    weight: float = Field(10.0, ge=0)
    widths: FiveBlocks = vgg.VGG16_WIDTHS
    convolutions: FiveBlocks = vgg.VGG16_CONVOLUTIONS
    hidden: tuple[PositiveInt, ...] = vgg.VGG16_HIDDEN
    lr: float = Field(1e-4, gt=0)
    batch_size: int = Field(32, ge=2)
    pretrain_epochs: int = Field(10, ge=0)
    epochs: int = Field(20, ge=0)


def dissimilarity(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean over pictures (n, c, h, w) of 1 - MS-SSIM, in [0, 1]; in full precision, always."""
    # Variances are differences of squares: of bf16 products nothing would be left.
    with torch.autocast(x.device.type, enabled=False):
        return 1 - ms_ssim(x_hat.float(), x).mean()


def adversarial_weight(epoch: int, epochs: int, weight: float) -> float:
    """w of an epoch counted from 0: `weight` for half of them, then falling by equal steps.

    With the paper's 20 epochs and weight 10: 10 up to epoch 10, from 11 on 20 - epoch.
    """
    return weight * min(1.0, 2 * (epochs - epoch) / epochs)


def reconstructor(shape: tuple[int, int, int], widths: Sequence[int]) -> nn.Sequential:
    """R: maps after E's two poolings -> pictures without an output non-linearity.

    Twice a bilinear upsampling and two transposed convolutions, with ReLU and batch norm before
    each of these: E's convolutions in reverse order. `shape` is (c, h, w) of the pictures,
    `widths` the channels of E's two blocks.
    """
    colours, height, across = shape
    narrow, wide = widths
    return nn.Sequential(
        nn.Upsample((height // 2, across // 2), mode="bilinear"),
        *_transposed(wide, wide),
        *_transposed(wide, narrow),
        nn.Upsample((height, across), mode="bilinear"),
        *_transposed(narrow, narrow),
        *_transposed(narrow, colours),
    )


def _transposed(incoming: int, outgoing: int) -> list[nn.Module]:
    return [
        nn.ReLU(),
        nn.BatchNorm2d(incoming, track_running_stats=False),
        nn.ConvTranspose2d(incoming, outgoing, 3, padding=1),
    ]


class Classifier(nn.Module):
    """C or P: blocks 3 to 5 of VGG-16 and fully connected layers; empty without labels."""

    def __init__(
        self,
        problem: Problem,
        names: tuple[str, ...],
        config: DeepObfuscatorConfig,
        running_statistics: bool,
    ) -> None:
        super().__init__()
        self.binary = {name for name in names if problem.labels[name].kind == "binary"}
        self.outputs = {n: 1 if n in self.binary else outputs_for(problem, n) for n in names}
        if not names:
            return
        _, height, across = (side // 2**RELEASED for side in problem.image)
        self.net = vgg.vgg_classifier(
            (config.widths[RELEASED - 1], height, across),
            config.widths[RELEASED:],
            config.convolutions[RELEASED:],
            config.hidden,
            outputs=sum(self.outputs.values()),
            running_statistics=running_statistics,
        )

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        """Label -> logits (n, K), (0, l) of a binary one, or the outputs of other kinds."""
        if not self.outputs:
            return {}
        parts = self.net(z).float().split([*self.outputs.values()], dim=1)
        return {
            name: F.pad(part, (1, 0)) if name in self.binary else part
            for name, part in zip(self.outputs, parts, strict=True)
        }


class FeatureObfuscator(Obfuscator):
    """E: picture -> z, (n, 128, h // 4, w // 4), not negative."""

    def __init__(self, colours: int, widths: Sequence[int], convolutions: Sequence[int]) -> None:
        super().__init__()
        self.blocks = vgg.vgg_blocks(colours, widths, convolutions)

    def encode(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> z."""
        z: Tensor = self.blocks(x).float()
        return z

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return self.encode(x)


@contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """In eval mode meanwhile: batch norm applies what it remembers, and nothing new."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


class DeepObfuscator(Method):
    """The obfuscator, the intended classifier, and the two attackers it is trained against."""

    Config = DeepObfuscatorConfig
    config: DeepObfuscatorConfig
    obfuscator: FeatureObfuscator

    def __init__(self, config: MethodConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        assert isinstance(config, DeepObfuscatorConfig)
        refuse_kinds("DeepObfuscator", problem)
        colours, height, across = problem.image
        if min(height, across) < SMALLEST:
            raise VeilError(
                f"DeepObfuscator needs images of {SMALLEST} px or more, not {min(height, across)}"
            )
        self.config = config
        self.problem = problem
        widths, convolutions = (v[:RELEASED] for v in (config.widths, config.convolutions))
        self.obfuscator = FeatureObfuscator(colours, widths, convolutions)
        self.task = Classifier(problem, problem.utility, config, running_statistics=True)
        self.adversary = Classifier(problem, problem.private, config, running_statistics=False)
        self.reconstructor = reconstructor(problem.image, widths)

    @cached_property
    def players(self) -> Mapping[str, Player]:
        adam = Adam(self.config.lr)
        return {
            "obfuscator": Player(self.obfuscator, adam),
            "task": Player(self.task, adam),
            "adversary": Player(self.adversary, adam),
            "reconstructor": Player(self.reconstructor, adam),
        }

    def stages(self) -> Sequence[Stage]:
        c, sampling = self.config, sampling_for(self.problem)
        weights = [adversarial_weight(epoch, c.epochs, c.weight) for epoch in range(c.epochs)]
        stages = [
            Stage("pretrain", c.pretrain_epochs, c.batch_size, self.pretrain_round, sampling),
            Stage("pretrain attackers", c.pretrain_epochs, c.batch_size, self.attackers_round),
        ]
        for w, same in groupby(weights):
            cycle, name = partial(self.adversarial_round, w), f"adversarial w={w:g}"
            stages.append(Stage(name, len([*same]), PHASES * c.batch_size, cycle, sampling))
        return stages

    def pretrain_round(self, batch: Batch, rng: torch.Generator) -> Round:
        """E and C together, without adversaries."""
        yield Move(("obfuscator", "task"), self.task_losses(self.obfuscator.encode(batch.x), batch))

    def attackers_round(self, batch: Batch, rng: torch.Generator) -> Round:
        """R and P on what E releases, which stands still; phase 3 of the cycle too."""
        z = self.released(batch)
        rebuilt = dissimilarity(self.reconstructor(z), batch.x)
        guesses = self.losses("inference", self.adversary(z), batch)
        yield Move("reconstructor", {"reconstruction": rebuilt}), Move("adversary", guesses)

    def adversarial_round(self, weight: float, batch: Batch, rng: torch.Generator) -> Round:
        """The five-batch cycle."""
        noisy, rebuilt, guessed, attacked, used = self.parts(batch)

        z = self.obfuscator.encode(noisy.x)
        noise = torch.rand(noisy.x.shape, generator=rng, device=noisy.x.device)
        likeness = weight * dissimilarity(self.reconstructor(z), noise)
        yield Move("obfuscator", self.task_at_rest(z, noisy) | {"noise": likeness})

        z = self.obfuscator.encode(rebuilt.x)
        unlikeness = -weight * dissimilarity(self.reconstructor(z), rebuilt.x)
        yield Move("obfuscator", self.task_at_rest(z, rebuilt) | {"distortion": unlikeness})

        z = self.obfuscator.encode(guessed.x)
        guesses = self.losses("privacy", self.adversary(z), guessed)
        hidden = {name: -weight * loss for name, loss in guesses.items()}
        yield Move("obfuscator", self.task_at_rest(z, guessed) | hidden)

        yield from self.attackers_round(attacked, rng)
        yield Move("task", self.task_losses(self.released(used), used))

    def parts(self, batch: Batch) -> list[Batch]:
        """A batch for each phase, with whole pairs where pairs are sampled; all of it if tiny."""
        photos = 2 if sampling_for(self.problem) == "pairs" else 1
        if len(batch) < PHASES * photos:
            return [batch] * PHASES
        columns = torch.arange(len(batch), device=batch.x.device).view(photos, -1)
        rows = [part.flatten() for part in columns.tensor_split(PHASES, dim=1)]
        return [Batch(batch.x[r], {n: label[r] for n, label in batch.labels.items()}) for r in rows]

    @torch.no_grad()
    def released(self, batch: Batch) -> Tensor:
        """z as it is deployed, for those who learn from it."""
        with at_rest(self.obfuscator):
            return self.obfuscator.encode(batch.x)

    def task_losses(self, z: Tensor, batch: Batch) -> dict[str, Tensor]:
        """C's loss of every useful label."""
        return self.losses("utility", self.task(z), batch)

    def task_at_rest(self, z: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The same for E to minimise, while C stands still."""
        with at_rest(self.task):
            return self.task_losses(z, batch)

    def losses(self, term: str, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """A classifier's loss of every label that it has outputs for."""
        return {
            f"{term} {name}": label_loss(self.problem, name, output, batch)
            for name, output in outputs.items()
        }

    def answers(self, z: Tensor) -> dict[str, Tensor]:
        return {n: answer_of(self.problem, n, output) for n, output in self.task(z).items()}

    def training_adversary(self, z: Tensor) -> dict[str, Tensor]:
        guesses: dict[str, Tensor] = self.adversary(z)
        return guesses

    def reconstruct(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.reconstructor(z).float().clamp(0, 1)
        return x_hat

    def measured(self, x: Tensor, rng: torch.Generator) -> Mapping[str, float]:
        """MS-SSIM of the pictures that R rebuilds; a fresh reconstructor may do better."""
        x_hat = self.reconstruct(self.obfuscator.release(x, rng))
        return {"MS-SSIM of the trained reconstructor": float(ms_ssim(x_hat, x).mean())}

    def title(self) -> str:
        c = self.config
        if c.epochs == 0:
            return "DeepObfuscator, pretrained only"
        return "DeepObfuscator" + ("" if c.weight == 10 else f" w={c.weight:g}")

    def reported(self, data: str) -> Mapping[str, float]:
        """Mouth open and smiling on CelebA, by Jeong et al. (NARL, UAI 2023, supplement)."""
        labels = (self.problem.private, self.problem.utility)
        if data != "celeba" or labels != (("Mouth_Slightly_Open",), ("Smiling",)):
            return {}
        row = {"Mouth_Slightly_Open": 0.9406, "Smiling": 0.9199}
        return row if self.title() == "DeepObfuscator" else {}
