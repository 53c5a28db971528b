"""fit(): the only training loop. Interrupted and resumed, it ends with the same bits."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from torch import Tensor

from veil import checkpoint
from veil.data.dataset import Dataset, Rows
from veil.data.sampling import divided_batches, image_batches, pair_batches
from veil.errors import Diverged, VeilError
from veil.game import channels_last, rounds, seats_for, seed_dropout, update, values_of
from veil.method import Method, MethodConfig, Problem, Stage
from veil.precision import Precision
from veil.progress import Advance, bar
from veil.seeds import generator, seed_for

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"


class FitConfig(MethodConfig):
    """How to train, whatever the method.

    Attributes:
        seed: of the run; everything random is derived from it by purpose.
        device: "auto" takes a GPU when there is one.
        precision: "auto" computes in bf16 where the processor is faster at it.
        checkpoint_seconds: wall time between two checkpoints.
    """

    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "auto"
    checkpoint_seconds: float = 60.0

    def torch_device(self) -> torch.device:
        """The device meant by `device`.

        Raises:
            VeilError: a GPU is asked for and torch finds none.
        """
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise VeilError("fit.device = 'cuda', but torch finds no GPU: use 'auto' or 'cpu'")
        return torch.device(self.device)


Tally = dict[str, tuple[float, int]]
"""A term's name -> (sum of its values, how many); a round may play one term several times."""


@dataclass
class Position:
    """Where a training run stands; with the weights it is all that a resumed run needs.

    Attributes:
        stage, epoch, step: the next round to play.
        tally: the terms of the epoch so far.
        best, waited: the lowest `select` total of the stage, and epochs since.
        metrics_bytes: length of metrics.jsonl up to here.
        threads: CPU threads; another number could change the last bits of a sum.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    tally: Tally = field(default_factory=dict)
    best: float | None = None
    waited: int = 0
    metrics_bytes: int = 0
    threads: int = field(default_factory=torch.get_num_threads)


def count(tally: Tally, terms: Mapping[str, float]) -> None:
    """Add one value of each term to the tally."""
    for name, value in terms.items():
        total, times = tally.get(name, (0.0, 0))
        tally[name] = (total + value, times + 1)


def means(tally: Tally) -> dict[str, float]:
    """The mean value of each term."""
    return {name: total / times for name, (total, times) in tally.items()}


def batches(stage: Stage, dataset: Dataset, seed: int, division: int = 0) -> list[Rows]:
    """The positions of every batch of one epoch, as the stage wants them sampled.

    Args:
        stage: says how.
        dataset: what is sampled.
        seed: of this epoch's order.
        division: seed that decides, the same in every epoch, who is public.
    """
    if stage.sampling == "pairs":
        return pair_batches(dataset, stage.batch_size, seed)
    if stage.sampling == "own and public":
        return divided_batches(dataset, stage.batch_size, stage.public_share, seed, division)
    return image_batches(len(dataset), stage.batch_size, seed)


@contextmanager
def stop_requested() -> Iterator[threading.Event]:
    """An event set by the first Ctrl-C or SIGTERM; the second one interrupts at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(*_: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Training:
    """One run of `fit`: the method, its seats, and where it stands."""

    def __init__(
        self,
        method: Method,
        problem: Problem,
        fit_set: Dataset,
        select_set: Dataset,
        config: FitConfig,
        run: Path | None,
    ) -> None:
        self.device = config.torch_device()
        self.method = method.to(self.device)
        channels_last(self.method)
        self.labels = tuple({n: None for n in (*problem.names, "identity") if n in fit_set.schema})
        self.fit_set = fit_set.having(problem.names)
        self.select_set = select_set.having(problem.names)
        self.config = config
        self.run = run
        self.seats = seats_for(method.players)
        self.at = Position()
        self.best_weights: dict[str, Tensor] = {}
        self.saved_at = time.monotonic()

    def save(self) -> None:
        """Write a checkpoint, unless the weights are no longer finite."""
        self.saved_at = time.monotonic()
        if self.run is None or not checkpoint.is_finite(self.method):
            return
        tensors = checkpoint.with_prefix("method", self.method.state_dict())
        tensors |= checkpoint.with_prefix("best", self.best_weights)
        for name, seat in self.seats.items():
            state = checkpoint.optimiser_tensors(seat.optimiser)
            tensors |= checkpoint.with_prefix(f"optimiser/{name}", state)
        checkpoint.save_tensors(self.run / CHECKPOINT, tensors, asdict(self.at))

    def resume(self) -> None:
        """Take up the last checkpoint of the run folder, if it has one."""
        if self.run is None:
            return
        for half_written in self.run.glob(f".{CHECKPOINT}.*.part"):
            half_written.unlink()  # a kill in the middle of a save
        if not (self.run / CHECKPOINT).exists():
            return
        tensors, header = checkpoint.load_tensors(self.run / CHECKPOINT)
        self.at = Position(**header)
        torch.set_num_threads(self.at.threads)
        self.method.load_state_dict(checkpoint.under_prefix("method", tensors))
        self.best_weights = checkpoint.under_prefix("best", tensors)
        for name, seat in self.seats.items():
            state = checkpoint.under_prefix(f"optimiser/{name}", tensors)
            checkpoint.restore_optimiser(seat.optimiser, state)
        metrics = self.run / METRICS
        if metrics.exists():
            os.truncate(metrics, self.at.metrics_bytes)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        if self.run is None:
            return
        with (self.run / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            self.at.metrics_bytes = file.tell()

    def play_epoch(self, stage: Stage, advance: Advance, asked: threading.Event) -> None:
        """The rounds of the current epoch that are still to be played."""
        seed, at = self.config.seed, self.at
        order = seed_for(seed, "order", stage.name, at.epoch)
        orders = batches(stage, self.fit_set, order, seed_for(seed, "public"))
        for seat in self.seats.values():
            seat.anneal(at.epoch, stage.epochs)
        self.method.train()
        for step in range(at.step, len(orders)):
            batch = self.fit_set.batch(orders[step], self.labels).to(self.device)
            purpose = ("round", stage.name, at.epoch, step)
            seed_dropout(self.device, seed_for(seed, "dropout", *purpose))
            rng = generator(seed, *purpose, device=self.device)
            for moves in rounds(stage, batch, rng, self.config.precision):
                count(at.tally, update(self.seats, moves))
            at.step = step + 1
            advance(1, f"{stage.name} epoch {at.epoch + 1}/{stage.epochs}")
            if asked.is_set():
                self.save()
                raise KeyboardInterrupt
            if time.monotonic() - self.saved_at > self.config.checkpoint_seconds:
                self.save()

    def select_terms(self, stage: Stage) -> dict[str, float]:
        """The mean of every term over `select`, in eval mode, nobody moving.

        Raises:
            Diverged: a term is not finite: the epoch's last step spoiled the weights.
        """
        seed = seed_for(self.config.seed, "select", stage.name)
        orders = batches(stage, self.select_set, seed)
        tally: Tally = {}
        self.method.eval()
        with torch.no_grad():
            for step, rows in enumerate(orders):
                batch = self.select_set.batch(rows, self.labels).to(self.device)
                rng = generator(seed, step, device=self.device)
                for moves in rounds(stage, batch, rng, self.config.precision):
                    count(tally, values_of(moves))
        return means(tally)

    def end_epoch(self, stage: Stage) -> bool:
        """Log the epoch, remember the best weights; True when the stage has stopped improving."""
        at = self.at
        where = {"stage": stage.name, "epoch": at.epoch}
        selected = self.select_terms(stage)
        self.log({**where, "split": "fit", **means(at.tally)})
        self.log({**where, "split": "select", **selected})
        at.epoch, at.step, at.tally = at.epoch + 1, 0, {}
        if stage.patience is None:
            return False
        total = sum(selected.values())
        if at.best is None or total < at.best:
            at.best, at.waited = total, 0
            state = self.method.state_dict()
            self.best_weights = {name: tensor.clone() for name, tensor in state.items()}
        else:
            at.waited += 1
        return at.waited >= stage.patience

    def end_stage(self) -> None:
        """Go back to the best weights where the stage selects them, and on to the next stage."""
        if self.best_weights:
            self.method.load_state_dict(self.best_weights)
        self.best_weights = {}
        at = self.at
        at.stage, at.epoch, at.best, at.waited = at.stage + 1, 0, None, 0


def fit(
    method: Method,
    problem: Problem,
    fit_set: Dataset,
    select_set: Dataset,
    config: FitConfig,
    run: Path | None = None,
    console: Console | None = None,
) -> None:
    """Train `method` in place, through all its stages.

    With a run folder, `metrics.jsonl` gets the mean of every term per epoch, on fit and select,
    and `checkpoint.safetensors` the state; a run that finds a checkpoint there goes on from it
    and ends with the same bits as one that was never interrupted (same machine and versions).

    Args:
        method: what to train; moved to the device.
        problem: what is private and what is useful.
        fit_set: the defender's own people.
        select_set: other people, for early stopping.
        config: seed, device, precision, checkpoints.
        run: an existing folder, or None to keep nothing.
        console: where the progress bar goes; None for silence.

    Raises:
        Diverged: a term became infinite or NaN; the checkpoint holds the last good state saved.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after a checkpoint was written.
    """
    training = Training(method, problem, fit_set, select_set, config, run)
    training.resume()
    at = training.at
    stages = method.stages()
    lengths = [len(batches(stage, training.fit_set, 0)) for stage in stages]
    for stage in stages:
        batches(stage, training.select_set, 0)  # what cannot be sampled is refused before training
    total = sum(n * stage.epochs for n, stage in zip(lengths, stages, strict=True))
    done = sum(n * stage.epochs for n, stage in zip(lengths[: at.stage], stages, strict=False))
    if at.stage < len(stages):
        done += at.epoch * lengths[at.stage] + at.step
    with (
        torch.random.fork_rng([training.device] if training.device.type == "cuda" else []),
        stop_requested() as asked,
        bar(console, "training", total, done) as advance,
    ):
        training.save()
        for index in range(at.stage, len(stages)):
            stage = stages[index]
            while at.epoch < stage.epochs:
                try:
                    training.play_epoch(stage, advance, asked)
                    stopped = training.end_epoch(stage)
                except Diverged as error:
                    where = f"stage '{stage.name}', epoch {at.epoch + 1}, after step {at.step}"
                    raise Diverged(f"{where}: {error}") from None
                if stopped:
                    advance((stage.epochs - at.epoch) * lengths[index], "stopped early")
                    break
            training.end_stage()
            training.save()
    method.eval()
