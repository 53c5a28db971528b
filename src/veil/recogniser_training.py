"""Training a face recogniser on whatever people are at hand (see `recognition`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from veil.attacks.attack import Ints
from veil.attacks.pairs import distances, draw_pairs, recurring_people
from veil.attacks.training import fastest_device, initialised_from
from veil.augmentation import flipped
from veil.data.dataset import Dataset
from veil.data.splits import divide
from veil.errors import Diverged, VeilError
from veil.metrics import auc
from veil.precision import autocast
from veil.progress import bar
from veil.recognition import (
    CHUNK,
    SIZE,
    FaceNet,
    TrainedRecogniser,
    embedded_by,
    face_pictures,
    laid_out,
    recognition,
)
from veil.seeds import generator, seed_for

FEWEST_PEOPLE = 20
LOOKS = 10

Part = Literal["train", "select", "test"]
SHARES: dict[Part, float] = {"train": 0.8, "select": 0.1, "test": 0.1}


@dataclass(frozen=True)
class Recipe:
    """How `train_recogniser` trains: N-pair loss (Sohn, NIPS 2016, eq. 4) over cosines, both ways.

    Each step draws `people` people and two pictures of each; either picture must name its partner
    among the partners of all.

    Attributes:
        steps: of training; the AUC of pairs of people left out is looked at ten times, and the
            best state is kept.
        people: drawn for a step.
        temperature: of the softmax, in units of cosine.
        learning_rate: the peak of a one-cycle AdamW; weight_decay: its decay.
        shift: pictures are moved by up to this many pixels each way.
        noise: deviation of the Gaussian noise added to pictures in [0, 1].
        coarse: share of the pictures shown at half their resolution, as reconstructions often are.
    """

    steps: int = 1200
    people: int = 64
    temperature: float = 0.1
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    shift: int = 2
    noise: float = 0.025
    coarse: float = 0.25


def train_recogniser(
    images: Dataset | Tensor,
    identity: Ints,
    seed: int,
    recipe: Recipe | None = None,
    source: str = "",
    console: Console | None = None,
) -> TrainedRecogniser:
    """Train on 80 % of the people; 10 % choose the best state, 10 % say what it reached.

    Args:
        images: a data set, or (n, c, h, w) pictures, uint8 or in [0, 1]; c = 1 or 3.
        identity: (n,) who is shown; -1 unknown. Only people with two pictures or more serve.
        seed: decides everything.
        recipe: how; the defaults of `Recipe` take two to three minutes on one core.
        source: in words for a report; "" says on how many people it was trained.
        console: where progress is drawn; None draws nothing.

    Returns:
        A recogniser whose `held_out` is what it reached on people it never saw.

    Raises:
        VeilError: fewer than 20 people with two pictures, or these are no pictures.
        Diverged: the loss is not finite.
    """
    recipe = recipe or Recipe()
    if len(images) != len(identity):
        raise VeilError(f"{len(images)} pictures but {len(identity)} identities")
    rows, _, people = recurring_people(identity)
    if people < FEWEST_PEOPLE:
        raise VeilError(
            f"a face recogniser learns from {FEWEST_PEOPLE} people with two pictures or more, and "
            f"here are {people}: name a trained one ('synthfaces', or an ONNX file)"
        )
    parts = divide(identity[rows.numpy()], SHARES, seed_for(seed, "recogniser"))
    x: dict[Part, Tensor] = {}
    who: dict[Part, Ints] = {}
    for part, positions in parts.items():
        chosen = rows[positions].numpy()
        x[part], who[part] = _small(images, chosen), identity[chosen]
    net = _trained(x, who, seed, recipe, console)
    source = source or f"trained on {len(np.unique(who['train']))} people of these data"
    unproven = TrainedRecogniser(net, source)
    reached = recognition(unproven.embed(x["test"]).numpy(), who["test"], seed)
    return TrainedRecogniser(net, source, reached)


def _trained(
    x: Mapping[Part, Tensor],
    who: Mapping[Part, Ints],
    seed: int,
    recipe: Recipe,
    console: Console | None,
) -> FaceNet:
    """The network trained on "train", as it was when it told the people of "select" apart best."""
    device = fastest_device()
    with initialised_from(seed_for(seed, "recogniser", "weights")):
        net = FaceNet()
    net = laid_out(net.to(device))
    adam = torch.optim.AdamW(
        net.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        adam, recipe.learning_rate, total_steps=recipe.steps
    )
    order = torch.from_numpy(np.argsort(who["train"], kind="stable"))
    count = torch.from_numpy(np.unique(who["train"], return_counts=True)[1])
    asked = draw_pairs(who["select"], seed)
    rng = generator(seed, "recogniser", "batches")
    best, state = -1.0, net.state_dict()
    every = max(1, recipe.steps // LOOKS)
    with bar(console, "Face recogniser", recipe.steps) as advance:
        for step in range(1, recipe.steps + 1):
            rows = order[_two_each(count, recipe.people, rng)]
            seen = _varied(x["train"][rows].float() / 255, recipe, rng).to(device)
            with autocast(device):
                embedded = net(seen.contiguous(memory_format=torch.channels_last))
            a, b = F.normalize(embedded.float()).chunk(2)
            cosine = a @ b.T / recipe.temperature
            partner = torch.arange(len(a), device=device)
            loss = F.cross_entropy(cosine, partner) + F.cross_entropy(cosine.T, partner)
            adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            schedule.step()
            advance(1, "")
            if step % every == 0 or step == recipe.steps:
                if not torch.isfinite(loss):
                    raise Diverged(f"the face recogniser's loss is {loss.item()} at step {step}")
                embedding = embedded_by(net.eval(), x["select"].to(device)).cpu().numpy()
                net.train()
                score = auc(asked.same, -distances(embedding, asked))
                if score > best:
                    best = score
                    state = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(state)
    return net.cpu()


def _two_each(count: Tensor, people: int, rng: torch.Generator) -> Tensor:
    """(2m,) rows of two pictures each of m <= `people` people: all the first, then all others.

    Args:
        count: (p,) pictures of each person, 2 or more; rows are sorted by person.
    """
    start = count.cumsum(0) - count
    drawn = torch.randperm(len(count), generator=rng)[:people]
    many = count[drawn].double()
    one, further = torch.rand(2, len(drawn), generator=rng, dtype=torch.float64)
    first = (one * many).long()
    second = (first + 1 + (further * (many - 1)).long()) % count[drawn]
    return torch.cat([start[drawn] + first, start[drawn] + second])


def _varied(x: Tensor, recipe: Recipe, rng: torch.Generator) -> Tensor:
    """The pictures mirrored, coarsened and disturbed by chance, and all moved alike."""

    def by_chance(share: float) -> Tensor:
        return torch.rand(len(x), 1, 1, 1, generator=rng) < share

    x = flipped(x, rng)
    coarse = F.interpolate(F.avg_pool2d(x, 2), size=(SIZE, SIZE), mode="bilinear")
    x = torch.where(by_chance(recipe.coarse), coarse, x)
    top, left = torch.randint(0, 2 * recipe.shift + 1, (2,), generator=rng).tolist()
    moved = F.pad(x, [recipe.shift] * 4, mode="replicate")[
        ..., top : top + SIZE, left : left + SIZE
    ]
    return moved + recipe.noise * torch.randn(moved.shape, generator=rng)


def _small(images: Dataset | Tensor, rows: Ints) -> Tensor:
    """(n, 3, 32, 32) uint8: these pictures as the network takes them."""

    def taken(chunk: Ints) -> Tensor:
        if isinstance(images, Dataset):
            return images.batch(chunk, labels=()).x
        return images[torch.from_numpy(chunk)]

    chunks = np.array_split(rows, 1 + len(rows) // CHUNK)
    parts = [face_pictures(taken(chunk), (SIZE, SIZE), 3) for chunk in chunks]
    return torch.cat([(255 * part).round().clamp(0, 255).byte() for part in parts])
