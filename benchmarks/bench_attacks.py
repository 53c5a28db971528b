"""What each attacker of a suite finds, and how long it takes.

    python benchmarks/bench_attacks.py [--suite standard] [--shape 12 16 16]
        [--rows 6600 2000 3000] [--seeds 3] [--released FILE.npz] [--only mlp]

Without `--released` the release is noise in which the label turns stripes from down to across,
scales one channel and shifts every feature a little; the useful label agrees with it four times in
five. FILE is a release in the audit's format with its three splits (docs/audit.md). Scores are
balanced accuracies, averaged over the seeds; the attacker best on "select" is named at the end.

Then the perceptrons three times, for what training side by side saves: every learning rate, decay
and seed trained alone to its end; one seed after another, its networks side by side and halved;
all seeds side by side. The score is that of the best network on "select", once for each seed.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

from veil.attacks.attack import Attack, AttackSplit, Floats, Guess, Ints, Knowledge
from veil.attacks.decisions import balanced_log_loss
from veil.attacks.mlp import Mlp
from veil.attacks.suites import SUITES, suite_named
from veil.attacks.training import run_seeds

SPLITS: tuple[AttackSplit, ...] = ("attack", "select", "test")


def synthetic(shape: tuple[int, ...], rows: tuple[int, ...]) -> tuple[Knowledge, Ints]:
    """A release with a linear, a second-order and (of a map) a spatial leak; and test's labels."""
    rng = torch.Generator().manual_seed(0)
    direction = torch.randn(shape, generator=rng)
    direction *= 0.5 / direction.norm()
    z: dict[AttackSplit, torch.Tensor] = {}
    s: dict[AttackSplit, Ints] = {}
    y: dict[AttackSplit, Ints] = {}
    for split, n in zip(SPLITS, rows, strict=True):
        label = torch.randint(2, (n,), generator=rng)
        flipped = torch.rand(n, generator=rng) < 0.2
        one = label.view(-1, *[1] * len(shape)).float()
        z[split] = torch.randn(n, *shape, generator=rng) + (2 * one - 1) * direction
        z[split][:, 0] *= 1 + 0.02 * one[:, 0]
        if len(shape) == 3:
            phase = torch.randint(4, (n, 1), generator=rng)
            down, across = (
                (torch.pi / 2 * (torch.arange(side) + phase)).cos() for side in shape[1:]
            )
            stripes = torch.where(one[:, 0] == 1, down[:, :, None], across[:, None, :])
            z[split][:, -1] += 0.15 * stripes
        s[split] = label.numpy()
        y[split] = torch.where(flipped, 1 - label, label).numpy()
    known = Knowledge("s", 2, z, {"attack": s["attack"], "select": s["select"]}, y, 2)
    return known, s["test"]


def released(path: Path) -> tuple[Knowledge, Ints]:
    """A release from a file; draws are averaged."""
    with np.load(path, allow_pickle=False) as arrays:
        values = arrays["z"] if "z" in arrays else arrays["z_draws"].mean(1)
        split, s = arrays["split"], arrays["s"]
        y = arrays.get("y")
    where = {name: split == code for code, name in enumerate(SPLITS)}
    known = Knowledge(
        "s",
        int(s.max()) + 1,
        {name: torch.from_numpy(values[rows].astype(np.float32)) for name, rows in where.items()},
        {"attack": s[where["attack"]], "select": s[where["select"]]},
        None if y is None else {name: y[rows] for name, rows in where.items()},
        0 if y is None else int(y.max()) + 1,
    )
    return known, s[where["test"]]


def balanced_accuracy(log_probability: Floats, s: Ints) -> float:
    said = log_probability.argmax(1)
    return float(np.mean([(said[s == k] == k).mean() for k in np.unique(s)]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Scores and times of a suite's attackers.")
    parser.add_argument("--suite", default="standard", choices=sorted(SUITES))
    parser.add_argument("--shape", type=int, nargs="+", default=[12, 16, 16])
    parser.add_argument("--rows", type=int, nargs=3, default=[6600, 2000, 3000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--released", type=Path)
    parser.add_argument("--only", help="one family of attackers")
    arguments = parser.parse_args()
    if arguments.released:
        known, truth = released(arguments.released)
    else:
        known, truth = synthetic(tuple(arguments.shape), tuple(arguments.rows))

    attacks = [
        attack
        for attack in suite_named(arguments.suite).attribute
        if arguments.only in (None, attack.family)
    ]
    one_by_one(attacks, known, truth, range(arguments.seeds))
    networks = [attack for attack in attacks if isinstance(attack, Mlp)]
    side_by_side(networks, known, truth, range(arguments.seeds))


def one_by_one(
    attacks: Sequence[Attack], known: Knowledge, truth: Ints, seeds: Sequence[int]
) -> None:
    """What each finds, and how long it takes."""
    print(f"{'attacker':44}{'train':>7}{'select':>8}{'test':>7}{'wall s':>9}{'cpu s':>8}")
    best, best_line, wall_total = -math.inf, "", time.perf_counter()
    for attack in attacks:
        reason = attack.unfit_for(known)
        if reason is not None:
            print(f"{attack.name:44}{reason}")
            continue
        chosen = seeds if attack.seeded else seeds[:1]
        runs, wall, cpu = timed(partial(run_seeds, attack, known, chosen))
        train, select, test = (
            float(np.mean([balanced_accuracy(getattr(run, split), labels) for run in runs]))
            for split, labels in zip(SPLITS, (*known.s.values(), truth), strict=True)
        )
        line = f"{attack.name:44}{train:7.3f}{select:8.3f}{test:7.3f}{wall:9.1f}{cpu:8.1f}"
        print(line, flush=True)
        if select > best:
            best, best_line = select, line
    print(f"\nbest on select:\n{best_line}")
    print(f"whole suite: {time.perf_counter() - wall_total:.0f} s")


def side_by_side(
    attacks: Sequence[Mlp], known: Knowledge, truth: Ints, seeds: Sequence[int]
) -> None:
    """Seconds of CPU of each way to train the same networks, and what it finds on test."""
    ways = ("each alone", "seed by seed", "side by side")
    print(f"\n{'networks x seeds':44}" + "".join(f"{way:>21}" for way in ways) + f"{'faster':>8}")
    for attack in attacks:
        columns, seconds = [], []
        for way in (each_alone, seed_by_seed, Mlp.run_seeds):
            guesses, _, cpu = timed(partial(way, attack, known, seeds))
            found = np.mean([balanced_accuracy(guess.test, truth) for guess in guesses])
            columns.append(f"{f'{cpu:.2f} s ({found:.3f})':>21}")
            seconds.append(cpu)
        networks = len(attack.learning_rates) * len(attack.weight_decays)
        what = f"{attack.name}, {networks} x {len(seeds)}"
        print(f"{what:44}{''.join(columns)}{seconds[0] / seconds[-1]:7.1f}x", flush=True)


def each_alone(attack: Mlp, known: Knowledge, seeds: Sequence[int]) -> list[Guess]:
    """Every network by itself and to its end; the best of each seed."""
    alone = [
        replace(attack, learning_rates=(rate,), weight_decays=(decay,), halving=False)
        for rate, decay in product(attack.learning_rates, attack.weight_decays)
    ]
    return [best_of([one.run(known, seed) for one in alone], known) for seed in seeds]


def seed_by_seed(attack: Mlp, known: Knowledge, seeds: Sequence[int]) -> list[Guess]:
    return [attack.run(known, seed) for seed in seeds]


def best_of(guesses: Sequence[Guess], known: Knowledge) -> Guess:
    """The guess of least log-loss on "select", by which a grid is chosen from."""
    s = torch.from_numpy(known.s["select"])
    losses = [float(balanced_log_loss(torch.from_numpy(g.select), s)[0]) for g in guesses]
    return guesses[int(np.argmin(losses))]


def timed(work: Callable[[], list[Guess]]) -> tuple[list[Guess], float, float]:
    """What comes of it, and the seconds of wall and CPU time that it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
