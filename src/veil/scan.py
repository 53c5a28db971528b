"""A scan over labels that nobody declared: what else does the release tell?

Every class label beside the private and the useful ones is attacked, all at once, by the cheap set
of attackers in `attacks.multilabel`; the best on "select" is scored once on "test".

Among forty labels that do not leak, one would seem to at 95 %. So the intervals of a scan of L
labels are at level 1 - 0.05 / L (Bonferroni): with 95 % probability all of them hold at once, and
a label whose interval lies above its floor is a finding although it was one of many.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial

import numpy as np
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from veil.attacks.attack import AttackSplit, Ints
from veil.attacks.multilabel import Chosen, Labels, attack_all
from veil.ceilings import remembered
from veil.data.dataset import MISSING
from veil.evidence import ATTACK_SPLITS, Evidence
from veil.floors import floors, majority_accuracy
from veil.metrics import balanced_accuracy, nag, scores
from veil.progress import Advance
from veil.records import Record
from veil.scoring import balanced_bits
from veil.seeds import seed_for
from veil.statistics import interval_for

ERROR = 0.05  # probability that any interval of a scan misses
SIDE = 20  # original pictures are pooled to so many pixels a side


def scan(
    z: Mapping[AttackSplit, Tensor], evidence: Evidence, seed: int, advance: Advance
) -> list[Record]:
    """One record for each undeclared class label that varies in every split.

    Args:
        z: split -> (n, ...) the releases attacked: one draw, or the mean of several.
        evidence: labels, people, and the originals for the ceilings, which are remembered.
        seed: of networks and intervals.
        advance: told of each of the `multilabel.STAGES` attackers of the release.

    Returns:
        Records of kind "attribute", the largest excess over the floor first. `floor` is the higher
        of 1/K and the best map from a true useful label; `ceiling` the same attackers' score on the
        original images, pooled to 20 pixels a side; `interval` is simultaneous over the scan, its
        level in `config`.
    """
    names = [name for name in evidence.undeclared if _varies(evidence, name)]
    if not names:
        return []
    ceilings = _ceilings(evidence, names, seed)
    records = [
        _beside(evidence, record, ceilings.get(record.target))
        for record in _attacked(z, evidence, names, seed, advance)
    ]
    return sorted(records, key=_excess, reverse=True)


def _attacked(
    z: Mapping[AttackSplit, Tensor],
    evidence: Evidence,
    names: list[str],
    seed: int,
    advance: Advance,
) -> list[Record]:
    """The record of each label's best attacker, without floor and ceiling."""
    columns = [evidence.undeclared[name] for name in names]
    labels = Labels.of(
        [{"attack": column["attack"], "select": column["select"]} for column in columns],
        [_classes(evidence, name) for name in names],
    )
    chosen = attack_all(z, labels, seed_for(seed, "scan"), advance)
    level = 1 - ERROR / len(names)
    return [_record(evidence, n, c, seed, level) for n, c in zip(names, chosen, strict=True)]


def _record(evidence: Evidence, name: str, chosen: Chosen, seed: int, level: float) -> Record:
    rows, test = _known(evidence, name, "test")
    select_rows, select = _known(evidence, name, "select")
    guess = chosen.test[rows]
    found = scores(guess, test)
    people = None if evidence.identity is None else evidence.identity["test"][rows]
    return Record(
        target=name,
        kind="attribute",
        attack=chosen.attack,
        family="scan",
        metric="balanced_accuracy",
        score=found.pop("balanced_accuracy"),
        interval=interval_for(
            "balanced_accuracy",
            test,
            guess.argmax(axis=1),
            people,
            seed_for(seed, "interval"),
            level,
        ),
        select=balanced_accuracy(select, chosen.select[select_rows].argmax(axis=1)),
        scores=dict(found),
        n=len(test),
        bits=balanced_bits(guess, test),
        config={"level": level},
    )


def _beside(evidence: Evidence, record: Record, ceiling: Record | None) -> Record:
    """The same record with its floor and its ceiling."""
    name = record.target
    if ceiling is None:
        return record.model_copy(update={"floor": _floor(evidence, name)})
    majority = majority_accuracy(_known(evidence, name, "test")[1])
    gained, clean = record.scores["accuracy"], ceiling.scores["accuracy"]
    assert gained is not None
    assert clean is not None
    return record.model_copy(
        update={
            "floor": _floor(evidence, name),
            "ceiling": ceiling.score,
            "nag": nag(gained, majority, clean),
        }
    )


def _ceilings(evidence: Evidence, names: list[str], seed: int) -> dict[str, Record]:
    """The records of the same labels on the originals; none where those are not at hand."""
    originals = evidence.originals
    if originals is None:
        return {}

    @cache
    def measured() -> dict[str, Record]:
        pooled = {split: _pooled(originals(split)) for split in ATTACK_SPLITS}
        records = _attacked(pooled, evidence, names, seed, lambda _steps, _text: None)
        return {record.target: record for record in records}

    def measure(name: str) -> Record:
        return measured()[name]

    scanned = {name: evidence.undeclared[name] for name in names}
    key = (evidence.originals_key, "scan", scanned, evidence.identity, seed)
    return {name: remembered((*key, name), partial(measure, name)) for name in names}


def _pooled(x: Tensor) -> Tensor:
    return adaptive_avg_pool2d(x, (min(SIDE, x.shape[2]), min(SIDE, x.shape[3])))


def _floor(evidence: Evidence, name: str) -> float:
    """The higher of 1/K and the best map from a true useful label."""
    learn_rows, learn = _known(evidence, name, "attack", "select")
    test_rows, test = _known(evidence, name, "test")
    found = [1 / len(np.unique(test))]
    for task in evidence.utility:
        if task not in evidence.labels or not evidence.meaning[task].is_class:
            continue
        y = evidence.labels[task]
        learn_y = np.concatenate([y["attack"], y["select"]])[learn_rows]
        found.append(floors(learn_y, learn, y["test"][test_rows], test).highest)
    return max(found)


def _varies(evidence: Evidence, name: str) -> bool:
    """Whether at least two classes are known in every split."""
    if not evidence.meaning[name].is_class:
        return False
    return all(len(np.unique(_known(evidence, name, split)[1])) > 1 for split in ATTACK_SPLITS)


def _classes(evidence: Evidence, name: str) -> int:
    return 1 + max(int(column.max()) for column in evidence.undeclared[name].values())


def _known(evidence: Evidence, name: str, *splits: AttackSplit) -> tuple[Ints, Ints]:
    """The rows (of the splits one after the other) where a label is known, and its classes."""
    column = np.concatenate([evidence.undeclared[name][split] for split in splits])
    rows = np.flatnonzero(column != MISSING)
    return rows, column[rows]


def _excess(record: Record) -> float:
    assert record.score is not None
    assert record.floor is not None
    return record.score - record.floor
