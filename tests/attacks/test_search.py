"""Successive halving: it finds what running everything finds, and runs less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from small_evidence import divided, tensors
from veil.attacks.attack import Attack, Guess, Kind, Knowledge
from veil.attacks.features import Releases
from veil.attacks.linear import Logistic
from veil.attacks.mlp import Mlp
from veil.attacks.neighbours import Neighbours
from veil.attacks.search import STEPS, Candidate, Plan, part_of, search
from veil.metrics import balanced_accuracy

N = 8000
RNG = np.random.default_rng(5)
S = RNG.integers(0, 2, N)
RUNS: list[tuple[str, int, int]] = []


@dataclass(frozen=True)
class Told:
    """An attacker of a known quality; it notes how often, on how many rows, and how long it ran."""

    name: str
    quality: float
    family: str = "mlp"
    seeded: bool = True
    length: float = 1.0
    truth: ClassVar[Any] = divided(S)

    kind: ClassVar[Kind] = "attribute"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None

    def shortened(self, share: float) -> Told:
        return replace(self, length=self.length * share)

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        RUNS.append((self.name, len(knowledge.s["attack"]), round(100 * self.length)))

        def guess(s: Any) -> Any:
            right = np.arange(len(s)) % 1000 < 1000 * self.quality
            return np.log(np.where(np.eye(2)[np.where(right, s, 1 - s)], 0.9, 0.1))

        return Guess(
            guess(knowledge.s["attack"]),
            guess(knowledge.s["select"]),
            guess(self.truth["test"]),
        )


def knowledge(z: Any = None, s: Any = S) -> Knowledge:
    columns = divided(s)
    released = tensors(RNG.normal(size=(len(s), 4)) if z is None else z)
    known: Any = {"attack": columns["attack"], "select": columns["select"]}
    return Knowledge("s", int(s.max()) + 1, Releases(released), known)


def judged(held: Knowledge) -> Any:
    return lambda guess: balanced_accuracy(held.s["select"], guess.select.argmax(axis=1))


def found(attacks: Sequence[Attack], plan: Plan | None, seeds: Sequence[int] = (1, 2)) -> Any:
    held = knowledge()
    RUNS.clear()
    steps: list[int] = []
    candidates = [Candidate(attack, held) for attack in attacks]
    trials = search(candidates, judged(held), seeds, plan, lambda n, _name: steps.append(n))
    assert sum(steps) == STEPS * len(attacks)
    return trials


MANY = [Told(f"told {i}", 0.5 + 0.02 * i) for i in range(12)]


def test_the_best_run_in_full_with_every_seed_and_the_worst_do_not() -> None:
    trials = found(MANY, Plan(kept=0.25, finalists=2))
    full = [t.candidate.name for t in trials if t.share == 1]
    assert full == ["told 9", "told 10", "told 11"]
    assert [len(t.guesses) for t in trials if t.share == 1] == [1, 2, 2]
    rows = len(divided(S)["attack"])
    share = trials[0].share
    assert share == pytest.approx(1000 / rows)
    assert ("told 0", 1000, round(100 * share)) in RUNS
    assert ("told 0", rows, 100) not in RUNS
    assert [run for run in RUNS if run[0] == "told 11"].count(("told 11", rows, 100)) == 2
    assert trials[0].learned.shape == (1000,)


def test_the_best_of_every_trained_family_runs_in_full() -> None:
    """One that is solved has shown on a part of its releases what it can; time hides nothing."""

    class Solved(Told):
        def shortened(self, share: float) -> Told:
            return self

    attacks = [*MANY, Told("odd", 0.5, family="boosting"), Solved("solved", 0.5, "patterns")]
    trials = found(attacks, Plan(kept=0.1))
    assert [t.candidate.name for t in trials if t.share == 1] == ["told 11", "odd"]


def test_without_a_plan_everything_runs_in_full_with_every_seed() -> None:
    trials = found([*MANY, Told("solved", 0.6, seeded=False)], None)
    assert {t.share for t in trials} == {1.0}
    assert [len(t.guesses) for t in trials] == [2] * 12 + [1]


@pytest.mark.parametrize("plan", [None, Plan()])
def test_an_attacker_whose_algebra_breaks_down_is_left_out(plan: Plan | None) -> None:
    class Singular(Told):
        def run(self, knowledge: Knowledge, seed: int) -> Guess:
            raise np.linalg.LinAlgError

    trials = found([Singular("singular", 0.9), *MANY], plan)
    assert "singular" not in [trial.candidate.name for trial in trials]
    assert max(trials, key=lambda trial: trial.best).candidate.name == "told 11"


def test_few_rows_are_not_screened() -> None:
    trials = found(MANY, Plan(fewest=2500))
    assert {t.share for t in trials} == {1.0}
    assert sum(len(t.guesses) for t in trials) == 12 + 3


def test_the_search_agrees_with_running_everything() -> None:
    """A product of features: linear attackers see nothing, and the search must not stop at them."""
    z = RNG.normal(size=(N, 6))
    s = ((z[:, 0] * z[:, 1] > 0) ^ (RNG.random(N) < 0.1)).astype(np.int64)
    held = knowledge(z, s)
    attacks: list[Attack] = [Logistic(how) for how in ("raw", "standardised", "whitened")]
    attacks += [Neighbours(), Mlp(), Mlp(hidden=(128, 64)), Logistic("statistics")]
    candidates = [Candidate(attack, held) for attack in attacks]
    quick, whole = (
        search(candidates, judged(held), (1, 2), plan, lambda _n, _t: None)
        for plan in (Plan(), None)
    )
    best = max(t.best for t in quick if t.share == 1)
    assert best > 0.85
    assert best == pytest.approx(max(t.best for t in whole), abs=0.01)


def test_a_part_keeps_rare_classes_and_whole_people() -> None:
    s = (np.arange(2000) % 50 == 0).astype(np.int64)
    part = part_of(knowledge(s=s), 0.25, 0)
    assert np.bincount(part.s["attack"]).tolist() == [245, 5]
    assert len(part.z["attack"]) == 250
    assert np.array_equal(part.s["select"], divided(s)["select"])
    people = np.repeat(np.arange(400), 5)
    held = replace(knowledge(s=people), target="identity", classes=0)
    shown = part_of(held, 0.25, 0).s["attack"]
    _, counts = np.unique(shown, return_counts=True)
    assert (len(counts), set(counts.tolist())) == (50, {5})
    assert not np.array_equal(shown, part_of(held, 0.25, 1).s["attack"])
