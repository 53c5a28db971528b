"""Successive halving over attackers: most are dropped on "select" before they have cost much.

Every attacker first runs on a part of its releases, and for a part of its time. The best of them,
and the best of each family that is trained, run in full; the best of those run with more seeds.
(Jamieson and Talwalkar, AISTATS 2016, with one rung and a guard for families.) Without a plan every
attacker runs in full with every seed: the yardstick that the search must agree with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from veil.attacks.attack import Attack, AttackSplit, Guess, Knowledge
from veil.attacks.features import Releases
from veil.attacks.training import run_seeds
from veil.errors import Diverged
from veil.progress import Advance
from veil.seeds import seed_for

Judge = Callable[[Guess], float]
STEPS = 2  # of progress, for each candidate: screened, and run in full or dropped


@dataclass(frozen=True)
class Plan:
    """How a search spends less than everything.

    Attributes:
        share: of the rows of "attack", and of the training time, in the first rung.
        fewest: rows in the first rung at least; where that is more than half of all, there is none.
        kept: share of the attackers that run in full. Of attackers that are trained, which a short
            time may hide, the best of each family does too.
        finalists: attackers that run with every seed.
    """

    share: float = 0.25
    fewest: int = 1000
    kept: float = 0.15
    finalists: int = 3


@dataclass(frozen=True)
class Candidate:
    """One attacker and what it holds.

    Attributes:
        attack: configured.
        knowledge: what it holds, which decides how the release reaches it.
        feed: that way in words, "" for a single draw ("mean of 16 draws").
        draws: releases of each image that went into it.
    """

    attack: Attack
    knowledge: Knowledge
    feed: str = ""
    draws: int = 1

    @property
    def name(self) -> str:
        return f"{self.attack.name}, {self.feed}" if self.feed else self.attack.name


@dataclass(frozen=True)
class Trial:
    """What came of one attacker.

    Attributes:
        candidate: the attacker.
        guesses: one for each seed.
        select: the score on "select" of each.
        learned: (m,) labels of the releases it learned from, on which `guesses` say "attack".
        share: of its releases and its time; 1 when it ran in full.
    """

    candidate: Candidate
    guesses: tuple[Guess, ...]
    select: tuple[float, ...]
    learned: NDArray[Any]
    share: float = 1.0

    @property
    def best(self) -> float:
        return max(self.select)


def search(
    candidates: Sequence[Candidate],
    judge: Judge,
    seeds: Sequence[int],
    plan: Plan | None,
    advance: Advance,
) -> list[Trial]:
    """Run attackers, in full where they deserve it.

    Args:
        candidates: attackers that fit their releases.
        judge: the score of a guess on "select", by which attackers are kept.
        seeds: of attackers whose result depends on one.
        plan: of the search; None runs everything.
        advance: called with `STEPS` steps in all for each candidate, and its name.

    Returns:
        One trial for each candidate, in order, but for those whose algebra broke down on this
        release (a matrix without inverse, a diverged network). The worst case is the best that
        ran in full.
    """
    trials: dict[int, Trial] = {}
    kept = list(range(len(candidates)))
    rows = min((len(c.knowledge.z["attack"]) for c in candidates), default=1)
    share = 1.0 if plan is None else max(plan.share, plan.fewest / rows)
    screened = plan is not None and share <= 0.5
    if plan is not None and screened:
        parts = {id(c.knowledge): c.knowledge for c in candidates}
        parts = {key: part_of(whole, share, seeds[0]) for key, whole in parts.items()}
        for i, candidate in enumerate(candidates):
            advance(1, candidate.name)
            attack = candidate.attack.shortened(share)
            shorter = replace(candidate, attack=attack, knowledge=parts[id(candidate.knowledge)])
            found = _run(shorter, judge, seeds[:1])
            if found is not None:
                trials[i] = replace(found, candidate=candidate, share=share)
        kept = _survivors(trials, plan)
        advance(len(candidates) - len(kept), "")
    for i in kept:
        advance(1 if screened else STEPS, candidates[i].name)
        found = _run(candidates[i], judge, seeds if plan is None else seeds[:1])
        if found is not None:
            trials[i] = found
    if plan is not None and len(seeds) > 1:
        seeded = [i for i in kept if i in trials and candidates[i].attack.seeded]
        for i in sorted(seeded, key=lambda i: -trials[i].best)[: plan.finalists]:
            more = _run(candidates[i], judge, seeds[1:])
            if more is None:
                continue
            guesses, select = trials[i].guesses + more.guesses, trials[i].select + more.select
            trials[i] = replace(trials[i], guesses=guesses, select=select)
    return [trials[i] for i in sorted(trials)]


def part_of(knowledge: Knowledge, share: float, seed: int) -> Knowledge:
    """The same knowledge with a share of the rows of "attack".

    Rows are drawn class by class, so that rare classes stay; of an identity target whole people.
    """
    s = knowledge.s["attack"]
    rng = np.random.default_rng(seed_for(seed, "part", f"{share:g}"))
    if knowledge.target == "identity":
        people = np.unique(s)
        chosen = rng.permutation(people)[: max(2, round(share * len(people)))]
        return with_attack_rows(knowledge, np.flatnonzero(np.isin(s, chosen)))
    groups = [np.flatnonzero(s == k) for k in range(knowledge.classes)] or [np.arange(len(s))]
    rows = [rng.permutation(group)[: max(1, round(share * len(group)))] for group in groups]
    return with_attack_rows(knowledge, np.sort(np.concatenate(rows)))


def with_attack_rows(knowledge: Knowledge, rows: NDArray[np.int64]) -> Knowledge:
    """The same knowledge with only some of the attacker's training releases."""

    def fewer(of: Any) -> Any:
        return None if of is None else {k: v[rows] if k == "attack" else v for k, v in of.items()}

    z: dict[AttackSplit, Any] = fewer(knowledge.z)
    return replace(
        knowledge,
        z=Releases(z),
        s=fewer(knowledge.s),
        y=fewer(knowledge.y),
        answers=fewer(knowledge.answers),
        people=fewer(knowledge.people),
    )


def _survivors(trials: dict[int, Trial], plan: Plan) -> list[int]:
    """The best by their screening score, and the best of each trained family on each feed."""
    order = sorted(trials, key=lambda i: -trials[i].best)
    kept = set(order[: max(1, round(plan.kept * len(order)))])
    families: set[tuple[str, str]] = set()
    for i in order:
        attack, feed = trials[i].candidate.attack, trials[i].candidate.feed
        if (attack.family, feed) not in families and attack.shortened(trials[i].share) != attack:
            families.add((attack.family, feed))
            kept.add(i)
    return sorted(kept)


def _run(candidate: Candidate, judge: Judge, seeds: Sequence[int]) -> Trial | None:
    attack = candidate.attack
    try:
        guesses = run_seeds(attack, candidate.knowledge, seeds if attack.seeded else seeds[:1])
    except (np.linalg.LinAlgError, torch.linalg.LinAlgError, Diverged):  # type: ignore[attr-defined]
        return None
    select = tuple(judge(guess) for guess in guesses)
    return Trial(candidate, tuple(guesses), select, candidate.knowledge.s["attack"])
