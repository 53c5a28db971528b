"""Gradient-boosted trees: thresholds on single features, and whatever few of them say together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from veil.attacks.attack import AttackSplit, Floats, Guess, Kind, Knowledge
from veil.attacks.decisions import balanced_log_loss, guess_from
from veil.attacks.features import Preparation, Splits, prepare, whiten

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

CHOICES = 40  # numbers of rounds compared on "select"
TREES: Final[dict[str, Any]] = {  # what boosting of classes and of quantities have in common
    "max_leaf_nodes": 15,
    "max_bins": 63,
    "l2_regularization": 1.0,
    "early_stopping": False,
    "warm_start": True,
    "random_state": 0,
}


@dataclass(frozen=True)
class Boosting:
    """Histogram gradient boosting, its rounds chosen on "select".

    The trees are fitted to the classes as frequent as they are and their probabilities divided by
    those frequencies: weights on the examples would make scikit-learn many times slower.

    Attributes:
        preparation: what the trees see.
        features: at most so many features are given to the trees: those whose class means differ
            most on "attack" (one-way F statistic), and a quarter of principal directions.
        rounds: most boosting rounds; a quarter of them where the second half of that quarter
            brought nothing.
        learning_rate: shrinkage of each round.
    """

    preparation: Preparation = "standardised"
    features: int = 192
    rounds: int = 200
    learning_rate: float = 0.1

    family: ClassVar[str] = "boosting"
    kind: ClassVar[Kind] = "attribute"
    seeded: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"boosting {self.preparation}"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        one = len(set(knowledge.s["attack"].tolist())) < 2
        return "trees need two classes in attack" if one else None

    def shortened(self, share: float) -> Boosting:
        return replace(self, rounds=max(1, round(self.rounds * share)))

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x = prepare(knowledge.z, self.preparation)
        return boosted_guess(x, knowledge, self.features, self.rounds, self.learning_rate)


def boosted_guess(
    x: Splits,
    knowledge: Knowledge,
    features: int = 192,
    rounds: int = 200,
    learning_rate: float = 0.1,
) -> Guess:
    """Boost trees on features split -> (n, d) and guess."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    if x["attack"].shape[1] > features:
        s = torch.from_numpy(knowledge.s["attack"])
        x = strongest(x, _f_statistic(x["attack"], s, knowledge.classes), features)
    known = {split: v.numpy() for split, v in x.items()}
    model = HistGradientBoostingClassifier(learning_rate=learning_rate, **TREES)
    counts = np.bincount(knowledge.s["attack"], minlength=knowledge.classes)
    frequency = (counts / counts.sum()).astype(np.float32)
    s_select = torch.from_numpy(knowledge.s["select"])
    step = max(1, rounds // CHOICES)
    for grown in (max(step, rounds // 4), rounds):
        model.set_params(max_iter=grown)
        model.fit(known["attack"], knowledge.s["attack"])
        grows = islice(_staged(model, known["select"], frequency), step - 1, None, step)
        losses, _ = balanced_log_loss(torch.stack(list(grows)), s_select)
        best = step * (int(losses.argmin()) + 1)
        if best <= grown // 2:
            break
    return guess_from(
        {
            split: next(islice(_staged(model, v, frequency), best - 1, None))
            for split, v in known.items()
        },
        knowledge,
    )


def _staged(
    model: HistGradientBoostingClassifier, x: Floats, frequency: Floats
) -> Iterator[Tensor]:
    """After each round (n, K) scores under equal priors; small ones of classes never seen."""
    for seen in model.staged_predict_proba(x):
        probability = np.full((len(x), len(frequency)), 1e-6, dtype=np.float32)
        probability[:, model.classes_] = seen.clip(1e-6) / frequency[model.classes_]
        yield torch.from_numpy(np.log(probability))


def strongest(x: Splits, strength: Tensor, count: int) -> dict[AttackSplit, Tensor]:
    """`count` of the features (n, d) of greatest `strength` (d,), a quarter principal directions.

    So that trees are given what they can grow on in bearable time.
    """
    directions = whiten(x)
    leading = min(count // 4, directions["attack"].shape[1])
    chosen = strength.topk(count - leading).indices
    return {
        split: torch.cat([v[:, chosen], directions[split][:, :leading]], 1)
        for split, v in x.items()
    }


def _f_statistic(x: Tensor, s: Tensor, classes: int) -> Tensor:
    """(d,) variance of class means over the variance within classes, up to a common factor."""
    groups = one_hot(s, classes).float()
    counts = groups.sum(0).clamp_min(1).unsqueeze(1)
    means = groups.T @ x / counts
    between = ((means - x.mean(0)).square() * counts).sum(0)
    within = (x - means[s]).square().sum(0)
    return between / within.clamp_min(1e-12)
