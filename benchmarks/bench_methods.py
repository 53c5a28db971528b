"""What a training step of each method costs over the bare loop that its paper describes.

    OMP_NUM_THREADS=1 python benchmarks/bench_methods.py [--method NAME] [--precision fp32]
        [--steps 2] [--repeats 7] [--size 64]

`bare_loops` holds the bare rounds, one a paper. A method plays the stage that its paper is about,
at the paper's size of networks and with small batches, in fit()'s own loop; the bare loop is given
its pictures decoded and its random generators made. Both start from the same weights and must have
moved them alike. They alternate in one process; a figure is the ratio of the medians, in CPU and in
wall time. On a busy machine trust the last column: the fastest step over the fastest bare step.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import bare_loops
from bare_loops import PRIVATE, USEFUL, BareRound
from veil.data.dataset import BINARY, PICTURE, RECONSTRUCTION, Dataset
from veil.game import seed_dropout
from veil.method import Method, Problem, Stage
from veil.methods import method_named
from veil.precision import Precision, autocast
from veil.seeds import generator, seed_for
from veil.train import FitConfig, Training, batches, stop_requested

SEED = 0
TARGET = 1.05
NO_ANNEALING = 10**9  # epochs of the stage
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
# Share of a player's way. Biases before a batch norm have no gradient but rounding errors, which
# Adam magnifies.
TOLERANCE = 0.1


@dataclass(frozen=True)
class Case:
    """A method, the bare round that it is held against, and what to play.

    Attributes:
        bare: the bare round.
        batch_size: pictures of a round.
        method: its name; stage: the index of the stage that is played.
        private: what it hides; settings: other than the paper's; size: of the pictures.
    """

    bare: BareRound
    batch_size: int
    method: str
    stage: int = 0
    private: str = PRIVATE
    settings: Mapping[str, Any] = field(default_factory=dict)
    size: int | None = None


# Entropy, as the capped term has no gradient while the adversary guesses at random.
AIA = {"privacy": "entropy"}
TINY_AIA = AIA | {
    "encoder_channels": (2, 2),
    "decoder_channels": (2, 2),
    "siamese_channels": (2, 2, 2),
    "siamese_hidden": 8,
    "adversary_hidden": 8,
}
CASES = {
    "aia": Case(bare_loops.aia, 16, "aia", stage=1, settings=AIA),
    "answer-only": Case(bare_loops.answer_only, 32, "answer-only"),
    "deepobfuscator": Case(bare_loops.deepobfuscator, 20, "deepobfuscator", stage=2),
    "disco": Case(bare_loops.disco, 32, "disco"),
    "maxent": Case(bare_loops.maxent, 32, "maxent"),
    "narl": Case(bare_loops.narl, 32, "narl"),
    "pcgan": Case(bare_loops.pcgan, 8, "pcgan"),
    "stargan": Case(bare_loops.stargan, 5, "stargan"),
    "task-oriented": Case(
        bare_loops.task_oriented, 32, "task-oriented", stage=2, private=RECONSTRUCTION
    ),
    # Next to no arithmetic: what the loop itself costs.
    "tiny aia": Case(bare_loops.aia, 64, "aia", stage=1, settings=TINY_AIA, size=16),
}


def noise_faces(count: int, size: int) -> Dataset:
    """Pictures and two labels at random: only their shapes matter here."""
    rng = np.random.default_rng(SEED)
    pixels = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    labels = {name: rng.integers(0, 2, count) for name in (PRIVATE, USEFUL)}
    hashes = np.arange(count, dtype=np.uint64)
    return Dataset("noise", pixels, labels, dict.fromkeys(labels, BINARY), hashes)


def by_hand(
    case: Case, training: Training, twin: Method, stage: Stage, precision: Precision
) -> Callable[[int], Callable[[], None]]:
    """The bare loop on the twin of a method: epoch -> its rounds, ready to be played."""
    recipes = {name: seat.recipe for name, seat in training.seats.items()}
    adams = {
        name: torch.optim.Adam(
            twin.players[name].module.parameters(),
            lr=recipe.lr,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        for name, recipe in recipes.items()
    }
    cast = partial(autocast, training.device, precision)

    def prepared(epoch: int) -> Callable[[], None]:
        order = seed_for(SEED, "order", stage.name, epoch)
        orders = batches(stage, training.fit_set, order, seed_for(SEED, "public"))
        data = [training.fit_set.batch(rows) for rows in orders]
        purposes = [("round", stage.name, epoch, step) for step in range(len(orders))]
        rngs = [generator(SEED, *purpose) for purpose in purposes]
        dropouts = [seed_for(SEED, "dropout", *purpose) for purpose in purposes]

        def play() -> None:
            twin.train()
            for batch, rng, dropout in zip(data, rngs, dropouts, strict=True):
                seed_dropout(training.device, dropout)
                case.bare(twin, adams, batch, rng, cast)

        return play

    return prepared


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def places(method: Method) -> dict[str, Tensor]:
    """Where every player stands: all its parameters in a row."""
    return {
        name: torch.cat([p.detach().flatten() for p in player.module.parameters()])
        for name, player in method.players.items()
    }


def compare(
    name: str, case: Case, size: int, precision: Precision, steps: int, repeats: int
) -> None:
    """Prints what the method's step costs over the bare one."""
    data = noise_faces(case.batch_size * steps, case.size or size)
    labels = {PRIVATE: BINARY, USEFUL: BINARY, RECONSTRUCTION: PICTURE}
    problem = Problem((case.private,), (USEFUL,), labels, data.image_shape)
    torch.manual_seed(SEED)
    cls = method_named(case.method)
    method = cls(cls.Config(**case.settings), problem)
    config = FitConfig(seed=SEED, device="cpu", precision=precision, checkpoint_seconds=1e9)
    training = Training(method, problem, data, data, config, None)
    twin, start = copy.deepcopy(method), places(method)
    stage = replace(
        method.stages()[case.stage],
        epochs=NO_ANNEALING,
        batch_size=case.batch_size,
        public_share=0.5,
    )
    prepared = by_hand(case, training, twin, stage, precision)

    def loop() -> None:
        with stop_requested() as asked:
            training.play_epoch(stage, lambda _steps, _text: None, asked)

    ours, bare = [], []
    for epoch in range(repeats + 1):
        training.at.epoch, training.at.step = epoch, 0
        runs = [loop, prepared(epoch)]
        if epoch % 2:
            bare_time, our_time = timed(runs[1]), timed(runs[0])
        else:
            our_time, bare_time = timed(runs[0]), timed(runs[1])
        if epoch:
            ours.append(our_time)
            bare.append(bare_time)
            continue
        # The first pass warms up both. Rounding errors grow from step to step: compare now.
        ends = (places(method), places(twin))
        apart = {
            n: float((ends[0][n] - ends[1][n]).norm() / (ends[0][n] - v).norm())
            for n, v in start.items()
        }
        player = max(apart, key=lambda name: apart[name])
        if not apart[player] < TOLERANCE:
            raise SystemExit(
                f"{name}: '{player}' moved differently, by {apart[player]:.2g} of its way"
            )
    cpu, wall = (
        statistics.median(t[i] for t in ours) / statistics.median(t[i] for t in bare)
        for i in range(2)
    )
    best = min(bare)[0]
    print(
        f"{name + ', ' + precision:<22} {1000 * best / steps:9.2f} ms a bare step   "
        f"medians: CPU {cpu:.3f} wall {wall:.3f}   fastest: CPU {min(ours)[0] / best:.3f}   "
        f"apart {max(apart.values()):.1e}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--method", choices=CASES, help="one only")
    parser.add_argument("--precision", choices=PRECISIONS, help="one only")
    parser.add_argument("--steps", type=int, default=2, help="rounds in a repeat")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--size", type=int, default=64, help="side of the pictures in pixels")
    asked = parser.parse_args()
    print(f"{torch.get_num_threads()} thread(s), step / bare step, target {TARGET} in fp32")
    for name in [asked.method] if asked.method else CASES:
        for precision in [asked.precision] if asked.precision else PRECISIONS:
            compare(name, CASES[name], asked.size, precision, asked.steps, asked.repeats)


if __name__ == "__main__":
    main()
