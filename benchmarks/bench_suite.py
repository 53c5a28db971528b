"""The audit's search beside the exhaustive run: how much sooner it ends, and what it misses.

    OMP_NUM_THREADS=2 python benchmarks/bench_suite.py [--kind linear --kind maps] [--suite full]
        [--rows 8000] [--map-rows 4000] [--seeds 2] [--threads 2] [--repeats 1] [--impatient]
        [--no-audits]

In under a minute on two idle cores: `--kind threshold --rows 5200 --suite standard --no-audits`.

Releases are made up, so that it is known how often the best attacker can be right. They are
divided 60 : 15 : 25 into attack, select and test as a released file is. On each, the search (the
suite with its plan, `attacks.search.search`) runs beside the yardstick: every attacker of the
suite in full with every seed, one run after another, and of a perceptron every learning rate and
decay as a network of its own, trained alone and to its end: without halving, and without stopping
where "select" has long brought nothing, unless `--impatient` grants it that (the convolutional
networks stop so on both sides). Either side gets a fresh copy of the release (what one has prepared
of it the other must prepare too), the same seeds and threads.

The worst case of either is its best run on "select", scored on "test". The yardstick chooses from
several times as many runs and so from more luck: where nothing leaks its score on "select" is the
higher for that alone, while "test" is free of it. The interval beside the difference on "test" is
that of paired rows.

Then the time of whole audits of a linear leak. Trees use as many threads as OMP_NUM_THREADS says.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import product
from statistics import median
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from veil.attacks import mlp
from veil.attacks.attack import Attack, Guess
from veil.attacks.mlp import Mlp
from veil.attacks.search import STEPS, Candidate, Trial, search
from veil.attacks.suites import Suite, suite_named
from veil.audit import audit
from veil.data.dataset import BINARY
from veil.evidence import ATTACK_SPLITS, Evidence
from veil.progress import bar
from veil.released_file import SHARES
from veil.scoring import balanced
from veil.seeds import seed_for
from veil.targets import Target

Array = NDArray[Any]
FEATURES = 128
MAP = (12, 8, 8)
FASTER, LESS = 5.0, 0.01  # wanted of the search: times as fast at least, score less at most
WITHIN = {"quick": 20, "full": 240}  # seconds, wanted of whole audits


class Kind(StrEnum):
    """What leaks, and how."""

    LINEAR = "linear"
    PRODUCT = "product"
    THRESHOLD = "threshold"
    MAPS = "maps"
    NOTHING = "nothing"


WRONG = {Kind.LINEAR: 0.25, Kind.PRODUCT: 0.1, Kind.THRESHOLD: 0.2, Kind.NOTHING: 0.5}


def made_up(kind: Kind, rows: int, seed: int = 0) -> Evidence:
    """A release with one leak of a coin "s", or with none.

    "linear" is the side of a plane, "product" the sign of a product of two features, "threshold"
    whether one feature lies between its quartiles; in `WRONG` of the rows the label is the
    opposite. "maps" are noise with faint stripes in one channel, down or across as the label says,
    wherever they begin.
    """
    rng = np.random.default_rng(seed_for(seed, "made up", kind))
    if kind is Kind.MAPS:
        s = rng.integers(2, size=rows)
        z = rng.standard_normal((rows, *MAP), dtype=np.float32)
        z[:, -1] += 0.3 * _stripes(s, rng)
    else:
        z = rng.standard_normal((rows, FEATURES), dtype=np.float32)
        s = (_leak(kind, z) ^ (rng.random(rows) < WRONG[kind])).astype(np.int64)
    ends = np.round(np.cumsum(list(SHARES.values())) * rows).astype(int)[:-1]
    return Evidence(
        name=kind,
        z=dict(zip(SHARES, map(torch.from_numpy, np.split(z, ends)), strict=True)),
        labels={"s": dict(zip(SHARES, np.split(s, ends), strict=True))},
        meaning={"s": BINARY},
        private=("s",),
    )


def _leak(kind: Kind, z: Array) -> Array:
    """(n,) bool: what the release says of the label."""
    says: dict[Kind, Callable[[], Array]] = {
        Kind.LINEAR: lambda: z @ np.linspace(-1, 1, z.shape[1], dtype=z.dtype) > 0,
        Kind.PRODUCT: lambda: z[:, 0] * z[:, 1] > 0,
        Kind.THRESHOLD: lambda: np.abs(z[:, 0]) < 0.6745,
        Kind.NOTHING: lambda: np.zeros(len(z), dtype=bool),
    }
    return says[kind]()


def _stripes(s: Array, rng: np.random.Generator) -> Array:
    """(n, h, w) waves of four pixels, down where s is 1 and across where it is 0."""
    phase = rng.integers(4, size=(len(s), 1, 1))
    down, across = np.ix_(np.arange(MAP[1]), np.arange(MAP[2]))
    along = np.where(s[:, None, None] == 1, down, across)
    waves: Array = np.cos(np.pi / 2 * (along + phase)).astype(np.float32)
    return waves


def shape_of(evidence: Evidence) -> str:
    """The size of a release in words: "8000 x 128"."""
    rows = sum(len(evidence.z[split]) for split in ATTACK_SPLITS)
    return " x ".join(map(str, (rows, *evidence.z["attack"].shape[1:])))


@dataclass(frozen=True)
class Worst:
    """The worst case of one side.

    Attributes:
        runs: attackers that it chose from.
        attack: the one chosen on "select", and its score there.
        guess: of its best seed.
        seconds, cpu: that the whole side took.
    """

    runs: int
    attack: str
    select: float
    guess: Guess
    seconds: float
    cpu: float


def searched(target: Target, suite: Suite, seeds: Sequence[int], console: Console) -> list[Trial]:
    """What the audit does."""
    candidates = target.candidates(suite.attackers("attribute"), target.feeds)
    title = f"{target.evidence.name}: search"
    with bar(console, title, STEPS * len(candidates)) as advance:
        judge = partial(target.on_select, seed=0)
        return search(candidates, judge, seeds, suite.plan, advance)


def one_by_one(target: Target, suite: Suite, seeds: Sequence[int], console: Console) -> list[Trial]:
    """Every network and every seed, each by itself and to its end: the yardstick."""
    attacks = [one for attack in suite.attackers("attribute") for one in _alone(attack)]
    candidates = target.candidates(attacks, target.feeds)
    trials = []
    with bar(console, f"{target.evidence.name}: one by one", len(candidates)) as advance:
        for candidate in candidates:
            trials.append(_in_turn(candidate, target, seeds))
            advance(1, candidate.name)
    return trials


def _alone(attack: Attack) -> list[Attack]:
    """Of perceptrons trained side by side each by itself; any other attacker as it is."""
    if not isinstance(attack, Mlp):
        return [attack]
    return [
        replace(attack, learning_rates=(rate,), weight_decays=(decay,), halving=False)
        for rate, decay in product(attack.learning_rates, attack.weight_decays)
    ]


def _in_turn(candidate: Candidate, target: Target, seeds: Sequence[int]) -> Trial:
    attack, knowledge = candidate.attack, candidate.knowledge
    chosen = seeds if attack.seeded else seeds[:1]
    guesses = tuple(attack.run(knowledge, seed) for seed in chosen)
    select = tuple(target.on_select(guess, 0) for guess in guesses)
    return Trial(candidate, guesses, select, knowledge.s["attack"])


Side = Callable[[Target, Suite, Sequence[int], Console], list[Trial]]


def measured(
    side: Side, evidence: Evidence, suite: Suite, seeds: Sequence[int], console: Console
) -> Worst:
    """Run one side and choose its worst case, as the audit does: by the best seed on select."""
    wall, cpu = time.perf_counter(), time.process_time()
    trials = side(Target("s", evidence), suite, seeds, console)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    whole = [trial for trial in trials if trial.share == 1]
    worst = max(whole, key=lambda trial: trial.best)
    guess = worst.guesses[int(np.argmax(worst.select))]
    return Worst(len(trials), worst.candidate.name, worst.best, guess, wall, cpu)


def apart(a: Guess, b: Guess, s: Array) -> tuple[float, float]:
    """How much less balanced accuracy a has than b on "test", and half a 95 % interval of that."""
    less = (b.test.argmax(1) == s).astype(float) - (a.test.argmax(1) == s)
    classes = [less[s == k] for k in np.unique(s)]
    variance = sum(float(d.var()) / len(d) for d in classes) / len(classes) ** 2
    return float(np.mean([d.mean() for d in classes])), 1.96 * variance**0.5


def compare(
    kinds: Sequence[Kind],
    rows: dict[Kind, int],
    suite: Suite,
    seeds: int,
    repeats: int,
    impatient: bool,
) -> None:
    """Print both sides of every kind of release, and whether the search is what it should be."""
    console, progress = Console(width=120), Console(stderr=True)
    ends = "its networks may stop early" if impatient else "its perceptrons to their end"
    title = f"suite {suite.name}, {seeds} seeds; one by one: {ends}"
    table = Table(title=title, box=box.SIMPLE_HEAD)
    columns = ("release", "", "runs", "wall s", "CPU s", "select", "test", "chosen on select")
    for column in columns:
        number = column in columns[2:-1]
        table.add_column(column, justify="right" if number else "left", no_wrap=number)
    run_seeds = [seed_for(0, "attack", i) for i in range(seeds)]
    faster, less_on_select, less_on_test = {}, {}, {}
    for kind in kinds:
        runs = [
            measured(searched, made_up(kind, rows[kind]), suite, run_seeds, progress)
            for _ in range(repeats)
        ]
        found = sorted(runs, key=lambda run: run.seconds)[repeats // 2]
        evidence = made_up(kind, rows[kind])
        patience = mlp.PATIENCE if impatient else math.inf
        with patch.object(mlp, "PATIENCE", patience):
            yardstick = measured(one_by_one, evidence, suite.exhaustive(), run_seeds, progress)
        s = evidence.labels["s"]["test"]
        missed, reach = apart(found.guess, yardstick.guess, s)
        faster[kind] = yardstick.seconds / found.seconds
        less_on_select[kind], less_on_test[kind] = yardstick.select - found.select, missed
        sides = (kind, "search", found), (shape_of(evidence), "one by one", yardstick)
        for what, side, worst in sides:
            table.add_row(
                what,
                side,
                str(worst.runs),
                f"{worst.seconds:.1f}",
                f"{worst.cpu:.1f}",
                f"{worst.select:.3f}",
                f"{balanced(worst.guess.test, s):.3f}",
                worst.attack,
            )
        table.add_row(
            f"at best {1 - WRONG[kind]:.3f}" if kind in WRONG else "",
            "search saves, misses",
            "",
            f"{faster[kind]:.1f}x",
            f"{yardstick.cpu / found.cpu:.1f}x",
            f"{less_on_select[kind]:+.3f}",
            f"{missed:+.3f} +-{reach:.3f}",
            "",
            end_section=True,
        )
    console.print(table)
    slow = [f"{kind} {times:.1f}x" for kind, times in faster.items() if times < FASTER]
    print(f"at least {FASTER:g} times as fast: {_yes(slow)}")
    for split, less in (("select", less_on_select), ("test", less_on_test)):
        missed_in = [f"{kind} {by:+.3f}" for kind, by in less.items() if by > LESS]
        print(f"worst case on {split} less by {LESS} at most: {_yes(missed_in)}")


def whole_audits(rows: int, seeds: int, repeats: int) -> None:
    """Print how long `audit` takes from evidence to verdict."""
    for suite, limit in WITHIN.items():
        seconds = []
        for _ in range(repeats):
            evidence, started = made_up(Kind.LINEAR, rows), time.perf_counter()
            audit(evidence, suite, seeds=seeds)
            seconds.append(time.perf_counter() - started)
        took = median(seconds)
        late = [] if took <= limit else [f"{took - limit:.1f} s more"]
        what = f'audit(evidence, "{suite}", seeds={seeds}) of {shape_of(evidence)}'
        print(f"{what}: {took:.1f} s, within {limit} s: {_yes(late)}", flush=True)


def _yes(exceptions: Sequence[str]) -> str:
    return f"NO ({', '.join(exceptions)})" if exceptions else "yes"


def main(
    kind: Annotated[list[Kind] | None, typer.Option(help="of release; all by default")] = None,
    suite: Annotated[str, typer.Option(help="whose search is measured")] = "full",
    rows: Annotated[int, typer.Option(help="releases of 128 features, in all splits")] = 8000,
    map_rows: Annotated[int, typer.Option(help="released maps, in all splits")] = 4000,
    seeds: int = 2,
    threads: Annotated[int, typer.Option(help="of torch, for both sides")] = 2,
    repeats: Annotated[int, typer.Option(help="of searches and audits: medians")] = 1,
    impatient: Annotated[
        bool, typer.Option("--impatient", help="networks run one by one may stop early too")
    ] = False,
    audits: Annotated[bool, typer.Option(help="whole audits too")] = True,
) -> None:
    """Time the search of a suite beside the exhaustive run, and whole audits."""
    torch.set_num_threads(threads)
    audit(made_up(Kind.LINEAR, 400), "quick", seeds=1)  # imports are not what is timed
    sizes = {name: map_rows if name is Kind.MAPS else rows for name in Kind}
    compare(kind or list(Kind), sizes, suite_named(suite), seeds, repeats, impatient)
    if audits:
        whole_audits(rows, seeds, repeats)


if __name__ == "__main__":
    typer.run(main)
