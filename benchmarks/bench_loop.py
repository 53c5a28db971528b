"""What fit()'s loop costs over the bare forward, backward and step of the same networks.

    OMP_NUM_THREADS=1 python benchmarks/bench_loop.py [--steps 10] [--repeats 9] [--size 64]

The bare loop is written by hand with `.backward()`, one backward for the simultaneous moves of
the task and the auto-encoder, images decoded beforehand, and nothing checked, logged or seeded.
The loop takes each mover's gradient by itself, which for tiny networks is most of what it costs.
Both end with the same weights, which the benchmark verifies. They alternate in one process; the
figure is the median of the ratios of neighbours, in CPU time and in wall time; on a busy machine
trust the last column, the fastest loop over the fastest bare loop.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from veil.data.batch import Batch
from veil.data.dataset import BINARY, Dataset
from veil.method import Problem, Stage
from veil.methods.aia import AIA, AIAConfig, privacy_term
from veil.precision import Precision, autocast
from veil.seeds import seed_for
from veil.train import FitConfig, Training, batches, stop_requested

BATCH = 64
SEED = 0
TARGET = 1.05


def noise_faces(count: int, size: int) -> Dataset:
    """Pictures and two labels at random: only their shapes matter here."""
    rng = np.random.default_rng(SEED)
    pixels = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    labels = {name: rng.integers(0, 2, count) for name in ("Male", "Smiling")}
    hashes = np.arange(count, dtype=np.uint64)
    return Dataset("noise", pixels, labels, dict.fromkeys(labels, BINARY), hashes)


def bare_epoch(
    method: AIA,
    optimisers: dict[str, torch.optim.Adam],
    data: list[Batch],
    precision: Precision,
) -> None:
    """Stage 2 of AIA as one would write it for this method alone."""
    method.train()
    alpha, beta = method.config.alpha, method.config.beta
    adversary, task = method.adversaries[0], method.tasks[0]
    loss = torch.nn.functional.cross_entropy
    for batch in data:
        s, y = batch["Male"], batch["Smiling"]
        with autocast(batch.x.device, precision):
            g = method.obfuscator.encode(batch.x)
            adversary_loss = loss(adversary(g.detach()).float(), s)
        optimisers["adversary"].zero_grad()
        adversary_loss.backward()  # type: ignore[no-untyped-call]
        optimisers["adversary"].step()
        with autocast(batch.x.device, precision):
            utility = loss(task(g).float(), y)
            privacy = privacy_term(adversary(g).float(), s, method.config.privacy)
            total: Tensor = method.reconstruction_loss(g, batch) + alpha * utility + beta * privacy
        for name in ("autoencoder", "task"):
            optimisers[name].zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        for parameter in task.parameters():
            assert parameter.grad is not None
            parameter.grad /= alpha  # the task itself minimises its loss unweighted
        optimisers["autoencoder"].step()
        optimisers["task"].step()


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def compare(
    name: str, config: AIAConfig, size: int, precision: Precision, steps: int, repeats: int
) -> None:
    """Prints what the loop costs, as the median ratio in CPU and in wall time."""
    data = noise_faces(BATCH * steps, size)
    labels = dict.fromkeys(("Male", "Smiling"), BINARY)
    problem = Problem(("Male",), ("Smiling",), labels, data.image_shape)
    torch.manual_seed(SEED)
    ours = AIA(config, problem)
    fit_config = FitConfig(seed=SEED, device="cpu", precision=precision, checkpoint_seconds=1e9)
    training = Training(ours, problem, data, data, fit_config, None)
    by_hand = copy.deepcopy(ours)
    optimisers = {
        player: torch.optim.Adam(seat.module.parameters(), lr=config.lr, fused=True)
        for player, seat in by_hand.players.items()
    }
    stage = replace(ours.stages()[1], epochs=repeats + 1)

    def loop() -> None:
        with stop_requested() as asked:
            training.play_epoch(stage, lambda _steps, _text: None, asked)

    cpu, wall, best_loop, best_bare = [], [], math.inf, math.inf
    for epoch in range(repeats + 1):
        decoded = decoded_batches(stage, data, epoch)
        training.at.epoch, training.at.step = epoch, 0
        runs: list[Callable[[], None]] = [
            loop,
            lambda decoded=decoded: bare_epoch(by_hand, optimisers, decoded, precision),  # type: ignore[misc]
        ]
        swap = epoch % 2
        first, second = timed(runs[swap]), timed(runs[1 - swap])
        loop_time, bare_time = (second, first) if swap else (first, second)
        if epoch == 0:  # warms up both
            continue
        cpu.append(loop_time[0] / bare_time[0])
        wall.append(loop_time[1] / bare_time[1])
        best_loop, best_bare = min(best_loop, loop_time[0]), min(best_bare, bare_time[0])
    pairs = zip(ours.parameters(), by_hand.parameters(), strict=True)
    apart = max(float((a - b).detach().abs().max()) for a, b in pairs)
    if apart > (0.02 if precision == "bf16" else 1e-3):
        raise SystemExit(f"{name}: the two loops computed different things (apart by {apart:.2g})")
    print(
        f"{name:<26} {1000 * best_bare / steps:8.2f} ms a step   loop / bare: "
        f"CPU {statistics.median(cpu):.3f} [{min(cpu):.3f}, {max(cpu):.3f}]   "
        f"wall {statistics.median(wall):.3f}   best CPU {best_loop / best_bare:.3f}"
    )


def decoded_batches(stage: Stage, data: Dataset, epoch: int) -> list[Batch]:
    """The images of the epoch that fit() is about to play."""
    orders = batches(stage, data, seed_for(SEED, "order", stage.name, epoch))
    return [data.batch(order) for order in orders]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=10, help="rounds in a repeat")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    asked = parser.parse_args()
    aia = AIAConfig(decoder_channels=(64, 32), batch_size=BATCH, privacy="entropy")
    tiny = AIAConfig(
        encoder_channels=(2, 2),
        decoder_channels=(2, 2),
        siamese_channels=(2, 2, 2),
        siamese_hidden=8,
        adversary_hidden=8,
        batch_size=BATCH,
        privacy="entropy",
    )
    print(f"{torch.get_num_threads()} thread(s), batches of {BATCH}, target {TARGET}")
    for precision in ("fp32", "bf16"):
        compare(
            f"AIA {asked.size} px, {precision}",
            aia,
            asked.size,
            precision,
            asked.steps,
            asked.repeats,
        )
    compare("tiny networks 16 px, fp32", tiny, 16, "fp32", 10 * asked.steps, asked.repeats)


if __name__ == "__main__":
    main()
