"""audit(): fresh attackers x targets x seeds -> records, with floors, ceilings and doubts.

Every attacker trains on `attack`, the worst one is chosen on `select`, and `test` is scored with
its one choice of seed. The protocol is docs/audit.md.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from veil.attacks.attack import Attack, AttackSplit, Guess, Ints, Knowledge
from veil.attacks.convolution import AiaAdversary, ResidualAttacker
from veil.attacks.linear import Logistic
from veil.attacks.matching import LinearDiscriminant, SoftmaxEmbedding
from veil.attacks.mlp import Mlp
from veil.attacks.suites import identity_suite
from veil.attacks.suites import suite as suite_named
from veil.ceilings import remembered
from veil.controls import planted_score, shuffled_interval
from veil.doubts import about_worst, refusals_of
from veil.errors import Refused, VeilError
from veil.evidence import ATTACK_SPLITS, Evidence
from veil.progress import Advance, bar
from veil.records import Audit, Doubt, Record, RecordKind, TargetSummary
from veil.scoring import (
    balanced,
    class_record,
    floor_records,
    gain,
    log_softmax,
    matching_record,
    own_head_record,
)
from veil.seeds import seed_for

RESNET18: Final = ResidualAttacker(blocks=(2, 2, 2, 2), widths=(64, 128, 256, 512))
CHANCE_OF_A_PAIR: Final = 0.5


def audit(
    evidence: Evidence,
    suite: str = "standard",
    seeds: int = 2,
    seed: int = 0,
    console: Console | None = None,
) -> Audit:
    """Attack a release and say how much leaks, or refuse to.

    Args:
        evidence: the release and what the attacker may hold.
        suite: a name in `attacks.suites.SUITES`.
        seeds: runs of every attacker whose result depends on one.
        seed: of the audit; never the defender's.
        console: where the progress bar goes; None for silence.

    Raises:
        VeilError: a label is no class or does not vary in a split, or the suite is unknown.
    """
    started = time.monotonic()
    for name in (*evidence.private, *evidence.utility):
        if name != "identity":
            _refuse_unfit_label(evidence, name)
    feeds = 1 if evidence.averaged is None else 2
    work = {n: feeds * len(_attackers(n, suite)) for n in evidence.private}
    work |= {n: len(_fresh_heads(n, suite)) for n in evidence.utility}
    targets: dict[str, TargetSummary] = {}
    records: list[Record] = []
    refusals: list[Doubt] = []
    with bar(console, f"attacking {evidence.name}", sum(work.values())) as advance:
        auditor = _Auditor(evidence, suite, seeds, seed, advance)
        for name in evidence.private:
            found, worst, why = auditor.private(name, _attackers(name, suite))
            records += found
            refusals += why
            targets[name] = TargetSummary(kind=worst.kind, worst=worst)
        for name in evidence.utility:
            found, best = auditor.useful(name)
            records += found
            targets[name] = TargetSummary(kind="utility", worst=best)
    facts = {
        **evidence.provenance,
        "private": list(evidence.private),
        "utility": list(evidence.utility),
        "suite": suite,
        "attackers": {
            attack.name: _config(attack)
            for name in evidence.private
            for attack in _attackers(name, suite)
        },
        "seed": seed,
        "seeds": seeds,
        "draws": evidence.draws,
        "splits": {split: len(evidence.z[split]) for split in ATTACK_SPLITS},
        "release": list(evidence.z["test"].shape[1:]),
        "originals": evidence.originals_key or None,
        "versions": {
            "veil": version("veil"),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "seconds": round(time.monotonic() - started, 1),
    }
    return Audit(
        name=evidence.name,
        verdict="refused" if refusals else "given",
        refusals=tuple(refusals),
        targets=targets,
        records=tuple(records),
        provenance=facts,
    )


def refused(name: str, why: Refused) -> Audit:
    """The audit of a release that deserves no figure at all."""
    refusal = Doubt(id=why.id, text=str(why))
    return Audit(
        name=name, verdict="refused", refusals=(refusal,), targets={}, records=(), provenance={}
    )


@dataclass(frozen=True)
class _Feed:
    """One way in which the release reaches an attacker: a single draw, or a mean of several."""

    z: Mapping[AttackSplit, Tensor]
    draws: int = 1


@dataclass(frozen=True)
class _Outcome:
    """One attacker on one feed, over its seeds."""

    attack: Attack
    feed: _Feed
    record: Record


class _Auditor:
    """One audit under way."""

    def __init__(
        self, evidence: Evidence, suite: str, seeds: int, seed: int, advance: Advance
    ) -> None:
        self.evidence = evidence
        self.suite = suite
        self.seeds = seeds
        self.seed = seed
        self.advance = advance

    def private(
        self, name: str, attacks: Sequence[Attack]
    ) -> tuple[list[Record], Record, tuple[Doubt, ...]]:
        """All records of a private label, the worst, and why no verdict may be given."""
        evidence = self.evidence.knowing(name)
        kind: RecordKind = "identity" if name == "identity" else "attribute"
        feeds = [_Feed(evidence.z)]
        if evidence.averaged is not None:
            feeds.append(_Feed(evidence.averaged, evidence.draws))
        outcomes = [
            outcome
            for feed in feeds
            for attack in attacks
            if (outcome := self.attack(evidence, name, attack, feed, kind))
        ]
        ceiling = self.ceiling(evidence, name, kind)
        known = {} if name == "identity" else floor_records(evidence, name)
        update: dict[str, Any] = {
            "floor": max((r.score for r in known.values() if r.score), default=CHANCE_OF_A_PAIR),
            "ceiling": None if ceiling is None else ceiling.score,
        }
        records = [o.record.model_copy(update=update) for o in outcomes]
        if name != "identity":
            records = [
                r.model_copy(update={"nag": gain(evidence, name, r, ceiling)}) for r in records
            ]
        position = _best(records)
        worst, why = self.judge(evidence, name, outcomes[position], records, known, ceiling)
        records[position] = worst
        return [*records, *known.values(), *([ceiling] if ceiling else [])], worst, why

    def judge(
        self,
        evidence: Evidence,
        name: str,
        outcome: _Outcome,
        records: Sequence[Record],
        known: Mapping[str, Record],
        ceiling: Record | None,
    ) -> tuple[Record, tuple[Doubt, ...]]:
        """The worst record with its doubts, and the reasons to refuse a verdict."""
        worst = records[_best(records)]
        adversary = evidence.adversary.get(name)
        is_class = name != "identity"
        test = evidence.labels[name]["test"] if is_class else None
        doubts = about_worst(
            worst,
            records,
            random=evidence.random,
            draws=evidence.draws,
            batch_dependence=evidence.batch_dependence,
            adversary=(
                None
                if adversary is None or test is None
                else balanced(log_softmax(adversary), test)
            ),
            half_data_gain=self.half_data_gain(evidence, name, outcome) if is_class else None,
        )
        worst = worst.model_copy(update={"doubts": doubts, "reported": evidence.reported.get(name)})
        if test is None:
            return worst, ()
        knowledge = _knowledge(evidence, name, evidence.z)
        copy = known.get("copy floor")
        why = refusals_of(
            worst,
            ceiling,
            majority=known["majority"].score or 0.0,
            copy=None if copy is None else copy.score,
            shuffled=shuffled_interval(knowledge, test, self.seed),
            planted=planted_score(knowledge, test, self.seed),
        )
        return worst, why

    def useful(self, name: str) -> tuple[list[Record], Record]:
        """All records of a useful label, own head and fresh heads, and the best of them."""
        evidence = self.evidence.knowing(name)
        records = []
        if name in evidence.answers:
            records.append(own_head_record(evidence, name, self.seed))
        for attack in _fresh_heads(name, self.suite):
            outcome = self.attack(evidence, name, attack, _Feed(evidence.z), "utility")
            if outcome is not None:
                records.append(outcome.record)
        ceiling = self.ceiling(evidence, name, "utility")
        chance = (
            CHANCE_OF_A_PAIR
            if name == "identity"
            else 1 / len(np.unique(evidence.labels[name]["test"]))
        )
        update = {
            "floor": chance,
            "ceiling": None if ceiling is None else ceiling.score,
            "reported": evidence.reported.get(name),
        }
        records = [record.model_copy(update=update) for record in records]
        return [*records, *([ceiling] if ceiling else [])], records[_best(records)]

    def attack(
        self,
        evidence: Evidence,
        name: str,
        attack: Attack,
        feed: _Feed,
        kind: RecordKind,
        steps: int = 1,
    ) -> _Outcome | None:
        """One attacker of one label over its seeds; None where it cannot run on this release.

        `steps` is how far the progress bar moves: ceilings, mostly remembered, are not counted.
        """
        knowledge = _knowledge(evidence, name, feed.z)
        self.advance(steps, attack.name)
        if attack.unfit_for(knowledge) is not None:
            return None
        guesses = self.guesses(attack, knowledge)
        shown = attack.name if feed.draws == 1 else f"{attack.name}, mean of {feed.draws} draws"
        if name == "identity":
            assert evidence.identity is not None
            record = matching_record(
                evidence.identity, kind, shown, attack.family, guesses, self.seed
            )
        else:
            record = class_record(evidence, name, kind, shown, attack.family, guesses, self.seed)
        config = _config(attack) | {"draws": feed.draws}
        return _Outcome(attack, feed, record.model_copy(update={"config": config}))

    def guesses(self, attack: Attack, knowledge: Knowledge) -> list[Guess]:
        """The attacker's guesses, one per seed."""
        runs = self.seeds if attack.seeded else 1
        return [
            attack.run(knowledge, seed_for(self.seed, "attack", attack.name, i))
            for i in range(runs)
        ]

    def ceiling(self, evidence: Evidence, name: str, kind: RecordKind) -> Record | None:
        """The best attacker of the original images, remembered between audits of the same data."""
        if evidence.originals is None:
            return None
        clean = replace(evidence, utility=(), answers={})
        columns = evidence.identity if name == "identity" else evidence.labels[name]
        # People too: they decide the interval.
        key = (evidence.originals_key, name, columns, evidence.identity, self.seed, self.seeds)

        def measure(attack: Attack) -> Record:
            assert clean.originals is not None
            feed = _Feed({split: clean.originals(split) for split in ATTACK_SPLITS})
            outcome = self.attack(clean, name, attack, feed, kind, steps=0)
            if outcome is None:
                raise VeilError(f"{evidence.name}: '{attack.name}' cannot attack the originals")
            shown = {"attack": f"{attack.name} on the original images", "family": "ceiling"}
            return outcome.record.model_copy(update=shown)

        attacks = _ceiling_attacks(name, self.suite)
        records = [remembered((*key, attack), partial(measure, attack)) for attack in attacks]
        return records[_best(records)].model_copy(update={"kind": kind})

    def half_data_gain(self, evidence: Evidence, name: str, outcome: _Outcome) -> float | None:
        """How much the worst attacker gains on select from the second half of its images."""
        if outcome.attack.family in ("constant", "copying") or outcome.record.select is None:
            return None
        knowledge = _knowledge(evidence, name, outcome.feed.z)
        count = len(knowledge.s["attack"])
        rng = np.random.default_rng(seed_for(self.seed, "half", name))
        fewer = _attack_rows(knowledge, rng.permutation(count)[: count // 2])
        if len(np.unique(fewer.s["attack"])) < len(np.unique(knowledge.s["attack"])):
            return None
        if outcome.attack.unfit_for(fewer) is not None:
            return None
        guesses = self.guesses(outcome.attack, fewer)
        reached = max(balanced(guess.select, knowledge.s["select"]) for guess in guesses)
        return outcome.record.select - reached


def _refuse_unfit_label(evidence: Evidence, name: str) -> None:
    if not evidence.meaning[name].is_class:
        raise VeilError(f"'{name}' is {evidence.meaning[name].kind}; an audit needs classes")
    for split, column in evidence.knowing(name).labels[name].items():
        if len(np.unique(column)) < 2:
            raise VeilError(
                f"{evidence.name}: '{name}' does not vary over the {len(column)} images of "
                f"'{split}' for which it is known; give more images"
            )


def _knowledge(evidence: Evidence, name: str, z: Mapping[AttackSplit, Tensor]) -> Knowledge:
    """What an attacker of `name` holds; the useful label and its head, where there is one."""
    columns = evidence.identity if name == "identity" else evidence.labels[name]
    assert columns is not None
    s: dict[Literal["attack", "select"], Ints] = {
        "attack": columns["attack"],
        "select": columns["select"],
    }
    if name == "identity":
        return Knowledge(target=name, classes=0, z=z, s=s)
    knowledge = Knowledge(name, len(evidence.meaning[name].classes), z, s)
    tasks = [task for task in evidence.utility if task != "identity"]
    if not tasks or name in evidence.utility:
        return knowledge
    return replace(
        knowledge,
        y=evidence.labels[tasks[0]],
        y_classes=len(evidence.meaning[tasks[0]].classes),
        answers=evidence.answers.get(tasks[0]),
    )


def _attack_rows(knowledge: Knowledge, rows: NDArray[np.int64]) -> Knowledge:
    """The same knowledge with only some of the attacker's training releases."""

    def fewer(of: Mapping[Any, Any]) -> dict[Any, Any]:
        return {split: v[rows] if split == "attack" else v for split, v in of.items()}

    return replace(
        knowledge,
        z=fewer(knowledge.z),
        s=fewer(knowledge.s),
        y=None if knowledge.y is None else fewer(knowledge.y),
        answers=None if knowledge.answers is None else fewer(knowledge.answers),
    )


def _attackers(name: str, suite: str) -> tuple[Attack, ...]:
    return identity_suite(suite) if name == "identity" else suite_named(suite)


def _fresh_heads(name: str, suite: str) -> tuple[Attack, ...]:
    if name == "identity":
        return identity_suite(suite)
    heads: tuple[Attack, ...] = (Logistic(), Logistic("whitened"), Mlp())
    return heads if suite == "quick" else (*heads, AiaAdversary("standardised"))


def _ceiling_attacks(name: str, suite: str) -> tuple[Attack, ...]:
    if name == "identity":
        quick: tuple[Attack, ...] = (LinearDiscriminant(),)
        return quick if suite == "quick" else (*quick, SoftmaxEmbedding())
    if suite == "quick":
        return (Logistic("whitened"), AiaAdversary("standardised"))
    return (AiaAdversary("standardised"), ResidualAttacker("standardised"), RESNET18)


def _best(records: Sequence[Record]) -> int:
    """The position of the record with the highest score on select."""
    return max(range(len(records)), key=lambda i: records[i].select or 0.0)


def _config(attack: Attack) -> dict[str, Any]:
    return asdict(attack)  # type: ignore[call-overload, no-any-return]
