"""The loop: who moves and when, what is written down, when it stops, and what it refuses."""

from __future__ import annotations

import io
import json
import math
import signal
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from tiny import Scalar, Toy, faces, problem, splits
from veil.checkpoint import load_tensors
from veil.errors import Diverged, VeilError
from veil.game import Seat, rounds, seats_for, update
from veil.losses import scale_gradient
from veil.method import Adam, Move, Player, Round
from veil.train import CHECKPOINT, METRICS, FitConfig, fit

CONFIG = FitConfig(device="cpu", precision="fp32")
SPLITS = splits()


def train(game: Toy, run: Path | None = None, console: Console | None = None) -> None:
    fit(game, problem(), SPLITS.fit, SPLITS.select, CONFIG, run, console)


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / METRICS).read_text().splitlines()]


class HandAdam:
    """Adam on one number, from the paper's algorithm box."""

    def __init__(self, lr: float) -> None:
        self.lr, self.m, self.v, self.t = lr, 0.0, 0.0, 0

    def step(self, value: float, gradient: float) -> float:
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return value - self.lr * m / (math.sqrt(v) + 1e-8)


def next_moves(game: Toy) -> tuple[Move, ...]:
    """The moves of the first turn of a round."""
    moves = next(iter(game.play(game)))
    return moves if isinstance(moves, tuple) else (moves,)


# A quadratic game: a minimises ab + a^2/2, b minimises -ab + b^2/2.
def together(game: Toy) -> Round:
    a, b = game["a"], game["b"]
    yield Move("a", {"gain": a * b, "cost": a**2 / 2}), Move("b", {"all": -a * b + b**2 / 2})


def in_turn(game: Toy) -> Round:
    a, b = game["a"], game["b"]
    yield Move("a", {"all": a * b + a**2 / 2})
    yield Move("b", {"all": -a * b + b**2 / 2})


@pytest.mark.parametrize("play", [together, in_turn])
def test_a_game_equals_one_played_by_hand(play: object) -> None:
    """The same game with the other order of play ends elsewhere (see the last line)."""
    game = Toy({"a": 0.7, "b": -0.4}, together if play is together else in_turn, (("s", 5, None),))
    train(game)

    def by_hand(simultaneous: bool) -> tuple[float, float]:
        a, b = 0.7, -0.4
        adam_a, adam_b = HandAdam(0.1), HandAdam(0.1)
        for _ in range(5 * 4):
            moved = adam_a.step(a, b + a)
            b = adam_b.step(b, -(a if simultaneous else moved) + b)
            a = moved
        return a, b

    right, wrong = by_hand(play is together), by_hand(play is not together)
    assert tuple(game.values().values()) == pytest.approx(right, abs=1e-9)
    assert tuple(game.values().values()) != pytest.approx(wrong, abs=1e-3)


def test_simultaneous_gradients_are_all_taken_before_any_step() -> None:
    """Adam's first step is lr times the sign; a's step would flip the sign of b's gradient."""

    def simultaneous(game: Toy) -> Round:
        yield Move("a", {"t": 1.0 * game["a"]}), Move("b", {"t": game["a"] * game["b"]})

    def sequential(game: Toy) -> Round:
        yield Move("a", {"t": 1.0 * game["a"]})
        yield Move("b", {"t": game["a"] * game["b"]})

    for play, b in ((simultaneous, -0.1), (sequential, 0.1)):
        game = Toy({"a": 0.05, "b": 0.0}, play, batch_size=24)
        train(game)
        assert game.values() == pytest.approx({"a": -0.05, "b": b}, abs=1e-6)


def test_one_backward_for_several_players_gives_each_the_gradient_of_their_own_game() -> None:
    """a minimises ab - 2 (a c)^2, c minimises (a c)^2: behind a reversed gradient one sum does."""

    def apart(game: Toy) -> Round:
        a, b, c = game["a"], game["b"], game["c"]
        hidden = (a * c) ** 2
        yield (
            Move("a", {"kept": a * b, "hidden": -2 * hidden}),
            Move("b", {"kept": a * b}),
            Move("c", {"hidden": hidden}),
        )

    def joint(game: Toy) -> Round:
        a, b, c = game["a"], game["b"], game["c"]
        yield Move(("a", "b", "c"), {"kept": a * b, "hidden": (scale_gradient(a, -2) * c) ** 2})

    start = {"a": 1.0, "b": 0.5, "c": -0.7}
    results = []
    for play in (apart, joint):
        game = Toy(start, play)
        seats = seats_for(game.players)
        for _ in range(5):
            terms = update(seats, next_moves(game))
        results.append(game.values())
    assert results[0] == pytest.approx(results[1], rel=1e-12)
    assert {*terms} == {"a and b and c/kept", "a and b and c/hidden"}


def test_a_cosine_schedule_anneals_the_rate_over_each_stage() -> None:
    """With a constant gradient, Adam's first steps are exactly its learning rates."""
    rate, epochs = 0.1, 4
    seat = Seat(Player(Scalar(0.0), Adam(rate, cosine=True)))
    steady = Seat(Player(Scalar(0.0), Adam(rate)))
    rates = []
    for epoch in range(epochs):
        for one in (seat, steady):
            one.anneal(epoch, epochs)
        rates.append(seat.optimiser.param_groups[0]["lr"])
        assert steady.optimiser.param_groups[0]["lr"] == rate
    wanted = [rate, rate * (1 + math.sqrt(0.5)) / 2, rate / 2, rate * (1 - math.sqrt(0.5)) / 2]
    assert rates == pytest.approx(wanted)


def test_the_loop_anneals_by_epoch() -> None:
    """b's gradient is 1, so each step moves it by the epoch's rate: 2 steps of 2 epochs."""

    class Annealed(Toy):
        @cached_property
        def players(self) -> dict[str, Player]:
            return {"b": Player(self.scalars["b"], Adam(0.1, cosine=True))}

    def play(game: Toy) -> Round:
        yield Move("b", {"all": game["b"]})

    game = Annealed({"b": 0.0}, play, (("only", 2, None),), batch_size=12)
    train(game)
    assert game["b"].item() == pytest.approx(-(2 * 0.1 + 2 * 0.05), rel=1e-5)


def test_a_step_does_not_depend_on_the_memory_layout_of_the_gradient() -> None:
    """Fused Adam on a CPU reads a gradient in its parameter's layout, whatever its own is."""
    stepped = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 4, 3, bias=False)
        x = torch.randn(2, 3, 8, 8).contiguous(memory_format=layout)
        update(seats_for({"a": Player(conv, Adam(0.1))}), [Move("a", {"all": conv(x).sum()})])
        stepped.append(conv.weight.detach().clone())
    torch.testing.assert_close(*stepped)


def test_only_the_mover_moves_even_when_its_loss_reaches_everybody() -> None:
    def leaks(game: Toy) -> Round:
        yield Move("a", {"everything": game["a"] * game["b"] * game["c"]})

    game = Toy({"a": 1.0, "b": 2.0, "c": 3.0}, leaks)
    train(game)
    assert game.values()["a"] < 1.0
    assert game.values()["b"] == 2.0
    assert game.values()["c"] == 3.0


def test_a_gradient_left_over_by_other_code_is_not_used() -> None:
    game = Toy({"a": 1.0, "b": 2.0}, in_turn)
    game["a"].grad = torch.tensor(-1e9, dtype=torch.float64)
    clean = Toy({"a": 1.0, "b": 2.0}, in_turn)
    train(game)
    train(clean)
    assert game.values() == clean.values()


def test_players_who_share_a_parameter_are_refused() -> None:
    shared = nn.Linear(2, 2)
    players = {"left": Player(shared, Adam(0.1)), "right": Player(nn.ModuleList([shared]), Adam(1))}
    with pytest.raises(VeilError, match="'left' and 'right' share a parameter"):
        seats_for(players)


def test_nothing_to_train_gets_no_seat_and_an_empty_move_moves_nobody() -> None:
    """A problem without a useful label has a task player without networks."""

    def play(game: Toy) -> Round:
        yield Move("nobody", {})
        yield Move("a", {"t": 1.0 * game["a"]}), Move("nobody", {})

    frozen = nn.Linear(2, 2).requires_grad_(False)
    game = Toy({"a": 1.0}, play)
    players = {
        **game.players,
        "nobody": Player(nn.ModuleList(), Adam(0.1)),
        "frozen": Player(frozen, Adam(0.1)),
    }
    seats = seats_for(players)
    assert [*seats] == ["a"]
    batch = SPLITS.fit.batch(slice(0, 4))
    for moves in rounds(game.stages()[0], batch, torch.Generator(), "fp32"):
        assert update(seats, moves) == {"a/t": 1.0}


def test_metrics_are_the_means_over_fit_and_select(tmp_path: Path) -> None:
    """A term played twice a round counts as one term, with the mean of both."""

    def play(game: Toy) -> Round:
        brightness = game.batch.x.double().mean()
        yield Move("a", {"brightness": 0 * game["a"] + brightness})
        yield Move("a", {"brightness": 0 * game["a"] + 3 * brightness})

    train(Toy({"a": 0.0}, play, (("first", 2, None), ("second", 1, None))), tmp_path)
    rows = records(tmp_path)
    where = [(r["stage"], r["epoch"], r["split"]) for r in rows]
    epochs = [("first", 0), ("first", 1), ("second", 0)]
    assert where == [(*epoch, split) for epoch in epochs for split in ("fit", "select")]
    for row in rows:
        images = (SPLITS.fit if row["split"] == "fit" else SPLITS.select).images
        expected = 2 * images.astype(float).mean() / 255
        assert row["a/brightness"] == pytest.approx(expected, rel=1e-5)


def test_fit_trains_in_train_mode_and_selects_in_eval_mode_without_gradients() -> None:
    seen: list[tuple[bool, bool, int]] = []

    def play(game: Toy) -> Round:
        seen.append((game.training, torch.is_grad_enabled(), len(game.batch)))
        yield Move("a", {"t": 1.0 * game["a"]})

    game = Toy({"a": 0.0}, play)
    train(game)
    assert seen == [(True, True, 6)] * 4 + [(False, False, 6)] * 2
    assert not game.training


def climbing(game: Toy) -> Round:
    """a goes up by lr = 1 at every step; select likes it best at 3."""
    a = game["a"]
    yield Move("a", {"t": -a if game.training else (a - 3) ** 2})


@pytest.mark.parametrize(
    ("patience", "searching", "after", "ends_at"),
    [(1, 4, 2, 4), (2, 5, 3, 4), (9, 8, 3, 4), (None, 8, 3, 11)],
)
def test_patience_stops_a_stage_and_goes_back_to_the_best_weights(
    tmp_path: Path, patience: int | None, searching: int, after: int, ends_at: int
) -> None:
    """One step an epoch: a = 1, 2, 3, 4, ...; the next stage goes on from 3, with its own best.

    The optimiser persists, so that its step at a constant gradient is still lr.
    """
    stages = (("search", 8, patience), ("after", 3, patience))
    game = Toy({"a": 0.0}, climbing, stages, lr=1.0, batch_size=24)
    train(game, tmp_path)
    played = [r["stage"] for r in records(tmp_path)]
    assert played == ["search"] * 2 * searching + ["after"] * 2 * after
    assert game.values()["a"] == pytest.approx(ends_at, abs=1e-6)


def spoiled(game: Toy) -> Round:
    """The loss is finite, its slope at 0 is not: the step itself spoils the weights."""
    yield Move("a", {"fine": 1.0 * game["a"]})
    yield Move("a", {"root": (0 * game["a"]).sqrt()})


def infinite_in_epoch_2(game: Toy) -> Round:
    yield Move("a", {"fine": 1.0 * game["a"]})
    far = game["a"] < 0.35  # seven steps of 0.1 from 1
    yield Move("b", {"odd": game["b"] * (math.inf if far else 1.0)})


def test_an_infinite_term_is_named_with_its_place(tmp_path: Path) -> None:
    game = Toy({"a": 1.0, "b": 1.0}, infinite_in_epoch_2, (("s", 3, None), ("t", 1, None)))
    with pytest.raises(Diverged) as caught:
        train(game, tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("stage 's'", "epoch 2", "step 2", "'b/odd'", "inf"):
        assert part in message
    assert all(math.isfinite(value) for value in game.values().values())


@pytest.mark.parametrize("batch_size", [6, 24])
def test_weights_that_are_not_finite_never_reach_the_checkpoint(
    tmp_path: Path, batch_size: int
) -> None:
    """With one batch the last step of the training spoils the weights: select must notice."""
    config = FitConfig(device="cpu", precision="fp32", checkpoint_seconds=0)
    game = Toy({"a": 1.0}, spoiled, batch_size=batch_size)
    with pytest.raises(Diverged, match="'a/fine' became nan"):
        fit(game, problem(), SPLITS.fit, SPLITS.select, config, tmp_path)
    assert math.isnan(game.values()["a"])
    tensors, position = load_tensors(tmp_path / CHECKPOINT)
    assert tensors["method/scalars.a.value"].item() == 1.0
    assert position["step"] == 0


def test_diverging_leaves_the_last_checkpoint_as_it_was(tmp_path: Path) -> None:
    """The step that failed was half played: nothing of it may be kept."""
    config = FitConfig(device="cpu", precision="fp32", checkpoint_seconds=0)
    game = Toy({"a": 1.0, "b": 1.0}, infinite_in_epoch_2, (("s", 3, None),))
    with pytest.raises(Diverged):
        fit(game, problem(), SPLITS.fit, SPLITS.select, config, tmp_path)
    tensors, position = load_tensors(tmp_path / CHECKPOINT)
    assert (position["epoch"], position["step"]) == (1, 2)
    assert tensors["method/scalars.a.value"].item() == pytest.approx(0.4)  # six steps, not seven
    assert game.values()["a"] == pytest.approx(0.3)


def test_silence_without_a_console(capfd: pytest.CaptureFixture[str]) -> None:
    train(Toy({"a": 1.0, "b": 1.0}, together))
    assert capfd.readouterr() == ("", "")


def test_the_bar_counts_every_step_and_says_where() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    stages = (("search", 8, 1), ("after", 2, None))
    train(Toy({"a": 0.0}, climbing, stages, lr=1.0, batch_size=24), console=console)
    assert "10/10" in out.getvalue()
    assert "after epoch 2/2" in out.getvalue()


def test_fit_leaves_signals_and_the_global_generator_as_they_were() -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train(Toy({"a": 1.0, "b": 1.0}, together))
    assert torch.equal(torch.rand(2), expected)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_fit_runs_in_a_thread_where_signals_cannot_be_had() -> None:
    here, there = (Toy({"a": 1.0, "b": 1.0}, together) for _ in range(2))
    train(here)
    thread = threading.Thread(target=train, args=(there,))
    thread.start()
    thread.join()
    assert there.values() == here.values() != {"a": 1.0, "b": 1.0}


def test_rows_without_a_label_of_the_problem_are_left_out() -> None:
    fit_set = faces()
    column = fit_set.column("Smiling").copy()
    column[:6] = -1
    labels = {name: fit_set.column(name) for name in fit_set.schema} | {"Smiling": column}
    some = type(fit_set)("some", fit_set.images, labels, fit_set.schema, fit_set.hashes)
    seen: list[torch.Tensor] = []

    def play(game: Toy) -> Round:
        if game.training:
            seen.append(game.batch["Smiling"])
            assert {*game.batch.labels} == {"Male", "Smiling", "identity"}
        yield Move("a", {"t": 1.0 * game["a"]})

    fit(Toy({"a": 1.0}, play), problem(), some, SPLITS.select, CONFIG)
    assert sum(map(len, seen)) == 18
    assert int(torch.cat(seen).min()) == 0


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_precision_reaches_every_move_of_a_round(precision: str, dtype: torch.dtype) -> None:
    seen: list[torch.dtype] = []

    def play(game: Toy) -> Round:
        for _ in range(2):
            weight = game["a"].float().expand(2, 3, 1, 1)
            y = nn.functional.conv2d(game.batch.x, weight)
            seen.append(y.dtype)
            yield Move("a", {"t": y.float().mean()})

    config = FitConfig.model_validate({"device": "cpu", "precision": precision})
    fit(Toy({"a": 1.0}, play, batch_size=24), problem(), SPLITS.fit, SPLITS.select, config)
    assert seen == [dtype] * 4
    assert not torch.is_autocast_enabled("cpu")


def test_the_noise_of_a_round_depends_on_seed_and_place_only() -> None:
    def drawn(seed: int) -> list[float]:
        seen: list[float] = []

        def play(game: Toy) -> Round:
            if game.training:
                seen.append(torch.rand((), generator=game.rng).item())
                seen.append(torch.rand(()).item())  # what dropout draws
            yield Move("a", {"t": 1.0 * game["a"]})

        config = FitConfig(device="cpu", precision="fp32", seed=seed)
        game = Toy({"a": 1.0}, play, (("s", 2, None), ("t", 2, None)))
        fit(game, problem(), SPLITS.fit, SPLITS.select, config)
        return seen

    first = drawn(0)
    assert len({*first}) == len(first) == 2 * 16
    assert drawn(0) == first
    assert not {*drawn(1)} & {*first}


def test_an_absent_gpu_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(VeilError, match="finds no GPU"):
        FitConfig(device="cuda").torch_device()
    assert FitConfig().torch_device() == torch.device("cpu")
