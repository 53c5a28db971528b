"""What is measured only to judge a figure: learning curves, controls, and what they say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from veil.attacks.defenders import DefendersAdversary
from veil.attacks.search import Candidate, Trial, part_of
from veil.controls import (
    Control,
    attribute_controls,
    identity_controls,
    quantity_controls,
    relearned_from_shuffled,
)
from veil.doubts import Circumstances, about_worst, refusals_of
from veil.records import Doubt, Record
from veil.scoring import balanced, log_softmax
from veil.seeds import seed_for
from veil.targets import Target

DEFENDERS = DefendersAdversary.family


class Curve(NamedTuple):
    """What the worst attacker gained on select, at the end.

    Attributes:
        data: from the second half of its releases.
        training: from the second half of its training; None where it is solved, not trained.
    """

    data: float | None
    training: float | None


def doubts_about(
    target: Target,
    trials: Sequence[Trial],
    position: int,
    worst: Record,
    records: Sequence[Record],
    seed: int,
) -> tuple[Doubt, ...]:
    """Everything that is doubtful about the worst attacker's figure.

    Args:
        target: private.
        trials, records: of all its attackers, in the same order; `position` is the worst's.
        worst: its record, with floor, ceiling and certificate.
        seed: of the audit.
    """
    evidence = target.evidence
    curve = learning_curve(target, trials[position], seed)
    adversary = evidence.adversary.get(target.name)
    if target.kind != "attribute":
        adversary = None
    return about_worst(
        worst,
        records,
        Circumstances(
            random=evidence.random,
            draws=evidence.draws,
            batch_dependence=evidence.batch_dependence,
            rows_left_out=bool(evidence.provenance.get("rows left out")),
            adversary=(
                None
                if adversary is None
                else balanced(log_softmax(adversary), target.column["test"])
            ),
            same_architecture=trials[position].candidate.attack.family == DEFENDERS,
            more_data=curve.data,
            more_training=curve.training,
        ),
    )


def refusals_about(
    target: Target,
    trial: Trial,
    worst: Record,
    floors: Mapping[str, Record],
    ceiling: Record | None,
    seed: int,
) -> tuple[Doubt, ...]:
    """Why no verdict on a private target may be given; empty when one may."""
    control = _controls(target, seed)
    peeks = None
    # The defender's adversary knows true labels before it sees the attacker's.
    if target.kind == "attribute" and trial.candidate.attack.family != DEFENDERS:
        peeks = relearned_from_shuffled(trial.candidate, target.column["test"], seed)
    return refusals_of(
        worst,
        ceiling,
        chance=control.chance,
        copy=None if (copy := floors.get("copy floor")) is None else copy.score,
        shuffled=control.shuffled,
        planted=control.planted,
        peeks=peeks,
    )


def learning_curve(target: Target, trial: Trial, seed: int) -> Curve:
    """How much the attacker still gained from the last half of its data, and of its training."""
    candidate = trial.candidate
    attack, knowledge = candidate.attack, candidate.knowledge
    if attack.family in ("constant", "copying", DEFENDERS):
        return Curve(None, None)
    first = seed_for(seed, "attack", 0)

    def reached(shorter: Candidate) -> float:
        guess = shorter.attack.run(shorter.knowledge, first)
        return target.on_select(guess, seed)

    fewer = part_of(knowledge, 0.5, seed)
    data = None
    if attack.unfit_for(fewer) is None and _varies(target, fewer.s["attack"]):
        data = trial.select[0] - reached(Candidate(attack, fewer))
    shorter = attack.shortened(0.5)
    if shorter == attack:
        return Curve(data, None)
    return Curve(data, trial.select[0] - reached(Candidate(shorter, knowledge)))


def _varies(target: Target, s: np.ndarray) -> bool:
    classes = len(np.unique(s))
    return classes == len(np.unique(target.column["attack"])) or target.kind != "attribute"


def _controls(target: Target, seed: int) -> Control:
    knowledge, test = target.knowledge(target.feeds[0].z), target.column["test"]
    if target.kind == "identity":
        return identity_controls(knowledge, test, seed)
    if target.kind == "quantity":
        return quantity_controls(knowledge, test, seed)
    return attribute_controls(knowledge, test, seed)
