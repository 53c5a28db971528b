"""Trained identity attackers: networks that embed a release where its person can be told.

AIA's own Siamese matcher, and a stronger embedding trained to pick a person out of a crowd. Both
learn from the people of "attack" and keep the weights that told the people of "select" apart best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from veil.attacks.attack import AttackSplit, Guess, Ints, Kind, Knowledge
from veil.attacks.features import prepare, prepare_map
from veil.attacks.pairs import distances, draw_pairs, recurring_people, too_few_people
from veil.attacks.training import fastest_device, in_chunks, initialised_from
from veil.augmentation import flipped
from veil.losses import contrastive, pair_distance
from veil.metrics import auc
from veil.nets.siamese import SiameseNet
from veil.precision import autocast
from veil.seeds import generator, seed_for

SELECT_PAIRS = 4000
SMALLEST_MAP = 4


@dataclass(frozen=True)
class FreshSiamese:
    """AIA's own matcher, trained afresh on the released maps with the contrastive loss.

    Each step draws `people` people and two pictures of each. The loss is half that of the pairs of
    one person, half that of all pairs of two: as for balanced pairs, but each picture is embedded
    once.

    Attributes:
        size: larger maps are averaged to size x size.
        margin: two people further apart than this cost nothing.
        learning_rate: of Adam.
        people: drawn for a step.
        steps: at most; the AUC of pairs of select is looked at ten times, and training stops when
            it has not risen for `patience` looks.
    """

    size: int = 64
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
        return _no_map(knowledge) or too_few_people(knowledge)

    def shortened(self, share: float) -> FreshSiamese:
        return replace(self, steps=max(1, round(self.steps * share)))

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        device = fastest_device()
        x = _maps(knowledge.z, self.size)
        rows, person, people = recurring_people(knowledge.s["attack"])
        _, channels, size, _ = x["attack"].shape
        with initialised_from(seed_for(seed, self.name)):
            net = _laid_out(SiameseNet(channels, size), device)
        adam = torch.optim.Adam(net.parameters(), self.learning_rate)
        keeper = _Keeper(net, partial(_embed, net), x["select"], knowledge.s["select"])
        rng = generator(seed, self.name, "batches")
        every = max(1, self.steps // 10)
        for step in range(1, self.steps + 1):
            seen = x["attack"][rows[_two_each(person, people, self.people, rng)]]
            a, b = _forward(net, seen, device).chunk(2)
            loss = _matching_loss(a, b, self.margin)
            adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            if step % every == 0 and keeper.look() >= self.patience:
                break
        keeper.restore()
        return as_guess({split: _embed(net, v) for split, v in x.items()})


@dataclass(frozen=True)
class SoftmaxEmbedding:
    """The strongest: an embedding by which a picture picks its own person out of a drawn crowd.

    Each step draws `people` people and two pictures of each; either picture must name its partner
    among the partners of all, by a softmax over cosines (N-pair loss: Sohn, NIPS 2016, eq. 4, both
    ways). With few pictures a person this finds more on strangers than a softmax over everybody in
    "attack" does, whose people it learns by heart. Maps go through a small convolutional network,
    pictures also mirrored; anything else through a perceptron.

    Attributes:
        network: which of the two.
        size: larger maps are averaged to size x size.
        embedding: dimensions compared.
        temperature: of the softmax, in units of cosine.
        learning_rate: the peak of a one-cycle AdamW; weight_decay: its decay.
        noise: deviation of Gaussian noise on the standardised input while training.
        people: drawn for a step.
        steps: of training; the AUC on select is looked at eight times, the best state is kept.
    """

    network: Literal["convolution", "perceptron"] = "convolution"
    size: int = 32
    embedding: int = 128
    temperature: float = 0.1
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    noise: float = 0.1
    people: int = 64
    steps: int = 800

    family: ClassVar[str] = "matching"
    kind: ClassVar[Kind] = "identity"
    seeded: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"softmax embedding {self.network}"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        wrong_shape = _no_map(knowledge) if self.network == "convolution" else None
        return wrong_shape or too_few_people(knowledge)

    def shortened(self, share: float) -> SoftmaxEmbedding:
        return replace(self, steps=max(1, round(self.steps * share)))

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        device = fastest_device()
        convolve = self.network == "convolution"
        x = _maps(knowledge.z, self.size) if convolve else prepare(knowledge.z, "standardised")
        picture = convolve and x["attack"].shape[1] <= 3
        rows, person, people = recurring_people(knowledge.s["attack"])
        with initialised_from(seed_for(seed, self.name)):
            net = _laid_out(_network(x["attack"].shape[1:], self.embedding), device)
        adam = torch.optim.AdamW(
            net.parameters(), self.learning_rate, weight_decay=self.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            adam, self.learning_rate, total_steps=self.steps
        )

        def embed(z: Tensor) -> Tensor:
            both = _embed(net, z) + _embed(net, z.flip(3)) if picture else _embed(net, z)
            return F.normalize(both)

        keeper = _Keeper(net, embed, x["select"], knowledge.s["select"])
        rng = generator(seed, self.name, "batches")
        every = max(1, self.steps // 8)
        for step in range(1, self.steps + 1):
            seen = x["attack"][rows[_two_each(person, people, self.people, rng)]]
            seen = seen + self.noise * torch.randn(seen.shape, generator=rng)
            if picture:
                seen = flipped(seen, rng)
            a, b = _forward(net, seen, device).chunk(2)
            cosine = F.normalize(a) @ F.normalize(b).T / self.temperature
            partner = torch.arange(len(a), device=device)
            loss = F.cross_entropy(cosine, partner) + F.cross_entropy(cosine.T, partner)
            adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            schedule.step()
            if step % every == 0:
                keeper.look()
        keeper.restore()
        return as_guess({split: embed(v) for split, v in x.items()})


def as_guess(x: Mapping[AttackSplit, Tensor]) -> Guess:
    """The guess made of split -> (n, d) embeddings."""
    return Guess(x["attack"].numpy(), x["select"].numpy(), x["test"].numpy())


def _two_each(person: Tensor, people: int, wanted: int, rng: torch.Generator) -> Tensor:
    """(2m,) positions of two pictures each of m <= `wanted` people: all the first, then all others.

    Args:
        person: (n,) the person of each position, 0..people-1.
    """
    shuffled_rows = torch.randperm(len(person), generator=rng)
    order = shuffled_rows[person[shuffled_rows].argsort(stable=True)]
    start = torch.bincount(person, minlength=people).cumsum(0).roll(1)
    start[0] = 0
    drawn = start[torch.randperm(people, generator=rng)[:wanted]]
    return torch.cat([order[drawn], order[drawn + 1]])


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
    """Remembers the weights that told the people of "select" apart best, by the AUC of pairs.

    Args:
        embed: (n, ...) releases -> (n, d) by the network as it is now.
    """

    def __init__(
        self, net: nn.Module, embed: Callable[[Tensor], Tensor], select: Tensor, identity: Ints
    ) -> None:
        self.net, self.embed, self.select = net, embed, select
        self.asked = draw_pairs(identity, 0, SELECT_PAIRS)
        self.best, self.since, self.state = -math.inf, 0, _copy(net)

    def look(self) -> int:
        """Score the network now; how many looks ago it was best (0: now)."""
        distance = distances(self.embed(self.select).numpy(), self.asked)
        score = auc(self.asked.same, -distance)
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


def _laid_out(net: nn.Module, device: torch.device) -> nn.Module:
    """The network on `device`, its convolutions stored in the order that is computed fastest."""
    stored: nn.Module = net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return stored


def _forward(net: nn.Module, x: Tensor, device: torch.device) -> Tensor:
    """(n, d) float32 embeddings, computed in the precision that is fastest on `device`."""
    order = torch.channels_last if x.ndim == 4 else torch.contiguous_format
    with autocast(device):
        embedded: Tensor = net(x.to(device, memory_format=order))
    return embedded.float()


def _embed(net: nn.Module, x: Tensor) -> Tensor:
    """(n, d) embeddings on the CPU, the network as it is at release: not in training mode."""
    device = next(net.parameters()).device
    net.eval()
    embedded = in_chunks(lambda part: _forward(net, part, device), x, 512)
    net.train()
    return embedded


def _maps(z: Mapping[AttackSplit, Tensor], largest: int) -> dict[AttackSplit, Tensor]:
    """Maps standardised by channel; averaged to a square of at most `largest` if not that yet."""
    height, width = z["attack"].shape[2:]
    size = min(height, width, largest)
    maps = prepare_map(z, "standardised")
    if (height, width) == (size, size):
        return maps
    return {split: F.adaptive_avg_pool2d(v, size) for split, v in maps.items()}


def _no_map(knowledge: Knowledge) -> str | None:
    z = knowledge.z["attack"]
    if z.ndim != 4 or min(z.shape[2:]) < SMALLEST_MAP:
        return f"no spatial map of at least {SMALLEST_MAP}x{SMALLEST_MAP}"
    return None
