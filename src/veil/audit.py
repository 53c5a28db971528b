"""audit(): fresh attackers x targets x seeds -> records, with floors, ceilings and doubts.

Every attacker trains on `attack`, the worst one is chosen on `select`, and `test` is scored with
its one choice of seed. The protocol is docs/audit.md.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from veil.attacks.attack import Attack
from veil.attacks.defenders import DefendersAdversary
from veil.attacks.features import Releases
from veil.attacks.multilabel import STAGES as SCAN_STEPS
from veil.attacks.reconstruction import Inversion, Reconstruction
from veil.attacks.search import STEPS, Candidate, Plan, Trial, search
from veil.attacks.suites import Suite, suite_named
from veil.attacks.training import run_seeds
from veil.ceilings import remembered
from veil.certify import certificates_of, certified
from veil.data.dataset import RECONSTRUCTION
from veil.errors import Refused, VeilError
from veil.evidence import ATTACK_SPLITS, Evidence
from veil.judging import doubts_about, refusals_about
from veil.mechanism import refuted
from veil.progress import Advance, bar
from veil.recognition import Recogniser
from veil.reconstructing import reconstruction_records
from veil.records import Audit, Certificate, Doubt, Record, TargetSummary
from veil.scan import scan
from veil.scoring import gain, with_floor_tests
from veil.seeds import seed_for
from veil.targets import CHANCE_OF_A_PAIR, Feed, Target, fewer_draws, targets_of


def audit(
    evidence: Evidence,
    suite: str | Suite = "standard",
    seeds: int = 2,
    seed: int = 0,
    console: Console | None = None,
    recogniser: Recogniser | None = None,
) -> Audit:
    """Attack a release and say how much leaks, or refuse to.

    Args:
        evidence: the release and what the attacker may hold.
        suite: a name in `attacks.suites.SUITES`, or a suite of one's own.
        seeds: runs of the best attackers whose result depends on one.
        seed: of the audit; never the defender's.
        console: where the progress bar goes; None for silence.
        recogniser: by which reconstructed faces are recognised, where "reconstruction" is private.

    Raises:
        VeilError: a label does not vary in a split, the suite is unknown, or the releases cannot
            come from the mechanism that was declared.
    """
    return audit_with_pictures(evidence, suite, seeds, seed, console, recogniser)[0]


def audit_with_pictures(
    evidence: Evidence,
    suite: str | Suite = "standard",
    seeds: int = 2,
    seed: int = 0,
    console: Console | None = None,
    recogniser: Recogniser | None = None,
) -> tuple[Audit, Reconstruction | None]:
    """`audit`, and the pictures of the best reconstruction attacker where one was asked for."""
    started = time.monotonic()
    chosen = suite_named(suite) if isinstance(suite, str) else suite
    targets = targets_of(evidence)
    _refuse_false_mechanism(evidence)
    auditor = _Auditor(evidence, chosen, seeds, seed, recogniser)
    with bar(console, f"attacking {evidence.name}", auditor.steps(targets)) as advance:
        auditor.advance = advance
        for target in targets:
            if target.role == "private":
                auditor.private(target)
            else:
                auditor.useful(target)
        if RECONSTRUCTION in evidence.private:
            auditor.reconstruction()
        released = evidence.averaged.get(evidence.draws, evidence.z)
        scanned = scan(released, evidence, seed, advance) if chosen.scans else []
    facts = _provenance(evidence, chosen, seeds, seed) | {
        "attackers that failed": auditor.failed,
        "seconds": round(time.monotonic() - started, 1),
    }
    found = Audit(
        name=evidence.name,
        verdict="refused" if auditor.refusals else "given",
        refusals=tuple(auditor.refusals),
        targets=auditor.targets,
        records=tuple(auditor.records),
        certificates=tuple(auditor.certificates),
        scan=tuple(scanned),
        provenance=facts,
    )
    return found, auditor.pictures


def _refuse_false_mechanism(evidence: Evidence) -> None:
    """Find a declared mechanism that cannot have made these releases before hours of attack."""
    if evidence.mechanism is None:
        return
    z = torch.cat([evidence.z[split] for split in ATTACK_SPLITS])
    if reason := refuted(evidence.mechanism, z):
        raise VeilError(f"{evidence.name}: {reason}")


def refused(name: str, why: Refused) -> Audit:
    """The audit of a release that deserves no figure at all."""
    refusal = Doubt(id=why.id, text=str(why))
    return Audit(
        name=name, verdict="refused", refusals=(refusal,), targets={}, records=(), provenance={}
    )


class _Auditor:
    """One audit under way, and what it has found so far."""

    advance: Advance

    def __init__(
        self,
        evidence: Evidence,
        suite: Suite,
        seeds: int,
        seed: int,
        recogniser: Recogniser | None,
    ) -> None:
        self.evidence = evidence
        self.suite = suite
        self.seed = seed
        self.seeds = [seed_for(seed, "attack", i) for i in range(seeds)]
        self.recogniser = recogniser
        self.targets: dict[str, TargetSummary] = {}
        self.records: list[Record] = []
        self.refusals: list[Doubt] = []
        self.certificates: list[Certificate] = []
        self.pictures: Reconstruction | None = None
        self.failed: dict[str, list[str]] = {}

    def steps(self, targets: Sequence[Target]) -> int:
        """Steps of progress that lie ahead."""
        ahead = len(self.suite.reconstruction) if RECONSTRUCTION in self.evidence.private else 0
        ahead += SCAN_STEPS if self.suite.scans and self.evidence.undeclared else 0
        for target in targets:
            fewer = fewer_draws(target) if target.role == "private" else []
            ahead += STEPS * (len(self.candidates(target)) + len(fewer))
        return ahead

    def candidates(self, target: Target) -> list[Candidate]:
        """The attackers of a target; of a part of it those of parts."""
        if target.role == "utility":
            return target.candidates(target.heads(self.suite.heads), target.feeds[:1])
        if target.part_of is not None:
            return target.candidates(self.suite.parts, target.feeds)
        return target.candidates(self.suite.attackers(target.kind), target.feeds)

    def private(self, target: Target) -> None:
        """Attack a private target and judge what was found."""
        candidates = self.candidates(target)
        trials = self.search(target, candidates, self.suite.plan)
        self.note_failures(target, candidates, trials)
        position = _worst(trials)
        worst = trials[position]
        few = [
            Candidate(worst.candidate.attack, target.knowledge(feed.z), feed.name, feed.draws)
            for feed in fewer_draws(target)
        ]
        trials += self.search(target, few, None, self.seeds[:1])
        floors = target.floors()
        ceiling = self.ceiling(target) if target.part_of is None else None
        floor = max((r.score for r in floors.values() if r.score), default=_chance(target))
        records = [self.record(target, trial, floor, ceiling) for trial in trials]
        if target.part_of is None:
            records[position] = self.judged(target, trials, position, records, floors, ceiling)
        self.records += [*records, *floors.values(), *([ceiling] if ceiling else [])]
        summary = TargetSummary(kind=target.record_kind, worst=records[position])
        self.targets[target.name] = summary

    def note_failures(
        self, target: Target, candidates: Sequence[Candidate], trials: Sequence[Trial]
    ) -> None:
        """Remember the attackers whose algebra broke down: their absence must not go unseen."""
        ran = {trial.candidate.name for trial in trials}
        broken = [c.name for c in candidates if c.name not in ran]
        if broken:
            self.failed[target.name] = broken

    def judged(
        self,
        target: Target,
        trials: Sequence[Trial],
        position: int,
        records: Sequence[Record],
        floors: Mapping[str, Record],
        ceiling: Record | None,
    ) -> Record:
        """The worst record with its certificate and doubts; refusals are kept."""
        bound = self.certify(target) if target.kind == "attribute" else None
        worst = records[position].model_copy(
            update={
                "certified": None if bound is None else bound.bound,
                "assumption": None if bound is None else bound.assumption,
                "reported": self.evidence.reported.get(target.name),
            }
        )
        doubts = doubts_about(target, trials, position, worst, records, self.seed)
        self.refusals += refusals_about(target, trials[position], worst, floors, ceiling, self.seed)
        return worst.model_copy(update={"doubts": doubts})

    def certify(self, target: Target) -> Certificate | None:
        """What is proved about a class label, and the one proof that bounds every attacker."""
        evidence = target.evidence
        every = np.concatenate([target.column[split] for split in ATTACK_SPLITS])
        if len(np.unique(target.column["test"])) < len(np.unique(every)):
            return None  # test's balanced accuracy is over fewer classes than a bound would be
        people = evidence.identity
        found = certificates_of(
            torch.cat([evidence.z[split] for split in ATTACK_SPLITS]),
            every,
            target.name,
            None if people is None else np.concatenate([people[s] for s in ATTACK_SPLITS]),
            evidence.mechanism,
            evidence.draws,
        )
        self.certificates += [c for c in found if c not in self.certificates]
        return certified(found)

    def useful(self, target: Target) -> None:
        """Measure what survives of a useful label: by its own head, and by fresh ones."""
        evidence = target.evidence
        trials = self.search(target, self.candidates(target), self.suite.plan)
        ceiling = self.ceiling(target)
        records = [self.record(target, trial, _chance(target), ceiling) for trial in trials]
        if target.name in evidence.answers:
            own = target.own_head(self.seed)
            update = {
                "floor": _chance(target),
                "ceiling": None if ceiling is None else ceiling.score,
            }
            records.insert(0, own.model_copy(update=update))
        reported = {"reported": self.evidence.reported.get(target.name)}
        records = [record.model_copy(update=reported) for record in records]
        self.records += [*records, *([ceiling] if ceiling else [])]
        whole = [record for record in records if "dropped" not in record.config]
        best = max(whole, key=lambda record: record.select or 0.0)
        self.targets[target.name] = TargetSummary(kind="utility", worst=best)

    def reconstruction(self) -> None:
        """Rebuild the pictures from their releases."""
        records, self.pictures = reconstruction_records(
            self.evidence,
            self.suite.reconstruction,
            self.recogniser,
            len(self.seeds),
            self.seed,
            self.advance,
            self.suite.heads["attribute"],
        )
        self.records += records
        rebuilt = [r for r in records if r.family == RECONSTRUCTION] or records[:1]
        best = max(rebuilt, key=lambda record: record.select or 0.0)
        self.targets[RECONSTRUCTION] = TargetSummary(kind="reconstruction", worst=best)

    def search(
        self,
        target: Target,
        candidates: Sequence[Candidate],
        plan: Plan | None,
        seeds: Sequence[int] | None = None,
    ) -> list[Trial]:
        """Run attackers of a target."""
        judge = partial(target.on_select, seed=self.seed)
        return search(candidates, judge, seeds or self.seeds, plan, self.advance)

    def record(self, target: Target, trial: Trial, floor: float, ceiling: Record | None) -> Record:
        """The record of one attacker."""
        candidate = trial.candidate
        record = target.record(
            candidate.name, candidate.attack.family, trial.guesses, self.seed, trial.learned
        )
        config = _config(candidate.attack) | {"draws": candidate.draws}
        if trial.share < 1:
            config["dropped"] = f"on select, after {trial.share:.0%} of its releases and time"
        record = record.model_copy(
            update={
                "floor": floor,
                "ceiling": None if ceiling is None else ceiling.score,
                "config": config,
            }
        )
        if target.kind == "attribute" and target.role == "private":
            nag = gain(target.evidence, target.name, record, ceiling)
            record = record.model_copy(update={"nag": nag})
        return with_floor_tests(record, floor)

    def ceiling(self, target: Target) -> Record | None:
        """The best attacker of the original images, remembered between audits of the same data."""
        evidence = target.evidence
        if evidence.originals is None:
            return None
        key = (
            evidence.originals_key,
            target.name,
            target.column,
            evidence.identity,  # people too: they decide the interval
            self.seed,
        )
        pictures: list[Feed] = []

        def measure(attack: Attack, networks: Mapping[str, nn.Module]) -> Record:
            assert evidence.originals is not None
            if not pictures:
                x = {split: evidence.originals(split) for split in ATTACK_SPLITS}
                pictures.append(Feed(Releases(x)))
            shown = replace(evidence, utility=(), answers={}, networks=networks)
            clean = replace(target, evidence=shown)
            knowledge = clean.knowledge(pictures[0].z)
            if why := attack.unfit_for(knowledge):
                raise VeilError(
                    f"{evidence.name}: '{attack.name}' cannot attack the originals: {why}"
                )
            guesses = run_seeds(attack, knowledge, self.seeds[:1])
            name = f"{attack.name} on the original images"
            return clean.record(name, "ceiling", guesses, self.seed)

        attacks = target.ceilings(self.suite.ceilings)
        records = [remembered((*key, attack), partial(measure, attack, {})) for attack in attacks]
        records += [measure(attack, evidence.networks) for attack in self._of_pictures(target)]
        best = max(records, key=lambda record: record.select or 0.0)
        return best.model_copy(update={"kind": target.record_kind})

    def _of_pictures(self, target: Target) -> list[Attack]:
        """The defender's adversary, where releases are pictures as the originals are.

        It may be the strongest attacker of such releases, so it must have read the originals too.
        """
        z, originals = target.evidence.z["test"], target.evidence.originals
        if target.role == "utility" or z.ndim != 4 or z.shape[1] not in (1, 3):
            return []
        if originals is None or originals("test").shape != z.shape:
            return []
        known = target.knowledge(target.evidence.z)
        return [
            attack
            for attack in self.suite.attackers(target.kind)
            if isinstance(attack, DefendersAdversary)
            and attack.start == "warm"
            and attack.unfit_for(known) is None
        ]


def _worst(trials: Sequence[Trial]) -> int:
    """The position of the highest score on select, of the attackers that ran in full."""
    whole = [i for i, trial in enumerate(trials) if trial.share == 1]
    return max(whole, key=lambda i: trials[i].best)


def _chance(target: Target) -> float:
    if target.kind == "attribute":
        return 1 / len(np.unique(target.column["test"]))
    return CHANCE_OF_A_PAIR if target.kind == "identity" else 0.0


def _provenance(evidence: Evidence, suite: Suite, seeds: int, seed: int) -> dict[str, Any]:
    return {
        **evidence.provenance,
        "private": list(evidence.private),
        "utility": list(evidence.utility),
        "suite": suite.name,
        "search": None if suite.plan is None else asdict(suite.plan),
        "attackers": {
            attack.name: _config(attack)
            for attack in (*suite.attribute, *suite.quantity, *suite.identity)
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
    }


def _config(attack: Attack | Inversion) -> dict[str, Any]:
    return asdict(attack)  # type: ignore[call-overload, no-any-return]
