"""Synthetic replacement in the plane: the experiment of figures 4 and 5.

Martinsson, Listo Zec, Gillblad, Mogren: "Adversarial representation learning for synthetic
replacement of private attributes", arXiv 2006.08039, IEEE Big Data 2021.

`toy_game` holds what is trained, with its departures. Here every row is trained at every budget,
and measured: eq. 6 is `utility_score`, the privacy loss `fresh_accuracy`, and figures 4 and 5 show
what `run_toy` returns.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from veil.data import gaussians
from veil.data.batch import Batch
from veil.game import rounds, seats_for, update
from veil.losses import cross_entropy
from veil.method import Adam, Move, Player, Stage
from veil.nets.perceptrons import Perceptrons
from veil.precision import autocast
from veil.progress import Advance
from veil.seeds import generator, seed_for
from veil.toy_game import CLASS, HIDDEN, ROWS, PointGame, Row, ToyConfig, distance, for_budgets
from veil.toy_records import Cell, Cloud, ToyResult

LONGEST = 2.0  # epsilon_max of eq. 6
CHUNK = 4096  # points of each run that are released at once


@dataclass(frozen=True)
class Points:
    """x (runs, n, 2) and s (runs, n) of all runs."""

    x: Tensor
    s: Tensor

    @classmethod
    def drawn(cls, seed: int, purpose: str, runs: int, count: int, device: torch.device) -> Points:
        """Fresh points for every run, of one purpose ("fit", "test")."""
        of_runs = [gaussians.points(seed_for(seed, purpose, run), count) for run in range(runs)]
        x, s = (torch.stack([torch.from_numpy(p[i]) for p in of_runs]) for i in (0, 1))
        return cls(x.to(device), s.to(device))

    def batches(self, size: int, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of whole batches, each run in an order of its own: x (runs, m, ...), s."""
        runs, n = self.s.shape
        order = torch.rand(runs, n, generator=rng, device=self.s.device).argsort(dim=1)
        run = torch.arange(runs, device=order.device)[:, None]
        for start in range(0, n - size + 1, size):
            rows = order[:, start : start + size]
            yield self.x[run, rows], self.s[run, rows]


def steps_of(config: ToyConfig) -> int:
    """Batches in all, of all rows and their fresh adversaries."""
    of_epoch = config.points // config.batch_size
    return len(ROWS) * of_epoch * (config.epochs + config.adversary_epochs)


def trained(row: Row, config: ToyConfig, fit: Points, seed: int, advance: Advance) -> PointGame:
    """The row's players after all epochs of algorithm 1, ready to release."""
    game = PointGame(row, config, generator(seed, "weights", row.name)).to(fit.x.device)
    rng = generator(seed, "defender", row.name, device=fit.x.device)
    seats, budgets = seats_for(game.players), len(config.budgets)
    stage = Stage("adversarial", config.epochs, config.batch_size, game.round)
    for _ in range(stage.epochs):
        for x, s in fit.batches(stage.batch_size, rng):
            batch = Batch(for_budgets(x, budgets), {CLASS: for_budgets(s, budgets)})
            for moves in rounds(stage, batch, rng, "auto"):
                update(seats, moves)
            advance(1, row.name)
    return game.eval()


@torch.no_grad()
def released(game: PointGame, x: Tensor, rng: torch.Generator) -> Tensor:
    """h(x): (runs, n, 2) -> (runs x budgets, n, 2)."""
    budgets = len(game.config.budgets)
    parts = torch.split(x, CHUNK, dim=1)
    return torch.cat([game.release(for_budgets(part, budgets), rng) for part in parts], dim=1)


def fresh_accuracy(
    z: Points, z_test: Points, config: ToyConfig, seed: int, advance: Advance
) -> Tensor:
    """The privacy loss: accuracy of an adversary who learns from released points, on held-out ones.

    It reads them whitened: filters may shrink the plane to a dot, in which nothing is hidden.

    Args:
        z: (runs x budgets, n, 2) released points with their true classes.
        z_test: the same of held-out points.
        seed: the attacker's own.

    Returns:
        (runs x budgets,) accuracies.
    """
    members, device = len(z.s), z.x.device
    x_learn, x_test = whitened(z.x, z_test.x)
    weights = generator(seed, "attacker weights")
    widths, p = (2, *HIDDEN, 2), config.dropout
    adversary = Perceptrons(members, 1, widths, {2: p, 3: p}, weights).to(device)
    seats = seats_for({"attacker": Player(adversary, Adam(config.lr))})
    rng = generator(seed, "attacker", device=device)
    for _ in range(config.adversary_epochs):
        for x, s in Points(x_learn, z.s).batches(config.batch_size, rng):
            with autocast(device):
                loss = torch.vmap(cross_entropy)(adversary(x, rng), s).sum()
            update(seats, [Move("attacker", {"inference": loss})])
            advance(1, "fresh adversary")
    adversary.eval()
    with torch.no_grad():
        right: Tensor = adversary(x_test, rng).argmax(dim=2) == z_test.s
    return right.double().mean(dim=1)


def whitened(learn: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both (m, n, 2) in axes in which `learn` has zero mean and unit covariance, each of the m."""
    x = learn.double()
    mean = x.mean(dim=1, keepdim=True)
    covariance = (x - mean).mT @ (x - mean) / x.shape[1]
    smallest = 1e-9 * covariance.diagonal(dim1=1, dim2=2).mean(dim=1).clamp_min(1e-12)
    factor = torch.linalg.cholesky(covariance + torch.diag_embed(smallest[:, None].expand(-1, 2)))

    def axes(of: Tensor) -> Tensor:
        centred = (of.double() - mean).mT
        found: Tensor = torch.linalg.solve_triangular(factor, centred, upper=False)
        return found.mT.float()

    return axes(learn), axes(test)


def utility_score(x: Tensor, z: Tensor) -> Tensor:
    """Eq. 6: 1 - mean |x - h(x)| / 2, for (..., n, 2) points."""
    return 1 - distance(z, x) / LONGEST


def run_toy(
    config: ToyConfig, seed: int, device: torch.device, shown: int, advance: Advance
) -> ToyResult:
    """Train and attack every row at every budget.

    Args:
        seed: of everything; the attackers' are derived from it for their own purpose.
        device: where networks are trained.
        shown: held-out points kept for the picture.
        advance: told of every batch, `steps_of` of them.
    """
    started = time.monotonic()
    fit = Points.drawn(seed, "fit", config.runs, config.points, device)
    test = Points.drawn(seed, "test", config.runs, config.held_out, device)
    budgets = len(config.budgets)
    s, s_test = for_budgets(fit.s, budgets), for_budgets(test.s, budgets)
    x_test = for_budgets(test.x, budgets)
    cells, clouds = [], [_cloud("", test.x[0], test.s[0], shown)]
    for row in ROWS:
        game = trained(row, config, fit, seed, advance)
        rng = generator(seed, "release", row.name, device=device)
        z, z_test = released(game, fit.x, rng), released(game, test.x, rng)
        attacker = seed_for(seed, "attacker", row.name)
        leak = fresh_accuracy(Points(z, s), Points(z_test, s_test), config, attacker, advance)
        figures = {
            "leak": leak,
            "utility": utility_score(x_test, z_test),
            "distance": distance(z_test, x_test),
        }
        for i, epsilon in enumerate(config.budgets):
            each = {name: tuple(of[i::budgets].tolist()) for name, of in figures.items()}
            cells.append(Cell(row=row.name, epsilon=epsilon, **each))
        clouds.append(_cloud(row.name, z_test[budgets - 1], test.s[0], shown))
    return ToyResult(
        settings=config.model_dump() | {"seed": seed},
        bayes=gaussians.bayes_accuracy(),
        cells=tuple(cells),
        clouds=tuple(clouds),
        cloud_epsilon=config.budgets[-1],
        seconds=round(time.monotonic() - started, 1),
    )


def _cloud(name: str, points: Tensor, s: Tensor, shown: int) -> Cloud:
    rounded = [(round(a, 3), round(b, 3)) for a, b in points[:shown].tolist()]
    return Cloud(name=name, points=tuple(rounded), s=tuple(s[:shown].tolist()))
