"""One round of the game: gradients for the mover only, all of them before any step."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from veil.data.batch import Batch
from veil.errors import Diverged, VeilError
from veil.method import Move, Player, Stage
from veil.precision import Precision, autocast


class Seat:
    """A player at the table: its parameters and its one persistent optimiser."""

    def __init__(self, player: Player) -> None:
        self.parameters = [p for p in player.module.parameters() if p.requires_grad]
        self.recipe = recipe = player.optimiser
        self.optimiser = torch.optim.Adam(
            self.parameters,
            lr=recipe.lr,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,
        )

    def anneal(self, epoch: int, epochs: int) -> None:
        """Set the learning rate of a stage's epoch."""
        factor = (1 + math.cos(math.pi * epoch / epochs)) / 2 if self.recipe.cosine else 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.lr * factor


def seats_for(players: Mapping[str, Player]) -> dict[str, Seat]:
    """One seat for each player that has something to train (without a utility, no task plays).

    Raises:
        VeilError: two players share a parameter.
    """
    owner: dict[int, str] = {}
    for name, player in players.items():
        for parameter in player.module.parameters():
            if owner.setdefault(id(parameter), name) != name:
                raise VeilError(f"players '{owner[id(parameter)]}' and '{name}' share a parameter")
    return {
        name: Seat(player)
        for name, player in players.items()
        if any(parameter.requires_grad for parameter in player.module.parameters())
    }


def channels_last(module: nn.Module) -> None:
    """Lay out every convolution's weights as the images are: on a CPU, twice as fast."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in its parameter's memory layout: fused Adam on a CPU takes it to be so."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def values_of(moves: Sequence[Move]) -> dict[str, float]:
    """The terms of simultaneous moves: "player/term" -> value.

    Raises:
        Diverged: a value is not finite.
    """
    terms = {
        f"{' and '.join(move.movers)}/{name}": term
        for move in moves
        for name, term in move.terms.items()
    }
    values = torch.stack([term.detach().float() for term in terms.values()]).tolist()
    for name, value in zip(terms, values, strict=True):
        if not math.isfinite(value):
            raise Diverged(f"the term '{name}' became {value}: lower its weight or learning rate")
    return dict(zip(terms, values, strict=True))


def update(seats: Mapping[str, Seat], moves: Sequence[Move]) -> dict[str, float]:
    """Play simultaneous moves: all gradients first, each for its mover only; then all steps.

    Returns:
        "player/term" -> value.

    Raises:
        Diverged: a term is not finite; nothing has been moved.
    """
    terms = values_of(moves)
    # Not after the step: memory given back then is faulted in anew by the next backward pass.
    for mover in (mover for move in moves for mover in move.movers):
        for parameter in seats[mover].parameters:
            parameter.grad = None
    for i, move in enumerate(moves):
        parameters = [p for mover in move.movers for p in seats[mover].parameters]
        gradients = torch.autograd.grad(
            reduce(operator.add, move.terms.values()),
            parameters,
            retain_graph=i < len(moves) - 1,
            allow_unused=True,
        )
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else laid_out_as(parameter, gradient)
        del gradients
    for mover in (mover for move in moves for mover in move.movers):
        seats[mover].optimiser.step()
    return terms


def rounds(
    stage: Stage, batch: Batch, rng: torch.Generator, precision: Precision
) -> Iterator[tuple[Move, ...]]:
    """The moves of one round, computed under mixed precision; moves without terms left out."""
    steps = stage.round(batch, rng)
    while True:
        with autocast(batch.x.device, precision):
            moves = next(steps, None)
        if moves is None:
            return
        together = moves if isinstance(moves, tuple) else (moves,)
        if played := tuple(move for move in together if move.terms):
            yield played


def seed_dropout(device: torch.device, seed: int) -> None:
    """Seed the device's global generator, which dropout alone draws from."""
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)  # torch.manual_seed looks for GPUs every time
