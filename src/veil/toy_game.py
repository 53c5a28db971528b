"""Filters and generators of points in the plane, and the game that they play.

Martinsson, Listo Zec, Gillblad, Mogren: "Adversarial representation learning for synthetic
replacement of private attributes", arXiv 2006.08039, IEEE Big Data 2021.

Threat model: whoever receives released points has any number of others with their classes, and
infers the class of a point that was not among these.

Equation map
    Algorithm 1    `PointGame.round`; its terms are those of `methods.pcgan`
    Eq. 6 and the privacy loss are in `toy`, with the experiment of figures 4 and 5

Departures
    1. "likelihood" is the filter of GAP (Huang et al. 2018), "generator" the paper's ablation; the
       paper draws neither the latter nor budgets apart.
    2. lambda is 30, not 1e5 (see `ToyConfig.lam`).

Unclear in the paper, and what we do
    1. d is "defined as the L2-norm", and eq. 6 divides mean distances by the largest budget "to
       get distances into the range [0,1]": d is the Euclidean distance, and the utility score is
       then 1 - d / 2. (On pictures d is a mean squared error, see `methods.pcgan`. As such in the
       plane it makes g dear, which moves half of the points far, where f moves all a little.)
    2. The networks are not described: widths, tanh and dropout are those of the released script.
       Dropout rests when points are released.
    3. That script never moved the filter's discriminator. Here all four players move.
    4. g is trained on the x' that the round drew already, as algorithm 1 is printed.

All runs and budgets of a row are trained at once (`nets.perceptrons`): they share no weight, and
Adam works entry by entry, so each learns what it would alone. The budgets of a run share its
points, first weights, batches, noise and dropout; runs share nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from veil.data.batch import Batch
from veil.losses import cross_entropy
from veil.method import Adam, MethodConfig, Move, Player, Round
from veil.methods.pcgan import (
    discriminator_loss,
    entropy_loss,
    generator_loss,
    likelihood_loss,
)
from veil.nets.perceptrons import Perceptrons

CLASS = "class"
NOISE, EMBEDDING = 2, 2
HIDDEN = (128, 256, 128)


@dataclass(frozen=True)
class Row:
    """One line of figure 4.

    Attributes:
        name: in tables.
        filter: the loss of f; None for no filter.
        generates: whether g draws the class anew.
    """

    name: str
    filter: Literal["likelihood", "entropy"] | None
    generates: bool


ROWS = (
    Row("filter, likelihood (GAP)", "likelihood", False),
    Row("filter, entropy", "entropy", False),
    Row("generator", None, True),
    Row("filter and generator", "entropy", True),
)


class ToyConfig(MethodConfig):
    """Fields with the paper's value and place; section 4 if nothing else is said.

    Attributes:
        points: n, to learn from; 400,000.
        held_out: m, measured on; 2,560.
        budgets: epsilon, mean distances.
        runs: five, each with points of its own.
        lam: lambda of the penalty; 1e5. That is for pictures, whose distortion hardly varies from
            batch to batch; that of 128 points does, and any chance excess outweighs all else:
            filters had learned hardly anything at 1e5 after 500 batches.
        lr: Adam's learning rate, of everybody; 1e-3 in the released script.
        batch_size: 128 in the released script.
        epochs: passes over the points; 5 in the released script.
        adversary_epochs: passes of the fresh adversary over the released points; not given.
        dropout: 0.2 in the released script: once in f and g, twice in h_f and h_g.
    """

    points: int = Field(400_000, ge=2)
    held_out: int = Field(2560, ge=2)
    budgets: tuple[float, ...] = Field((0.1, 0.5, 1.0, 1.5, 2.0), min_length=1)
    runs: int = Field(5, ge=1)
    lam: float = Field(30.0, ge=0)
    lr: float = Field(1e-3, gt=0)
    batch_size: int = Field(128, ge=2)
    epochs: int = Field(5, ge=1)
    adversary_epochs: int = Field(5, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)


def for_budgets(x: Tensor, budgets: int) -> Tensor:
    """(runs, ...) -> (runs x budgets, ...), what a run has for each of its budgets."""
    return x.repeat_interleave(budgets, dim=0)


def distance(released: Tensor, x: Tensor) -> Tensor:
    """d of algorithm 1 and of eq. 6: (..., n, 2) -> (...), the mean length of the points' ways."""
    way: Tensor = torch.linalg.vector_norm(released - x, dim=-1)
    return way.mean(dim=-1)


class PointGame(nn.Module):
    """Filter f, generator g and their discriminators h_f and h_g, for all runs and budgets."""

    def __init__(self, row: Row, config: ToyConfig, rng: torch.Generator) -> None:
        super().__init__()
        self.row, self.config = row, config
        runs, budgets, p = config.runs, len(config.budgets), config.dropout

        def perceptrons(inputs: int, outputs: int, dropped: Mapping[int, float]) -> Perceptrons:
            return Perceptrons(runs, budgets, (inputs, *HIDDEN, outputs), dropped, rng)

        if row.filter is not None:
            self.filter = perceptrons(2 + NOISE, 2, {2: p})
            self.filter_discriminator = perceptrons(2, 2, {2: p, 3: p})
        if row.generates:
            self.generator = perceptrons(2 + NOISE + EMBEDDING, 2, {2: p})
            vectors = torch.randn(runs, 2, EMBEDDING, generator=rng)
            self.embedding = nn.Parameter(for_budgets(vectors, budgets))
            self.generator_discriminator = perceptrons(2, 3, {2: p, 3: p})

    @cached_property
    def players(self) -> Mapping[str, Player]:
        """Those whom the row has, by the paper's nouns."""
        adam = Adam(self.config.lr)
        found: dict[str, Player] = {}
        if self.row.filter is not None:
            found["filter"] = Player(self.filter, adam)
            found["filter discriminator"] = Player(self.filter_discriminator, adam)
        if self.row.generates:
            g = nn.ModuleList([self.generator, nn.ParameterList([self.embedding])])
            found["generator"] = Player(g, adam)
            found["generator discriminator"] = Player(self.generator_discriminator, adam)
        return found

    def filtered(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """x' = f(x, z_1); x itself without a filter."""
        if self.row.filter is None:
            return x
        x_filtered: Tensor = self.filter(torch.cat([x, self._noise(x, rng)], dim=2), rng)
        return x_filtered

    def generated(self, x: Tensor, s_new: Tensor, rng: torch.Generator) -> Tensor:
        """x'' = g(x', s', z_2)."""
        embedded = self.embedding.gather(1, s_new[..., None].expand(-1, -1, EMBEDDING))
        inputs = torch.cat([x, self._noise(x, rng), embedded], dim=2)
        x_new: Tensor = self.generator(inputs, rng)
        return x_new

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """h(x), (runs x budgets, n, 2) -> the same shape, all randomness from rng."""
        x_filtered = self.filtered(x, rng)
        if not self.row.generates:
            return x_filtered
        return self.generated(x_filtered, self.new_classes(x, rng), rng)

    def new_classes(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """s', (runs x budgets, n), uniform."""
        s_new = torch.randint(2, (self.config.runs, x.shape[1]), generator=rng, device=x.device)
        return for_budgets(s_new, len(self.config.budgets))

    def round(self, batch: Batch, rng: torch.Generator) -> Round:
        """One iteration of algorithm 1 on x (runs x budgets, n, 2) and `CLASS` (runs x budgets, n).

        The discriminators' losses are of the x' and x'' that the iteration began with, so all four
        move at once, from the same forward passes.
        """
        x, s = batch.x, batch[CLASS]
        moves: list[Move] = []
        x_filtered = self.filtered(x, rng)
        if self.row.filter is not None:
            logits = self.filter_discriminator(x_filtered, rng)
            privacy = filter_loss(self.row.filter, logits, s)
            terms = {"privacy": privacy, "distance": self.penalty(x_filtered, x)}
            moves.append(Move("filter", terms))
            inference = torch.vmap(cross_entropy)(logits, s).sum()
            moves.append(Move("filter discriminator", {"inference": inference}))
        if self.row.generates:
            s_new = self.new_classes(x, rng)
            x_new = self.generated(x_filtered.detach(), s_new, rng)
            fake_logits = self.generator_discriminator(x_new, rng)
            real_logits = self.generator_discriminator(x, rng)
            realism = torch.vmap(generator_loss)(fake_logits, s_new).sum()
            terms = {"realism": realism, "distance": self.penalty(x_new, x)}
            moves.append(Move("generator", terms))
            told_apart = torch.vmap(discriminator_loss)(fake_logits, real_logits, s).sum()
            moves.append(Move("generator discriminator", {"discrimination": told_apart}))
        yield tuple(moves)

    def penalty(self, released: Tensor, x: Tensor) -> Tensor:
        """lam max(distance - epsilon, 0)^2 of each network at its own budget, summed."""
        c = self.config
        budgets = torch.tensor(c.budgets, device=x.device).repeat(c.runs)
        return c.lam * (distance(released, x) - budgets).relu().square().sum()

    def _noise(self, x: Tensor, rng: torch.Generator) -> Tensor:
        shape = (self.config.runs, x.shape[1], NOISE)
        z = torch.randn(shape, generator=rng, device=x.device)
        return for_budgets(z, len(self.config.budgets))


def filter_loss(form: Literal["likelihood", "entropy"], logits: Tensor, s: Tensor) -> Tensor:
    """l_f of every network, summed: (runs x budgets, n, 2) logits of h_f -> a scalar."""
    if form == "likelihood":
        return torch.vmap(likelihood_loss)(logits, s).sum()
    return torch.vmap(lambda one: entropy_loss(one, "mean"))(logits).sum()
