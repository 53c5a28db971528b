"""What attackers that train networks share: where, from which weights, in which order, how long."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from veil.attacks.attack import Attack, Guess, Knowledge
from veil.attacks.decisions import balanced_log_loss, class_weights
from veil.attacks.features import Splits
from veil.precision import Precision, autocast


@runtime_checkable
class TrainsSeedsTogether(Protocol):
    """An attacker whose seeds train faster side by side than one after another."""

    def run_seeds(self, knowledge: Knowledge, seeds: Sequence[int]) -> list[Guess]:
        """What `run` returns for each seed."""


def run_seeds(attack: Attack, knowledge: Knowledge, seeds: Sequence[int]) -> list[Guess]:
    """One guess for each seed, trained side by side where the attacker can."""
    if isinstance(attack, TrainsSeedsTogether):
        return attack.run_seeds(knowledge, seeds)
    return [attack.run(knowledge, seed) for seed in seeds]


def fastest_device() -> torch.device:
    """The GPU if there is one: releases lie on the CPU, an attacker may move them."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def initialised_from(seed: int) -> Iterator[None]:
    """Whatever draws from the global streams inside draws from `seed`; the streams are kept.

    Networks built inside get their initial weights from it, networks trained inside their dropout.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, size: int, axis: int = 0) -> Tensor:
    """`function` of rows of x, at most `size` at a time, joined on the CPU along `axis` in float32.

    The parts are equally large: a network that normalises by its batch sees no odd remainder.
    """
    parts = x.tensor_split(max(1, math.ceil(len(x) / size)))
    with torch.inference_mode():
        return torch.cat([function(part).float().cpu() for part in parts], axis)


def shuffled(rows: int, size: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Batches of row numbers in random order; every row once, the last batch as large as others.

    The batches' sizes differ by at most one, so none is too small for batch normalisation.
    """
    yield from torch.randperm(rows, generator=rng).tensor_split(max(1, round(rows / size)))


def placed(x: Tensor, device: torch.device) -> Tensor:
    """Rows on the device, of maps in the layout that convolutions are fastest in."""
    return x.to(device, memory_format=torch.channels_last if x.ndim == 4 else torch.preserve_format)


def answers(
    network: nn.Module, x: Tensor, both_sides: bool, precision: Precision = "auto"
) -> Tensor:
    """What a network says of rows (n, ...) on the CPU: (n, K) float32.

    With `both_sides`, of pictures, the mean of what it says of them and of their mirror images.
    """
    device = next(network.parameters()).device
    x = placed(x, device)
    with autocast(device, precision):
        found: Tensor = network(x).float()
        return (found + network(x.flip(3)).float()) / 2 if both_sides else found


@dataclass(frozen=True)
class Cycle:
    """AdamW and one cycle of the learning rate (Smith & Topin, 2019).

    Attributes:
        peak: the highest learning rate.
        weight_decay: decoupled, times the learning rate a step.
        batch: rows a step.
        steps: least number of steps, and `epochs` least number of passes; the larger holds.
    """

    peak: float
    weight_decay: float
    batch: int
    steps: int
    epochs: int


def train(
    network: nn.Module,
    x: Splits,
    knowledge: Knowledge,
    cycle: Cycle,
    rng: torch.Generator,
    logits: Callable[[Tensor], Tensor],
    augment: Callable[[Tensor], Tensor] | None = None,
) -> float:
    """Train a network in place to tell the classes, which count equally, and leave it in eval mode.

    Args:
        network: (n, ...) -> (n, K) logits; parameters that require gradients are trained.
        x: split -> (n, ...) what it sees.
        knowledge: what the attacker holds; the labels are read.
        cycle: how long and how fast.
        rng: the order of batches.
        logits: the network's answer when it is evaluated, (n, ...) on the CPU -> (n, K).
        augment: rows of a batch on the CPU -> rows of the same shape.

    Returns:
        The least balanced log-loss on "select" after an epoch, whose weights the network keeps.
    """
    device = next(network.parameters()).device
    s = torch.from_numpy(knowledge.s["attack"]).to(device)
    s_select = torch.from_numpy(knowledge.s["select"])
    balance = class_weights(s.cpu(), knowledge.classes).to(device)

    def loss(rows: Tensor) -> Tensor:
        shown = x["attack"][rows] if augment is None else augment(x["attack"][rows])
        with autocast(device):
            scores = network(placed(shown, device))
        return cross_entropy(scores.float(), s[rows.to(device)], balance)

    def held_out() -> float:
        return balanced_log_loss(in_chunks(logits, x["select"], 512), s_select)[0].item()

    return fit(network, len(s), cycle, rng, loss, held_out)


def fit(
    network: nn.Module,
    rows: int,
    cycle: Cycle,
    rng: torch.Generator,
    loss: Callable[[Tensor], Tensor],
    held_out: Callable[[], float],
) -> float:
    """Train a network in place by any loss, keep its best epoch, and leave it in eval mode.

    Args:
        network: its parameters that require gradients are trained.
        rows: how many there are to learn from.
        cycle: how long and how fast.
        rng: the order of batches.
        loss: row numbers of a batch -> what is minimised.
        held_out: the loss on "select" of the network as it is, in nats. A third of the epochs (or
            four) without one that is lower by 1e-4 end the training.

    Returns:
        The least held-out loss after an epoch, whose weights the network keeps.
    """
    per_epoch = max(1, round(rows / cycle.batch))
    epochs = max(cycle.epochs, math.ceil(cycle.steps / per_epoch))
    trained = [p for p in network.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(trained, cycle.peak, weight_decay=cycle.weight_decay)
    # Not 0.2: of five steps in all, the first phase would have none, and be divided by.
    rate = torch.optim.lr_scheduler.OneCycleLR(
        adam, cycle.peak, total_steps=epochs * per_epoch, pct_start=0.21
    )
    best_loss, best, idle = math.inf, _state(network), 0
    for _ in range(epochs):
        network.train()
        for batch in shuffled(rows, cycle.batch, rng):
            adam.zero_grad()
            loss(batch).backward()  # type: ignore[no-untyped-call]
            adam.step()
            rate.step()
        network.eval()
        reached = held_out()
        idle = 0 if reached < best_loss - 1e-4 else idle + 1
        if reached < best_loss:
            best_loss, best = reached, _state(network)
        if idle > max(3, epochs // 3):
            break
    network.load_state_dict(best)
    network.eval()
    return best_loss


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
