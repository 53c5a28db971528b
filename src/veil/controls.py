"""Controls of the audit: shuffled labels must teach nothing, a planted leak must be found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from veil.attacks.attack import AttackSplit, Ints, Knowledge
from veil.attacks.features import prepare
from veil.attacks.linear import Logistic
from veil.metrics import balanced_accuracy, scores
from veil.seeds import seed_for
from veil.statistics import Interval

FEATURES = 256
SHUFFLES = 40
LEVEL = 0.999
RIDGE = 0.1


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
    from scipy.stats import t

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
    reach = t.ppf((1 + LEVEL) / 2, SHUFFLES - 1) * reached.std(ddof=1) / np.sqrt(SHUFFLES)
    return float(reached.mean() - reach), float(reached.mean() + reach)


def planted_score(knowledge: Knowledge, test: Ints, seed: int) -> float:
    """Balanced accuracy on test once the private label itself stands among the features."""
    rng = np.random.default_rng(seed_for(seed, "planted", knowledge.target))
    z = _few_features(knowledge, rng)
    s: dict[AttackSplit, Ints] = {
        "attack": knowledge.s["attack"],
        "select": knowledge.s["select"],
        "test": test,
    }

    def with_label(split: AttackSplit) -> Tensor:
        label = torch.nn.functional.one_hot(torch.from_numpy(s[split]), knowledge.classes)
        return torch.cat([z[split], label.float()], dim=1)

    planted = replace(knowledge, z={split: with_label(split) for split in z})
    return scores(Logistic("standardised").run(planted, seed).test, test)["balanced_accuracy"]


def _few_features(knowledge: Knowledge, rng: np.random.Generator) -> dict[AttackSplit, Tensor]:
    flat = {split: z.flatten(1) for split, z in knowledge.z.items()}
    chosen = np.sort(rng.permutation(flat["attack"].shape[1])[:FEATURES])
    return {split: z[:, torch.from_numpy(chosen)] for split, z in flat.items()}
