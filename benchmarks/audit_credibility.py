"""Whether the audit's figures are what they say: coverage of its intervals, false alarms.

    python benchmarks/audit_credibility.py coverage [--sets 2000]
    python benchmarks/audit_credibility.py alarms [--releases 100] [--suite quick]

`coverage` draws data sets whose true score is known and counts how often each interval holds it,
and how often each test errs (docs/statistics.md has the table). `alarms` audits releases that are
independent of the private label: how often does the worst attacker seem to leak?
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray

from veil.attacks.attack import AttackSplit
from veil.attacks.pairs import draw_pairs
from veil.data.dataset import BINARY, IDENTITY
from veil.evidence import ATTACK_SPLITS, Evidence
from veil.pair_statistics import pair_interval
from veil.scoring import balanced_bits_low
from veil.statistics import Interval, auc_interval, clopper_pearson, floor_tests, interval_for

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
NORMAL = NormalDist()
MARGIN = 0.05
SPLIT_SHARES = {"attack": 0.5, "select": 0.2, "test": 0.3}


@dataclass(frozen=True)
class Sample:
    """How a test split is drawn.

    Attributes:
        recall: of each class; share: how frequent the classes are among people.
        people: how many; photos: of each, from and to.
        likeness: intra-class correlation of a person's photos in being guessed rightly.
    """

    recall: tuple[float, ...]
    people: int
    photos: tuple[int, int] = (1, 1)
    likeness: float = 0.0
    share: tuple[float, ...] | None = None

    @property
    def truth(self) -> float:
        return float(np.mean(self.recall))

    def __str__(self) -> str:
        each = "1 photo" if self.photos == (1, 1) else f"{self.photos[0]}-{self.photos[1]} photos"
        rare = "" if self.share is None else f", rarest class {min(self.share):.0%}"
        recalls = "/".join(f"{r:g}" for r in dict.fromkeys(self.recall))
        return f"{len(self.recall)} classes, recall {recalls}, {self.people} x {each}{rare}"

    def draw(self, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
        """(n,) true classes, guessed classes and people."""
        classes = len(self.recall)
        share = np.ones(classes) / classes if self.share is None else np.array(self.share)
        label = rng.choice(classes, size=self.people, p=share)
        success = np.array(self.recall)[label]
        if self.likeness:
            strength = (1 - self.likeness) / self.likeness
            success = rng.beta(success * strength, (1 - success) * strength)
        low, high = self.photos
        person = np.repeat(np.arange(self.people), rng.integers(low, high + 1, self.people))
        wrong = rng.integers(1, classes, len(person))
        right = rng.random(len(person)) < success[person]
        labels = label[person]
        return labels, np.where(right, labels, (labels + wrong) % classes), person


SAMPLES = [
    sample
    for p in (0.5, 0.9, 0.99)
    for sample in (
        Sample((p, p), 60),
        Sample((p, p), 200),
        Sample((p, p), 1000),
        Sample((p, p), 600, share=(0.9, 0.1)),
        Sample((p,) * 4, 200),
        Sample((p, p), 60, (2, 8), 0.3),
        Sample((p, p), 200, (2, 8), 0.3),
        Sample((p, p), 300, (2, 8), 0.3, (0.9, 0.1)),
        Sample((p,) * 4, 200, (2, 8), 0.3),
    )
]


def intervals(sets: int) -> None:
    """Print how often 95 % intervals hold the truth."""
    print(f"{sets} data sets a row, {error(0.95, sets):.1%} Monte Carlo error at 95 %\n")
    print(f"{'95 % interval of':18} {'drawn from':62} covers  too high  too low   width")
    for sample in SAMPLES:
        show("balanced accuracy", str(sample), sample.truth, [i for _, i in scored(sample, sets)])
    for p in (0.5, 0.9, 0.99):
        for n in (60, 1000):
            show("accuracy", f"{p:g}, {n} people x 1 photo", p, of_counts(p, n, sets))
    for people in (60, 200):
        for likeness in (0.0, 0.7):
            for separation in (0.0, 1.5):
                for metric in ("verification_accuracy", "auc"):
                    what = f"pairs of {people} people, apart by {separation:g}, own {likeness:g}"
                    truth, found = of_pairs(metric, people, separation, likeness, sets // 4)
                    show(f"pairs' {metric[:12]}", what, truth, found)
    for people, likeness in ((60, 0.0), (300, 0.0), (60, 0.5), (300, 0.5)):
        for separation in (0.0, 1.5, 3.0):
            what = f"{people} people x 5 photos, likeness {likeness:g}, apart by {separation:g}"
            truth = NORMAL.cdf(separation / np.sqrt(2))
            show("auc", what, truth, of_areas(people, separation, likeness, sets))


def tests(sets: int) -> None:
    """Print how often 5 % tests err where their hypothesis just holds."""
    print(f"\n{'test at 5 %':18} {'drawn from':62}  errs   +-")
    for sample in SAMPLES:
        p_low = equal = 0
        for score, interval in scored(sample, sets):
            p_low += floor_tests(interval, score, sample.truth)[0] < 0.05
            equal += floor_tests(interval, score, sample.truth - MARGIN)[1] < MARGIN
        for what, count in (("p above floor", p_low), ("equivalent within", equal)):
            print(f"{what:18} {sample!s:62} {count / sets:.3f} {error(0.05, sets):.3f}")
    for people, photos in ((60, 1), (300, 1), (200, 5)):
        for boldness in (0.02, 0.1, 1.0):
            wrong = false_bits(people, photos, boldness, sets)
            what = f"independent, {people} people x {photos}, boldness {boldness:g}"
            print(f"{'bits_low > 0':18} {what:62} {wrong:.3f} {error(0.05, sets):.3f}")


def error(rate: float, sets: int) -> float:
    """The Monte Carlo standard error of a rate."""
    return float(np.sqrt(rate * (1 - rate) / sets))


def show(figure: str, drawn: str, truth: float, intervals: list[Interval]) -> None:
    low, high = np.array(intervals).T
    print(
        f"{figure:18} {drawn:62} {np.mean((low <= truth) & (truth <= high)):.3f}   "
        f"{np.mean(low > truth):.3f}     {np.mean(high < truth):.3f}    {np.mean(high - low):.3f}",
        flush=True,
    )


@cache
def scored(sample: Sample, sets: int) -> list[tuple[float, Interval]]:
    """The balanced accuracy of each data set and its interval."""
    found = []
    for i in range(sets):
        labels, guessed, person = sample.draw(np.random.default_rng(i))
        right = labels == guessed
        score = float(np.mean([right[labels == k].mean() for k in np.unique(labels)]))
        found.append((score, interval_for("balanced_accuracy", labels, guessed, person, i)))
    return found


def of_counts(p: float, n: int, sets: int) -> list[Interval]:
    return [clopper_pearson(int(np.random.default_rng(i).binomial(n, p)), n) for i in range(sets)]


def of_pairs(
    metric: str, people: int, separation: float, own: float, sets: int
) -> tuple[float, list[Interval]]:
    """Distances N(0, 1) of one person and N(separation, 1) of two, shifted by their people's own.

    Each person adds N(0, own^2) to the distances of all their pairs.
    """
    threshold, of_same, of_two = separation / 2, np.hypot(1, own), np.sqrt(1 + 2 * own**2)
    identity = np.repeat(np.arange(people), 5)
    found = []
    for i in range(sets):
        rng = np.random.default_rng(i)
        asked = draw_pairs(identity, seed=i, count=1000)
        who = np.stack([identity[asked.left], identity[asked.right]], axis=1)
        shift = own * rng.normal(size=people)
        extra = np.where(asked.same, shift[who[:, 0]], shift[who].sum(axis=1) + separation)
        distance = rng.normal(size=len(asked)) + extra
        if metric == "auc":
            interval = pair_interval("auc", asked.same, distance, threshold, who, i)
        else:
            interval = pair_interval(
                "verification_accuracy", asked.same, distance, threshold, who, i
            )
        found.append(interval)
    right = NORMAL.cdf(threshold / of_same) + NORMAL.cdf((separation - threshold) / of_two)
    area = NORMAL.cdf(separation / np.hypot(of_same, of_two))
    return area if metric == "auc" else right / 2, found


def of_areas(people: int, separation: float, likeness: float, sets: int) -> list[Interval]:
    """Scores N(separation y, 1), of which a person's photos share the part `likeness`."""
    found = []
    for i in range(sets):
        rng = np.random.default_rng(i)
        person = np.repeat(np.arange(people), 5)
        label = np.arange(people)[person] % 2
        noise = np.sqrt(likeness) * rng.normal(size=people)[person]
        noise += np.sqrt(1 - likeness) * rng.normal(size=len(person))
        score = separation * label + noise
        found.append(auc_interval(label, np.stack([-score, score], axis=1) / 2, person))
    return found


def false_bits(people: int, photos: int, boldness: float, sets: int) -> float:
    """How often independent guesses, log-odds N(0, boldness^2), seem to carry information."""
    wrong = 0
    for i in range(sets):
        rng = np.random.default_rng(i)
        person = np.repeat(np.arange(people), photos)
        label = rng.integers(0, 2, people)[person]
        odds = boldness * rng.normal(size=people)[person]
        log_p = -np.logaddexp(0, np.stack([odds, -odds], axis=1))
        wrong += balanced_bits_low(log_p.astype(np.float32), label, person) > 0
    return wrong / sets


def gaussian(rng: np.random.Generator, rows: int) -> tuple[Floats, Ints, Ints | None]:
    """Independent Gaussian features."""
    return rng.normal(size=(rows, 32)), rng.integers(0, 2, rows), None


def of_people(rng: np.random.Generator, rows: int) -> tuple[Floats, Ints, Ints | None]:
    """3 to 8 photos a person, alike in features and with one label: people, not the label, leak."""
    photos = rng.integers(3, 9, rows // 3 + 1)
    person = np.repeat(np.arange(len(photos)), photos)[:rows]
    centre = rng.normal(size=(len(photos), 32))
    return (
        centre[person] + 0.5 * rng.normal(size=(rows, 32)),
        rng.integers(0, 2, len(photos))[person],
        person,
    )


def heavy_tails(rng: np.random.Generator, rows: int) -> tuple[Floats, Ints, Ints | None]:
    """Features of Student's t with 1.5 degrees of freedom."""
    return rng.standard_t(1.5, size=(rows, 32)), rng.integers(0, 2, rows), None


def codes(rng: np.random.Generator, rows: int) -> tuple[Floats, Ints, Ints | None]:
    """Four symbols out of eight each."""
    z = np.eye(8)[rng.integers(0, 8, (rows, 4))].reshape(rows, 32)
    return z, rng.integers(0, 2, rows), None


def minority(rng: np.random.Generator, rows: int) -> tuple[Floats, Ints, Ints | None]:
    """A private class of 10 %."""
    return rng.normal(size=(rows, 32)), (rng.random(rows) < 0.1).astype(np.int64), None


INDEPENDENT: tuple[Callable[[np.random.Generator, int], tuple[Floats, Ints, Ints | None]], ...] = (
    gaussian,
    of_people,
    heavy_tails,
    codes,
    minority,
)


def evidence_of(z: Floats, s: Ints, person: Ints | None, name: str) -> Evidence:
    """The rows in order: half attack, a fifth select, the rest test; whole people where known."""
    ends = np.round(np.cumsum(list(SPLIT_SHARES.values())) * len(s)).astype(int)[:-1]
    if person is not None:
        ends = np.searchsorted(person, person[ends])

    def divided(column: NDArray[np.generic]) -> dict[AttackSplit, NDArray[np.generic]]:
        return dict(zip(ATTACK_SPLITS, np.split(column, ends), strict=True))

    return Evidence(
        name=name,
        z={split: torch.from_numpy(part) for split, part in divided(z.astype(np.float32)).items()},
        labels={"s": divided(s)},
        meaning={"s": BINARY, "identity": IDENTITY},
        private=("s",),
        identity=None if person is None else divided(person),
    )


def alarms(releases: int, rows: int, suite: str, seeds: int) -> None:
    """Print how often releases that hold nothing are said to leak, and how often refused."""
    from veil.audit import audit  # coverage needs no attackers

    print(f"{releases} releases a kind of {rows} rows, suite {suite}, {seeds} seed(s)\n")
    print(f"{'kind':12} alarms   rate   95 % upper   refused   s an audit   mean worst score")
    total = 0
    for kind in INDEPENDENT:
        false = refused = 0
        scores = []
        started = time.perf_counter()
        for i in range(releases):
            z, s, person = kind(np.random.default_rng(i), rows)
            found = audit(evidence_of(z, s, person, kind.__name__), suite, seeds, seed=i)
            refused += found.verdict == "refused"
            worst = found.targets["s"].worst
            assert worst.score is not None
            assert worst.interval is not None
            assert worst.floor is not None
            false += worst.interval[0] > worst.floor
            scores.append(worst.score)
        total += false
        seconds = (time.perf_counter() - started) / releases
        print(
            f"{kind.__name__:12} {false:6} {false / releases:6.3f} {upper(false, releases):12.3f}"
            f" {refused:9} {seconds:12.1f}   {np.mean(scores):.3f}",
            flush=True,
        )
    count = releases * len(INDEPENDENT)
    print(f"{'all':12} {total:6} {total / count:6.3f} {upper(total, count):12.3f}")
    print("\nA 95 % interval lies above the truth for 2.5 % of releases.")


def upper(count: int, of: int) -> float:
    """The one-sided 95 % upper bound of a rate (Clopper-Pearson)."""
    return clopper_pearson(count, of, level=0.9)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    of_coverage = commands.add_parser("coverage")
    of_coverage.add_argument("--sets", type=int, default=2000)
    of_alarms = commands.add_parser("alarms")
    of_alarms.add_argument("--releases", type=int, default=100)
    of_alarms.add_argument("--rows", type=int, default=1500)
    of_alarms.add_argument("--suite", default="quick")
    of_alarms.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    if args.command == "coverage":
        intervals(args.sets)
        tests(args.sets)
    else:
        alarms(args.releases, args.rows, args.suite, args.seeds)


if __name__ == "__main__":
    main()
