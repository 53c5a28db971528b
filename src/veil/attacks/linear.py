"""Multinomial logistic regression over any preparation of the release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from veil.attacks.attack import Guess, Kind, Knowledge, Whole
from veil.attacks.decisions import balanced_log_loss, class_weights, guess_from
from veil.attacks.features import Preparation, Splits, prepare

PENALTIES = (0.3, 0.1, 0.03, 3e-3, 3e-4)


@dataclass(frozen=True)
class Logistic(Whole):
    """Logistic regression with the penalty chosen on "select".

    Attributes:
        preparation: what it sees (see `features.prepare`).
        penalties: weights of the squared norm, strong to weak; each starts where the last
            ended, and the path ends when two running brought nothing on "select".
        iterations: L-BFGS iterations for each.
    """

    preparation: Preparation = "standardised"
    penalties: tuple[float, ...] = PENALTIES
    iterations: int = 25

    family: ClassVar[str] = "linear"
    kind: ClassVar[Kind] = "attribute"
    seeded: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"logistic {self.preparation}"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x = prepare(knowledge.z, self.preparation)
        return logistic_guess(x, knowledge, self.penalties, self.iterations)


def logistic_guess(
    x: Splits,
    knowledge: Knowledge,
    penalties: tuple[float, ...] = PENALTIES,
    iterations: int = 25,
) -> Guess:
    """Fit on features split -> (n, d) and guess; the penalty is chosen on "select"."""
    s = torch.from_numpy(knowledge.s["attack"])
    s_select = torch.from_numpy(knowledge.s["select"])
    weight = torch.zeros(x["attack"].shape[1], knowledge.classes)
    bias = torch.zeros(knowledge.classes)
    best_loss, best, idle = float("inf"), (weight, bias), 0
    for penalty in penalties:
        weight, bias = _fit(x["attack"], s, weight, bias, penalty, iterations)
        loss = balanced_log_loss(x["select"] @ weight + bias, s_select)[0].item()
        idle = 0 if loss < best_loss else idle + 1
        if loss < best_loss:
            best_loss, best = loss, (weight, bias)
        if idle == 2:
            break
    weight, bias = best
    return guess_from({split: v @ weight + bias for split, v in x.items()}, knowledge)


def _fit(
    x: Tensor, s: Tensor, weight: Tensor, bias: Tensor, penalty: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """Minimise class-balanced cross-entropy + penalty/2 |weight|^2 from a given start."""
    balance = class_weights(s, bias.shape[0])
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=iterations, tolerance_change=1e-6, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = cross_entropy(x @ weight + bias, s, balance)
        loss = loss + 0.5 * penalty * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
