"""From scores to a guess: balanced classes, one temperature, and the criterion to choose by.

Every attribute attacker here answers the same question: how probable is each class *when all
classes are equally frequent*. So the most probable class is the one that maximises balanced
accuracy, and the held-out log-loss, with each class weighted equally, bounds the information.
Epochs, neighbours and penalties are chosen by that log-loss on "select" rather than by accuracy
there: it is smooth, so the best of many candidates is seldom the luckiest.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from veil.attacks.attack import AttackSplit, Floats, Guess, Ints, Knowledge

# Inverse temperatures tried: from nearly uniform guesses to ten times as bold.
SHARPNESS = torch.logspace(-3, 1, 33)


def class_weights(s: Tensor, classes: int) -> Tensor:
    """(K,) weights of examples by class, mean 1 over `s`, so that classes count equally.

    A class that does not occur weighs nothing.
    """
    counts = torch.bincount(s, minlength=classes).float()
    present = counts > 0
    return torch.where(present, len(s) / (counts.clamp_min(1) * present.sum()), 0.0)


def balanced_log_loss(logits: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Log-loss at the best temperature, each class weighing the same.

    Args:
        logits: (..., n, K) scores; leading axes are candidates compared on the same rows.
        s: (n,) true classes.

    Returns:
        Losses (...) in nats, at most about log K; and the inverse temperatures (...) that give
        them.
    """
    weights = class_weights(s, logits.shape[-1])[s] / len(s)
    # Classes first: a sum over few classes is fast along a row, not in one.
    scores = (logits - logits.amax(-1, keepdim=True)).movedim(-1, 0).contiguous()
    right = scores.gather(0, s.expand(scores.shape[1:]).unsqueeze(0)).squeeze(0)
    losses = []
    for sharpness in SHARPNESS.tolist():
        losses.append(((scores * sharpness).exp_().sum(0).log_() - right * sharpness) @ weights)
    best, index = torch.stack(losses).min(0)
    return best, SHARPNESS[index]


def guess_from(logits: Mapping[AttackSplit, Tensor], knowledge: Knowledge) -> Guess:
    """Log-probabilities under equal class priors, at the temperature that suits "select".

    Args:
        logits: split -> (n, K) scores, for all three splits.
        knowledge: what the attacker held; only its select labels are read.
    """
    s = torch.from_numpy(knowledge.s["select"])
    _, sharpness = balanced_log_loss(logits["select"].float(), s)

    def rows(split: AttackSplit) -> Floats:
        scores = torch.nan_to_num(logits[split].float(), nan=0.0, posinf=1e4, neginf=-1e4)
        scaled: Floats = (scores * sharpness).log_softmax(-1).clamp_min(-60.0).numpy()
        return scaled

    return Guess(rows("attack"), rows("select"), rows("test"))


def likelihood_table(code: Ints, s: Ints, codes: int, classes: int) -> Tensor:
    """(codes, K) log P(code | s), counted with half a count added to every cell."""
    counts = np.full((codes, classes), 0.5)
    np.add.at(counts, (code, s), 1.0)
    return torch.from_numpy(np.log(counts / counts.sum(0))).float()
