"""From an attacker's guesses to a record: chosen on select, scored once on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from veil.attacks.attack import Floats, Guess, Ints
from veil.attacks.pairs import score_matching
from veil.evidence import Columns, Evidence
from veil.floors import floors, majority_accuracy
from veil.metrics import cross_entropy_bits, nag, scores
from veil.pair_statistics import pair_interval
from veil.records import Record, RecordKind
from veil.seeds import seed_for
from veil.statistics import (
    auc_interval,
    floor_tests,
    interval_for,
    people_of,
)


def class_record(
    evidence: Evidence,
    name: str,
    kind: RecordKind,
    attack: str,
    family: str,
    guesses: Sequence[Guess],
    seed: int,
) -> Record:
    """The record of a class label's attacker from its guesses, one per seed.

    The seed with the best balanced accuracy on select is scored on test; `spread` is the standard
    deviation over the seeds on select, so that test is scored once. Beside the metrics, `scores`
    holds the 95 % intervals of accuracy and AUC ("accuracy_low", "accuracy_high", "auc_low",
    "auc_high"), the one-sided 95 % bound "bits_low", and the score on "train".
    """
    s = evidence.labels[name]
    on_select = [balanced(guess.select, s["select"]) for guess in guesses]
    guess = guesses[int(np.argmax(on_select))]
    test = s["test"]
    found = scores(guess.test, test)
    people = None if evidence.identity is None else evidence.identity["test"]
    predicted, interval_seed = guess.test.argmax(axis=1), seed_for(seed, "interval")
    low, high = interval_for("accuracy", test, predicted, people, interval_seed)
    beside = {"accuracy_low": low, "accuracy_high": high}
    if "auc" in found:
        low, high = auc_interval(test, guess.test, people)
        beside |= {"auc_low": low, "auc_high": high}
    beside["bits_low"] = balanced_bits_low(guess.test, test, people)
    return Record(
        target=name,
        kind=kind,
        attack=attack,
        family=family,
        metric="balanced_accuracy",
        score=found.pop("balanced_accuracy"),
        interval=interval_for("balanced_accuracy", test, predicted, people, interval_seed),
        select=max(on_select),
        scores={**found, **beside, "train": balanced(guess.attack, s["attack"])},
        n=len(test),
        seeds=len(guesses),
        spread=float(np.std(on_select)) if len(guesses) > 1 else None,
        bits=balanced_bits(guess.test, test),
    )


def matching_record(
    identity: Columns,
    kind: RecordKind,
    attack: str,
    family: str,
    guesses: Sequence[Guess],
    seed: int,
) -> Record:
    """The record of a matcher from its embeddings, one per seed; pairs are the same for all."""
    metric: Final = "verification_accuracy"
    pairs_seed = seed_for(seed, "pairs")
    matched = [
        score_matching(guess, identity["select"], identity["test"], pairs_seed) for guess in guesses
    ]
    best = max(matched, key=lambda m: m.select)
    found = dict(best.scores)
    interval_seed = seed_for(seed, "interval")
    low, high = pair_interval(
        "auc", best.same, best.distance, best.threshold, best.people, interval_seed
    )
    return Record(
        target="identity",
        kind=kind,
        attack=attack,
        family=family,
        metric=metric,
        score=found.pop(metric),
        interval=pair_interval(
            metric, best.same, best.distance, best.threshold, best.people, interval_seed
        ),
        select=best.select,
        scores={**found, "auc_low": low, "auc_high": high},
        n=len(best.same),
        seeds=len(guesses),
        spread=float(np.std([m.select for m in matched])) if len(matched) > 1 else None,
    )


def own_head_record(evidence: Evidence, name: str, seed: int) -> Record:
    """How well the public task head, which came with the release, does its task."""
    answers = evidence.answers[name]
    own = "own head"
    if name == "identity":
        assert evidence.identity is not None
        guess = Guess(answers["attack"], answers["select"], answers["test"])
        return matching_record(evidence.identity, "utility", own, own, [guess], seed)
    log_p = {split: log_softmax(logits) for split, logits in answers.items()}
    guess = Guess(log_p["attack"], log_p["select"], log_p["test"])
    return class_record(evidence, name, "utility", own, own, [guess], seed)


def floor_records(evidence: Evidence, name: str) -> dict[str, Record]:
    """The floors under any attack on `name`: "majority", "label only" and "copy floor".

    Where several useful labels are known, each floor is the highest over them.
    """
    s = evidence.labels[name]
    learn_s = np.concatenate([s["attack"], s["select"]])
    best: dict[str, float] = {"majority": 1 / len(np.unique(s["test"]))}
    for task in evidence.utility:
        if task not in evidence.labels or not evidence.meaning[task].is_class:
            continue
        y, answer = evidence.labels[task], evidence.answers.get(task)
        found = floors(
            np.concatenate([y["attack"], y["select"]]),
            learn_s,
            y["test"],
            s["test"],
            None if answer is None else answer["test"].argmax(axis=1).astype(np.int64),
        )
        for key, value in {"label only": found.label_only, "copy floor": found.copy}.items():
            if value is not None:
                best[key] = max(value, best.get(key, 0.0))
    return floor_rows(name, "balanced_accuracy", best, len(s["test"]))


def floor_rows(target: str, metric: str, scores: Mapping[str, float], n: int) -> dict[str, Record]:
    """The records of floors, by name."""
    return {
        name: Record(
            target=target,
            kind="attribute",
            attack=name,
            family="floor",
            metric=metric,
            score=score,
            interval=None,
            n=n,
        )
        for name, score in scores.items()
    }


def with_floor_tests(record: Record, floor: float) -> Record:
    """The record with its floor, and with how its score stands to it.

    `scores` gains "p_above_floor" and "equivalent_within" (see `statistics.floor_tests`); both are
    left out where there is no score or no interval.
    """
    scores = dict(record.scores)
    if record.score is not None and record.interval is not None:
        p, margin = floor_tests(record.interval, record.score, floor)
        scores |= {"p_above_floor": p, "equivalent_within": margin}
    return record.model_copy(update={"floor": floor, "scores": scores})


def gain(evidence: Evidence, name: str, record: Record, ceiling: Record | None) -> float | None:
    """The normalised accuracy gain of a record; None without a ceiling."""
    accuracy = record.scores.get("accuracy")
    clean = None if ceiling is None else ceiling.scores.get("accuracy")
    if accuracy is None or clean is None:
        return None
    return nag(accuracy, majority_accuracy(evidence.labels[name]["test"]), clean)


def balanced_bits(log_probs: Floats, labels: Ints) -> float:
    """Bits about a label of equally frequent classes that a guess shows on held-out rows.

    log2 K minus the cross entropy, each class weighing the same: a lower bound, in expectation, of
    the mutual information between the release and the label if all classes were equally frequent.

    Args:
        log_probs: (n, K) natural logarithms, under equal class priors.
        labels: (n,) classes.
    """
    present = np.unique(labels)
    losses = [cross_entropy_bits(log_probs[labels == k], labels[labels == k]) for k in present]
    return max(0.0, float(np.log2(len(present)) - np.mean(losses)))


def balanced_bits_low(log_probs: Floats, labels: Ints, people: Ints | None) -> float:
    """The one-sided 95 % lower bound of `balanced_bits`, over people.

    The mean loss of each class is a ratio of sums over people; its variance is linearised, with
    Student's t. What a few rows cannot show is a confident mistake: so each class gets one more
    person of its mean size, whose true class was the likeliest of the wrong ones. That is dear for
    those who boast and nearly free for those who do not.

    Args:
        log_probs: (n, K) natural logarithms, under equal class priors.
        labels: (n,) classes.
        people: (n,) identities, -1 where unknown; None where all are.
    """
    from scipy.stats import t

    present, column = np.unique(labels, return_inverse=True)
    units, k = people_of(people, len(labels)), len(present)
    row, m = np.arange(len(labels)), int(units.max()) + 1
    surprise = np.minimum(-log_probs.astype(np.float64), np.finfo(np.float32).max) / np.log(2)
    others = surprise.copy()
    others[row, labels] = np.inf
    rows, loss = np.zeros((m, k)), np.zeros((m, k))
    np.add.at(rows, (units, column), 1)
    np.add.at(loss, (units, column), surprise[row, labels])
    holders = np.count_nonzero(rows, axis=0)
    mistake = np.bincount(column, weights=others.min(axis=1)) / holders
    rows = np.vstack([rows, np.diag(rows.sum(axis=0) / holders)])
    loss = np.vstack([loss, np.diag(mistake)])
    mean = loss.sum(axis=0) / rows.sum(axis=0)
    influence = (loss - mean * rows) / rows.sum(axis=0) / k
    of_class = np.square(influence).sum(axis=0)
    variance = np.square(influence.sum(axis=1)).sum() * (m + 1) / m
    if variance == 0:
        return max(0.0, float(np.log2(k) - mean.mean()))
    freedom = of_class.sum() ** 2 / (np.square(of_class) / np.maximum(holders - 1, 1)).sum()
    reach = t.ppf(0.95, freedom) * np.sqrt(variance)
    return max(0.0, float(np.log2(k) - mean.mean() - reach))


def balanced(log_probs: Floats, labels: Ints) -> float:
    """Balanced accuracy of the most probable class."""
    return scores(log_probs, labels)["balanced_accuracy"]


def log_softmax(logits: Floats) -> NDArray[np.float32]:
    """(n, K) log-probabilities of logits."""
    log_p: NDArray[np.float32] = torch.from_numpy(logits).log_softmax(dim=1).numpy()
    return log_p
