"""Who is it? Attackers that tell whether two releases show one person.

They learn from the people of "attack" to embed a release so that one person's releases lie close
together; the people of "select" and "test" are others. `pairs.score_matching` scores the embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from veil.attacks.attack import Attack, AttackSplit, Guess, Ints, Kind, Knowledge
from veil.attacks.features import prepare, prepare_map
from veil.attacks.pairs import distances, draw_pairs
from veil.attacks.training import fastest_device, in_chunks, initialised_from, shuffled
from veil.data.dataset import MISSING
from veil.losses import contrastive, pair_distance
from veil.metrics import auc, best_threshold, verification_accuracy
from veil.nets.siamese import SiameseNet
from veil.precision import autocast
from veil.seeds import generator, seed_for

SELECT_PAIRS = 4000
SMALLEST_MAP, LARGEST_MAP = 4, 64


@dataclass(frozen=True)
class Distance:
    """No training: the distance of the releases themselves.

    Attributes:
        features: "raw" Euclidean distance of the values; "standardised" angle between vectors whose
            every feature has zero mean and unit deviation; "whitened" angle between up to 256
            principal components of unit deviation.
    """

    features: Literal["raw", "standardised", "whitened"] = "whitened"

    family: ClassVar[str] = "matching"
    kind: ClassVar[Kind] = "identity"
    seeded: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"distance {self.features}"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x = prepare(knowledge.z, self.features)
        return _guess(x if self.features == "raw" else _on_sphere(x))


@dataclass(frozen=True)
class LinearDiscriminant:
    """Probabilistic linear discriminant analysis in closed form (Ioffe, ECCV 2006).

    Principal components are whitened within people, rotated to the axes on which people differ, and
    each axis is weighted by sqrt(b / (b + 1)), the share of its spread that tells people apart.

    Every pair of the settings below is tried, the best AUC on select is kept.

    Attributes:
        components: leading principal components that are used.
        shrinkages: the within-person covariance is pulled by this share towards a sphere.
    """

    components: tuple[int, ...] = (16, 48, 128, 256)
    shrinkages: tuple[float, ...] = (0.02, 0.2, 0.6)

    name: ClassVar[str] = "linear discriminant"
    family: ClassVar[str] = "matching"
    kind: ClassVar[Kind] = "identity"
    seeded: ClassVar[bool] = False

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return _too_few_people(knowledge)

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x = prepare(knowledge.z, "whitened")
        rows, person, people = _people(knowledge.s["attack"])
        asked = draw_pairs(knowledge.s["select"], 0, SELECT_PAIRS)
        best, chosen = -math.inf, x["attack"].new_empty(0, 0)
        for k, shrinkage in product(self.components, self.shrinkages):
            axes = discriminants(x["attack"][rows, :k], person, people, shrinkage)
            embedded = F.normalize(x["select"][:, :k] @ axes)
            score = auc(asked.same, -distances(embedded.numpy(), asked))
            if score > best:
                best, chosen = score, axes
        return _guess(_on_sphere({split: v[:, : len(chosen)] @ chosen for split, v in x.items()}))


@dataclass(frozen=True)
class FreshSiamese:
    """AIA's own matcher, trained afresh on the released maps with the contrastive loss.

    Each step draws `people` people and two pictures of each. The loss is half that of the pairs of
    one person, half that of all pairs of two: as for balanced pairs, but each picture is embedded
    once.

    Attributes:
        margin: two people further apart than this cost nothing.
        learning_rate: of Adam.
        people: drawn for a step.
        steps: at most; the verification accuracy on select is looked at ten times, and training
            stops when it has not risen for `patience` looks.
    """

    margin: float = 2.0
    learning_rate: float = 1e-3
    people: int = 64
    steps: int = 600
    patience: int = 3

    name: ClassVar[str] = "siamese"
    family: ClassVar[str] = "matching"
    kind: ClassVar[Kind] = "identity"
    seeded: ClassVar[bool] = True

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return _no_map(knowledge) or _too_few_people(knowledge)

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        device = fastest_device()
        x = _maps(knowledge.z)
        rows, person, people = _people(knowledge.s["attack"])
        _, channels, size, _ = x["attack"].shape
        with initialised_from(seed_for(seed, self.name)):
            net = _channels_last(SiameseNet(channels, size).to(device))
        adam = torch.optim.Adam(net.parameters(), self.learning_rate)
        keeper = _Keeper(net, x["select"], knowledge.s["select"], seed, smooth=False)
        rng = generator(seed, self.name, "batches")
        every = max(1, self.steps // 10)
        for step in range(1, self.steps + 1):
            first, second = _two_each(person, people, self.people, rng)
            both = x["attack"][rows[torch.cat([first, second])]]
            with autocast(device):
                embedded = net(both.to(device, memory_format=torch.channels_last))
            a, b = embedded.float().chunk(2)
            loss = _matching_loss(a, b, self.margin)
            adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            if step % every == 0 and keeper.look() >= self.patience:
                break
        keeper.restore()
        return _guess({split: _embed(net, v) for split, v in x.items()})


@dataclass(frozen=True)
class SoftmaxEmbedding:
    """A network that names the people of "attack"; its last features, on the sphere, are compared.

    Cross-entropy over cosines with an additive margin (CosFace, Wang et al., CVPR 2018, eq. 4).
    Maps go through a small convolutional network, pictures also mirrored; anything else, and maps
    too small for that, through a perceptron.

    Attributes:
        network: which of the two.
        embedding: dimensions compared.
        scale, margin: of the cosines; the margin is in units of cosine.
        learning_rate: the peak of a one-cycle AdamW.
        noise: deviation of Gaussian noise on the standardised input while training.
        batch: pictures a step; epochs: passes, and `steps` the most steps; the smaller holds.
    """

    network: Literal["convolution", "perceptron"] = "convolution"
    embedding: int = 128
    scale: float = 24.0
    margin: float = 0.2
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    noise: float = 0.1
    batch: int = 128
    epochs: int = 20
    steps: int = 1000

    family: ClassVar[str] = "matching"
    kind: ClassVar[Kind] = "identity"
    seeded: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"softmax embedding {self.network}"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        wrong_shape = _no_map(knowledge) if self.network == "convolution" else None
        return wrong_shape or _too_few_people(knowledge)

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        device = fastest_device()
        convolve = self.network == "convolution"
        x = _maps(knowledge.z) if convolve else prepare(knowledge.z, "standardised")
        picture = convolve and x["attack"].shape[1] <= 3
        rows, person, people = _people(knowledge.s["attack"])
        with initialised_from(seed_for(seed, self.name)):
            net = _channels_last(_network(x["attack"].shape[1:], self.embedding).to(device))
            centres = nn.Parameter(torch.randn(people, self.embedding).to(device))
        total = min(self.steps, self.epochs * max(1, round(len(rows) / self.batch)))
        adam = torch.optim.AdamW(
            [*net.parameters(), centres], self.learning_rate, weight_decay=self.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(adam, self.learning_rate, total_steps=total)
        keeper = _Keeper(net, x["select"], knowledge.s["select"], seed, mirror=picture)
        rng = generator(seed, self.name, "batches")
        every, taken = max(1, math.ceil(total / 8)), 0
        while taken < total:
            for batch in shuffled(len(rows), self.batch, rng):
                seen = x["attack"][rows[batch]]
                seen = seen + self.noise * torch.randn(seen.shape, generator=rng)
                if picture:
                    turned = torch.rand(len(seen), 1, 1, 1, generator=rng) < 0.5
                    seen = torch.where(turned, seen.flip(3), seen)
                with autocast(device):
                    embedded = net(seen.to(device))
                loss = self._loss(embedded.float(), centres, person[batch].to(device))
                adam.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                adam.step()
                schedule.step()
                taken += 1
                if taken % every == 0 or taken == total:
                    keeper.look()
                if taken == total:
                    break
        keeper.restore()
        return _guess(_on_sphere({split: _embed(net, v, picture) for split, v in x.items()}))

    def _loss(self, embedded: Tensor, centres: Tensor, person: Tensor) -> Tensor:
        cosine = F.normalize(embedded) @ F.normalize(centres).T
        handicap = self.margin * F.one_hot(person, len(centres))
        return F.cross_entropy(self.scale * (cosine - handicap), person)


MATCHERS: tuple[Attack, ...] = (
    Distance("raw"),
    Distance("standardised"),
    Distance("whitened"),
    LinearDiscriminant(),
    FreshSiamese(),
    SoftmaxEmbedding("convolution"),
    SoftmaxEmbedding("perceptron"),
)


def discriminants(x: Tensor, person: Tensor, people: int, shrinkage: float) -> Tensor:
    """(d, k) axes on which people differ, in units of the spread within people.

    Args:
        x: (n, d) features; person: (n,) 0..people-1, each at least twice.
        shrinkage: see `LinearDiscriminant`.
    """
    x = x.double()
    count = torch.bincount(person, minlength=people).double()
    means = torch.zeros(people, x.shape[1], dtype=x.dtype).index_add_(0, person, x)
    means = means / count.unsqueeze(1)
    residual = x - means[person]
    within = residual.T @ residual / (len(x) - people)
    sphere = within.diagonal().mean().clamp_min(1e-12) * torch.eye(len(within), dtype=x.dtype)
    variance, directions = torch.linalg.eigh((1 - shrinkage) * within + shrinkage * sphere)
    whiten = directions / variance.clamp_min(1e-12).sqrt()
    centred = (means - x.mean(0)) @ whiten
    spread, rotation = torch.linalg.eigh(centred.T @ centred / people)
    # A mean of m pictures still holds 1/m of the spread within people.
    between = (spread - (1 / count).mean()).clamp_min(0)
    axes: Tensor = whiten @ rotation * (between / (between + 1)).sqrt()
    return axes.float()


def _two_each(
    person: Tensor, people: int, wanted: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Positions of two pictures each of up to `wanted` people drawn at random."""
    shuffled_rows = torch.randperm(len(person), generator=rng)
    order = shuffled_rows[person[shuffled_rows].argsort(stable=True)]
    start = torch.bincount(person, minlength=people).cumsum(0).roll(1)
    start[0] = 0
    drawn = start[torch.randperm(people, generator=rng)[:wanted]]
    return order[drawn], order[drawn + 1]


def _matching_loss(a: Tensor, b: Tensor, margin: float) -> Tensor:
    """Contrastive loss of a_i with b_i (one person) and of a_i with b_j (two), each kind half."""
    n = len(a)
    every = pair_distance(
        a.unsqueeze(1).expand(n, n, -1).flatten(0, 1), b.expand(n, n, -1).flatten(0, 1)
    )
    different = ~torch.eye(n, dtype=torch.bool, device=a.device).flatten()
    one, two = every[~different], every[different]
    return (
        contrastive(one, torch.zeros_like(one), margin)
        + contrastive(two, torch.ones_like(two), margin)
    ) / 2


class _Keeper:
    """Remembers the weights that told the people of "select" apart best.

    Args:
        smooth: judge by the AUC, which is less a matter of luck than the best accuracy.
    """

    def __init__(
        self,
        net: nn.Module,
        select: Tensor,
        identity: Ints,
        seed: int,
        smooth: bool = True,
        mirror: bool = False,
    ) -> None:
        self.net, self.select, self.smooth, self.mirror = net, select, smooth, mirror
        self.asked = draw_pairs(identity, seed_for(seed, "stopping"), SELECT_PAIRS)
        self.best, self.since, self.state = -math.inf, 0, _copy(net)

    def look(self) -> int:
        """Score the network now; how many looks ago it was best (0: now)."""
        embedded = _embed(self.net, self.select, self.mirror)
        if self.smooth:
            embedded = F.normalize(embedded)
        distance = distances(embedded.numpy(), self.asked)
        same = self.asked.same
        threshold = best_threshold(same, distance)
        score = (
            auc(same, -distance)
            if self.smooth
            else verification_accuracy(same, distance, threshold)
        )
        self.since += 1
        if score > self.best:
            self.best, self.since, self.state = score, 0, _copy(self.net)
        return self.since

    def restore(self) -> None:
        self.net.load_state_dict(self.state)


def _copy(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def _network(shape: torch.Size, embedding: int) -> nn.Sequential:
    """(n, c, h, w) or (n, d) -> (n, embedding); maps are halved, late rather than early, to 4x4."""
    if len(shape) == 1:
        return nn.Sequential(
            nn.Linear(shape[0], 512),
            nn.BatchNorm1d(512),
            nn.ReLU(),
            nn.Linear(512, embedding),
            nn.BatchNorm1d(embedding),
        )
    channels, size, _ = shape
    halvings = round(math.log2(size / SMALLEST_MAP))
    layers: list[nn.Module] = []
    for left, width in ((4, 32), (3, 64), (2, 96), (1, 128)):
        stride = 2 if left <= halvings else 1
        layers += [
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        channels = width
    return nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(SMALLEST_MAP),
        nn.Flatten(),
        nn.Linear(SMALLEST_MAP**2 * channels, embedding),
        nn.BatchNorm1d(embedding),
    )


def _channels_last(net: nn.Module) -> nn.Module:
    """The same network, its convolutions laid out as the processor computes them faster."""
    laid_out: nn.Module = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return laid_out


def _embed(net: nn.Module, x: Tensor, mirror: bool = False) -> Tensor:
    """(n, d) embeddings on the CPU; with `mirror` the sum over a picture and its mirror image."""
    device = next(net.parameters()).device

    def embed(part: Tensor) -> Tensor:
        with autocast(device):
            embedded: Tensor = net(part.to(device))
            if mirror:
                embedded = embedded + net(part.flip(3).to(device))
        return embedded

    net.eval()
    embedded = in_chunks(embed, x, 512)
    net.train()
    return embedded


def _maps(z: Mapping[AttackSplit, Tensor]) -> dict[AttackSplit, Tensor]:
    """Maps standardised by channel; averaged to a square of at most 64 where they are not one."""
    height, width = z["attack"].shape[2:]
    size = min(height, width, LARGEST_MAP)
    maps = prepare_map(z, "standardised")
    if (height, width) == (size, size):
        return maps
    return {split: F.adaptive_avg_pool2d(v, size) for split, v in maps.items()}


def _people(identity: Ints) -> tuple[Tensor, Tensor, int]:
    """Rows (m,) of people with two pictures or more, their numbers (m,) from 0, and how many."""
    known, member, count = np.unique(identity, return_inverse=True, return_counts=True)
    useful = (count > 1) & (known != MISSING)
    rows = np.flatnonzero(useful[member])
    people, person = np.unique(identity[rows], return_inverse=True)
    return torch.from_numpy(rows), torch.from_numpy(person), len(people)


def _too_few_people(knowledge: Knowledge) -> str | None:
    for split, identity in knowledge.s.items():
        if _people(identity)[2] < 2:
            return f"'{split}' has fewer than two people with two pictures each"
    return None


def _no_map(knowledge: Knowledge) -> str | None:
    z = knowledge.z["attack"]
    if z.ndim != 4 or min(z.shape[2:]) < SMALLEST_MAP:
        return f"no spatial map of at least {SMALLEST_MAP}x{SMALLEST_MAP}"
    return None


def _on_sphere(x: Mapping[AttackSplit, Tensor]) -> dict[AttackSplit, Tensor]:
    """Unit vectors: their Euclidean distance is a function of the angle between them."""
    return {split: F.normalize(v) for split, v in x.items()}


def _guess(x: Mapping[AttackSplit, Tensor]) -> Guess:
    return Guess(x["attack"].numpy(), x["select"].numpy(), x["test"].numpy())
