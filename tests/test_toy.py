"""The experiment in the plane: networks side by side learn what each would learn alone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import typer
from torch import Tensor
from typer.testing import CliRunner

from veil.cli_toy import toy
from veil.data.batch import Batch
from veil.game import seats_for, update
from veil.method import Adam, Move, Player
from veil.seeds import generator
from veil.toy import (
    Points,
    fresh_accuracy,
    released,
    run_toy,
    steps_of,
    trained,
    utility_score,
    whitened,
)
from veil.toy_game import CLASS, ROWS, PointGame, ToyConfig, distance
from veil.toy_records import ToyResult

CPU = torch.device("cpu")
LIKELIHOOD, ENTROPY, GENERATOR, BOTH = ROWS


def silent(_steps: int, _text: str) -> None:
    """Progress that nobody watches."""


def tiny(**given: object) -> ToyConfig:
    usual: dict[str, object] = {
        "points": 512,
        "held_out": 400,
        "runs": 2,
        "budgets": (0.5, 2.0),
        "epochs": 1,
        "adversary_epochs": 1,
    }
    return ToyConfig.model_validate(usual | given)


def made(config: ToyConfig, row: int = 3, seed: int = 0) -> tuple[PointGame, Tensor, Tensor]:
    """A game, and a batch for all its networks."""
    game = PointGame(ROWS[row], config, generator(seed, "weights"))
    batch = Points.drawn(seed, "batch", config.runs, 64, CPU)
    budgets = len(config.budgets)
    return game, batch.x.repeat_interleave(budgets, 0), batch.s.repeat_interleave(budgets, 0)


def moves_of(game: PointGame, x: Tensor, s: Tensor) -> dict[str, Move]:
    (moves,) = game.round(Batch(x, {CLASS: s}), generator(0, "round"))
    assert isinstance(moves, tuple)
    return {str(move.player): move for move in moves}


def test_sizes_are_the_recorded_ones() -> None:
    """04a_pcgan_sizes.npz, out_synthetic_filter_generator_D2_D3_params."""
    game, _, _ = made(ToyConfig(runs=1, budgets=(1.0,)))
    sizes = {
        name: sum(p.numel() for p in player.module.parameters())
        for name, player in game.players.items()
    }
    assert sizes == {
        "filter": 66818,
        "generator": 67078,
        "filter discriminator": 66562,
        "generator discriminator": 66691,
    }


def test_the_penalty_is_each_networks_own_summed() -> None:
    config = tiny(lam=7.0)
    game, x, _ = made(config)
    moved = x + torch.randn(x.shape, generator=generator(0, "moved"))
    slow = 0.0
    for member, epsilon in enumerate([0.5, 2.0, 0.5, 2.0]):
        distances = [
            math.dist(a, b) for a, b in zip(x[member].tolist(), moved[member].tolist(), strict=True)
        ]
        slow += 7.0 * max(sum(distances) / len(distances) - epsilon, 0) ** 2
    assert slow > 0.5
    assert game.penalty(moved, x).item() == pytest.approx(slow, rel=1e-4)


@pytest.mark.parametrize("row", range(4))
def test_every_move_lowers_its_own_terms(row: int) -> None:
    """Without dropout and new noise, a small step of one player lowers the sum it minimises."""
    for name in made(tiny(), row)[0].players:
        game, x, s = made(tiny(dropout=0.0, lr=1e-4), row)
        before = sum(t.item() for t in moves_of(game, x, s)[name].terms.values())
        update(seats_for(game.players), [moves_of(game, x, s)[name]])
        assert sum(t.item() for t in moves_of(game, x, s)[name].terms.values()) < before


@pytest.mark.parametrize("row", [0, 1])
def test_the_filter_moves_against_its_discriminator(row: int) -> None:
    """At no penalty: likelihood makes the discriminator wrong, entropy makes it less certain."""
    game, x, s = made(tiny(dropout=0.0, lam=0.0, runs=1, budgets=(1.0,)), row)
    cautious = {"filter": Player(game.filter, Adam(1e-5))}
    seats = seats_for({**game.players, **cautious})

    def doubt_and_loss() -> tuple[float, float]:
        rng = generator(0, "round")
        p = game.filter_discriminator(game.filtered(x, rng), rng)[0].double().softmax(1)
        right = p[torch.arange(64), s[0]]
        return -(p * p.log()).sum(1).mean().item(), -right.log().mean().item()

    def play(name: str, times: int) -> tuple[float, float]:
        for _ in range(times):
            update(seats, [moves_of(game, x, s)[name]])
        return doubt_and_loss()

    doubt, loss = play("filter discriminator", 60)
    more_doubt, more_loss = play("filter", 10)
    if row == 0:
        assert more_loss > loss + 0.01
    else:
        assert more_doubt > doubt + 0.002


def test_a_move_reaches_its_own_parameters_only() -> None:
    game, x, s = made(tiny())
    for name in game.players:
        move = moves_of(game, x, s)[name]
        others = [
            p for n, player in game.players.items() for p in player.module.parameters() if n != name
        ]
        before = [p.detach().clone() for p in others]
        update(seats_for(game.players), [move])
        assert all(torch.equal(p, b) for p, b in zip(others, before, strict=True))
    realism = torch.stack([*moves_of(game, x, s)["generator"].terms.values()]).sum()
    weights = list(game.filter.parameters())
    gradients = torch.autograd.grad(realism, weights, allow_unused=True)
    assert all(gradient is None for gradient in gradients)


def test_releases_are_the_generators_alone() -> None:
    game, x, _ = made(tiny())
    game.eval()
    first, again, other = (game.release(x, generator(seed, "z")) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    s_new = game.new_classes(x, generator(0, "s"))
    assert s_new.double().mean().item() == pytest.approx(0.5, abs=0.2)
    ones, noughts = (
        game.generated(x, torch.full_like(s_new, s), generator(0, "z")) for s in (0, 1)
    )
    assert not torch.allclose(ones, noughts, atol=1e-3)


def test_utility_is_one_minus_half_the_distance() -> None:
    x = torch.zeros(1, 2, 2)
    assert utility_score(x, torch.tensor([[[0.6, 0.8], [0.0, 0.0]]])).item() == pytest.approx(0.75)
    assert utility_score(x, x).item() == 1


def test_a_fresh_adversary_reads_the_points_and_nothing_from_noise() -> None:
    """Also what a likelihood filter makes at its best: every point in the other class's place."""
    config = tiny(runs=3, budgets=(1.0,), adversary_epochs=4)
    fit, test = (Points.drawn(0, name, 3, n, CPU) for name, n in (("fit", 2048), ("test", 2000)))

    def as_released(points: Points) -> Points:
        x = points.x.clone()
        x[1] = -x[1]
        x[2] = torch.randn(x[2].shape, generator=generator(0, "noise", len(x[2])))
        return Points(x, points.s)

    found = fresh_accuracy(as_released(fit), as_released(test), config, 0, silent).tolist()
    assert found[:2] == pytest.approx([0.978, 0.978], abs=0.015)
    assert found[2] == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 2000))


def test_whitened_points_have_no_scale_left() -> None:
    """Also of a cloud shrunk to a dot; what it says of the class is read all the same."""
    fit, test = (Points.drawn(0, name, 3, 2000, CPU) for name in ("fit", "test"))
    bend = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1e-4, 0.0], [0.0, 1e-4]], [[1, 2], [0, 1e-3]]])
    x, x_test = whitened(fit.x @ bend, test.x @ bend)
    for one in x:
        assert torch.cov(one.T).flatten().tolist() == pytest.approx([1, 0, 0, 1], abs=0.03)
        assert one.mean(0).tolist() == pytest.approx([0, 0], abs=1e-4)
    assert x_test.mean(1).abs().max().item() < 0.1
    dots = Points(fit.x @ bend, fit.s), Points(test.x @ bend, test.s)
    found = fresh_accuracy(*dots, tiny(adversary_epochs=4), 0, silent)
    assert found.min().item() > 0.96
    same = whitened(torch.ones(1, 5, 2), torch.ones(1, 5, 2))
    assert all((points == 0).all() for points in same)


def test_batches_are_whole_and_every_run_has_its_own_order() -> None:
    points = Points.drawn(0, "fit", 2, 100, CPU)
    batches = list(points.batches(32, generator(0, "order")))
    assert [tuple(s.shape) for _, s in batches] == [(2, 32)] * 3
    for run in range(2):
        rows = torch.cat([x[run] for x, _ in batches])
        there = (rows[:, None] == points.x[run]).all(-1)
        assert there.any(1).all()
        assert int(there.sum()) == 96
        order = there.double().argmax(1)
        s = torch.cat([s[run] for _, s in batches])
        assert torch.equal(points.s[run][order], s)


def test_filter_and_generator_together_hide_what_a_large_budget_allows() -> None:
    config = tiny(points=6400, runs=1, budgets=(2.0,), epochs=8, adversary_epochs=2)
    fit, test = (Points.drawn(0, name, 1, n, CPU) for name, n in (("fit", 6400), ("test", 1000)))
    game = trained(BOTH, config, fit, 0, silent)
    z, z_test = (
        Points(released(game, p.x, generator(0, name)), p.s)
        for name, p in (("z", fit), ("z test", test))
    )
    assert fresh_accuracy(z, z_test, config, 0, silent).item() < 0.8
    assert distance(z_test.x, test.x).item() < 2.2


def test_the_experiment_says_the_same_for_the_same_seed() -> None:
    config, steps = tiny(), 0

    def advance(count: int, _text: str) -> None:
        nonlocal steps
        steps += count

    first = run_toy(config, 0, CPU, 10, advance)
    assert steps == steps_of(config) == 4 * 4 * 2
    again = run_toy(config, 0, CPU, 10, silent)
    assert first.cells == again.cells
    assert first.clouds == again.clouds
    assert first.cells != run_toy(config, 1, CPU, 10, silent).cells
    assert first.rows == tuple(row.name for row in ROWS)
    assert [cell.epsilon for cell in first.cells] == [0.5, 2.0] * 4
    assert all(len(cell.leak) == 2 for cell in first.cells)
    assert [len(cloud.points) for cloud in first.clouds] == [10] * 5


def test_the_command_writes_its_record_and_its_figure_once(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(toy)
    words = ["--out", str(tmp_path / "toy"), "--points", "256", "--runs", "1", "--quiet"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "wrote toy.json" in done.output
    result = ToyResult.model_validate(json.loads((tmp_path / "toy/toy.json").read_text("utf-8")))
    assert result.settings["points"] == 256
    assert (tmp_path / "toy/toy.svg").read_text("utf-8").startswith("<?xml")
    assert CliRunner().invoke(app, words).exit_code != 0
