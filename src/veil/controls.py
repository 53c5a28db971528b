"""Controls of the audit: shuffled labels must teach nothing, a planted leak must be found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from veil.attacks.attack import AttackSplit, Ints, Knowledge
from veil.attacks.features import prepare
from veil.attacks.linear import Logistic
from veil.attacks.matching import LinearDiscriminant
from veil.attacks.pairs import score_matching
from veil.attacks.regression import Ridge
from veil.attacks.search import Candidate, part_of
from veil.metrics import balanced_accuracy, scores
from veil.quantity_metrics import r2
from veil.seeds import seed_for
from veil.statistics import Interval

FEATURES = 256
SHUFFLES = 40
LEVEL = 0.999
RIDGE = 0.1
RELEARNED = 8
RETRIED = 16  # chance alone lets an honest attacker win all of them once in 2^16
CODE = 16


@dataclass(frozen=True)
class Control:
    """Two experiments whose outcome is known beforehand.

    Attributes:
        chance: the score of knowing nothing, in the target's own metric.
        shuffled: interval of the score once labels are shuffled; must reach down to chance.
        planted: the score once the answer itself stands among the features; must be high.
    """

    chance: float
    shuffled: Interval
    planted: float


def attribute_controls(knowledge: Knowledge, test: Ints, seed: int) -> Control:
    """The controls of a class label, in balanced accuracy.

    Args:
        knowledge: what an attacker holds.
        test: (n,) true classes of test.
        seed: of the shuffles.
    """
    return Control(
        chance=1 / len(np.unique(test)),
        shuffled=shuffled_interval(knowledge, test, seed),
        planted=planted_score(knowledge, test, seed),
    )


def quantity_controls(knowledge: Knowledge, test: NDArray[np.float32], seed: int) -> Control:
    """The controls of a quantity, in R2; the arguments are those of `attribute_controls`."""
    rng = np.random.default_rng(seed_for(seed, "controls", knowledge.target))
    z = _few_features(knowledge, rng)
    s = _with_test(knowledge, test)
    mean, spread = float(s["attack"].mean()), float(s["attack"].std()) or 1.0

    def explained(features: dict[AttackSplit, Tensor], about: Knowledge) -> float:
        guess = Ridge().run(replace(about, z=features), seed)
        return r2(test, guess.test[:, 0], mean)

    answers = {k: torch.from_numpy((v - mean) / spread).float()[:, None] for k, v in s.items()}
    planted = {split: torch.cat([z[split], answers[split]], 1) for split in z}
    reached = []
    for _ in range(RELEARNED):
        shuffled = {split: rng.permutation(v) for split, v in knowledge.s.items()}
        reached.append(explained(z, replace(knowledge, s=shuffled)))
    return Control(
        chance=0.0,
        shuffled=_mean_interval(np.array(reached)),
        planted=explained(planted, knowledge),
    )


def identity_controls(knowledge: Knowledge, test: Ints, seed: int) -> Control:
    """The controls of identity, in verification accuracy of a linear discriminant.

    Shuffled: the people of "attack" change their pictures among themselves, and so do those of
    "test". Planted: everybody's pictures carry a code of their own.
    """
    rng = np.random.default_rng(seed_for(seed, "controls", knowledge.target))
    z = _few_features(knowledge, rng)
    s = _with_test(knowledge, test)

    def verified(features: dict[AttackSplit, Tensor], people: dict[AttackSplit, Ints]) -> float:
        about = replace(
            knowledge, z=features, s={"attack": people["attack"], "select": people["select"]}
        )
        guess = LinearDiscriminant().run(about, seed)
        matched = score_matching(guess, people["select"], people["test"], seed)
        return matched.scores["verification_accuracy"]

    def code(people: Ints) -> Tensor:
        _, number = np.unique(people, return_inverse=True)
        codes = 4 * rng.standard_normal((number.max() + 1, CODE))
        return torch.from_numpy(codes[number]).float()

    planted = {split: torch.cat([z[split], code(s[split])], 1) for split in z}
    reached = [
        verified(z, {split: rng.permutation(people) for split, people in s.items()})
        for _ in range(RELEARNED)
    ]
    return Control(
        chance=0.5, shuffled=_mean_interval(np.array(reached)), planted=verified(planted, s)
    )


def relearned_from_shuffled(candidate: Candidate, test: Ints, seed: int) -> float:
    """The lowest balanced accuracy on test of an attacker that learned shuffled labels.

    The attacker itself is tried here, not a stand-in: one that sees labels of test through a fault
    of its own beats chance every time. An honest one does so half the time in each, whatever the
    release looks like, since classes change their names too; so the first shuffle that does not
    beat chance ends the trial, and sixteen that do convict.

    Args:
        candidate: the attacker; it runs on a part of its releases.
        test: (n,) true classes of test.
    """
    rng = np.random.default_rng(seed_for(seed, "relearned", candidate.name))
    rows = len(candidate.knowledge.s["attack"])
    share = min(1.0, max(0.25, 500 / rows))
    attack = candidate.attack.shortened(share)
    part = part_of(candidate.knowledge, share, seed)  # one part, prepared once for all shuffles
    lowest = 1.0
    for i in range(RETRIED):
        names = rng.permutation(part.classes)
        s = {split: rng.permutation(names[v]) for split, v in part.s.items()}
        guess = attack.run(replace(part, s=s), seed_for(seed, "relearned", i))
        lowest = min(lowest, balanced_accuracy(test, guess.test.argmax(axis=1)))
        if lowest <= 1 / part.classes:
            break
    return lowest


def shuffled_interval(knowledge: Knowledge, test: Ints, seed: int) -> Interval:
    """Balanced accuracy on test of attackers trained on shuffled labels, and its 99.9 % interval.

    One shuffle proves nothing: a random direction in the releases agrees with any label a little,
    for better or worse. The mean over many shuffles must be chance. Classes change their names in
    each shuffle, which makes it so whatever the shape of the releases: with rare classes and long
    tails, permuted labels alone would favour one direction. All are fitted at once, by ridge
    regression onto the classes.

    Args:
        knowledge: what the attacker holds.
        test: (n,) true classes of test.
        seed: of the shuffles.
    """
    rng = np.random.default_rng(seed_for(seed, "shuffled", knowledge.target))
    z = prepare(_few_features(knowledge, rng), "standardised")
    s, x = knowledge.s["attack"], z["attack"].double()
    k = knowledge.classes
    targets = np.concatenate(
        [np.eye(k)[rng.permutation(k)[rng.permutation(s)]] for _ in range(SHUFFLES)], axis=1
    )
    frequency = targets.mean(axis=0)
    y = torch.from_numpy((targets - frequency) / np.maximum(frequency, 1e-9))
    gram = x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    answers = z["test"].double() @ torch.linalg.solve(gram, x.T @ y)
    guesses = answers.reshape(len(test), SHUFFLES, k).argmax(dim=2).numpy()
    reached = np.array([balanced_accuracy(test, guesses[:, i]) for i in range(SHUFFLES)])
    return _mean_interval(reached)


def planted_score(knowledge: Knowledge, test: Ints, seed: int) -> float:
    """Balanced accuracy on test once the private label itself stands among the features."""
    rng = np.random.default_rng(seed_for(seed, "planted", knowledge.target))
    z = _few_features(knowledge, rng)
    s = _with_test(knowledge, test)

    def with_label(split: AttackSplit) -> Tensor:
        label = torch.nn.functional.one_hot(torch.from_numpy(s[split]), knowledge.classes)
        return torch.cat([z[split], label.float()], dim=1)

    planted = replace(knowledge, z={split: with_label(split) for split in z})
    return scores(Logistic("standardised").run(planted, seed).test, test)["balanced_accuracy"]


def _mean_interval(reached: NDArray[np.float64]) -> Interval:
    """The 99.9 % interval of the mean of what shuffles reached."""
    from scipy.stats import t

    count = len(reached)
    reach = t.ppf((1 + LEVEL) / 2, count - 1) * reached.std(ddof=1) / np.sqrt(count)
    return float(reached.mean() - reach), float(reached.mean() + reach)


def _with_test(knowledge: Knowledge, test: NDArray[Any]) -> dict[AttackSplit, NDArray[Any]]:
    """The labels of all three splits: more than any attacker is given."""
    return {"attack": knowledge.s["attack"], "select": knowledge.s["select"], "test": test}


def _few_features(knowledge: Knowledge, rng: np.random.Generator) -> dict[AttackSplit, Tensor]:
    flat = {split: z.flatten(1) for split, z in knowledge.z.items()}
    chosen = np.sort(rng.permutation(flat["attack"].shape[1])[:FEATURES])
    return {split: z[:, torch.from_numpy(chosen)] for split, z in flat.items()}
