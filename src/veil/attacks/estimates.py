"""From releases to estimates of a quantity: linear, by trees, by neighbours, by a network.

All learn from the quantity at zero mean and unit deviation. Whatever scale their estimates have,
the line that fits "select" best brings them to the label's own units, and they stay within the
values seen in "attack". As with classes, candidates are compared after that last step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from veil.attacks.attack import AttackSplit, Floats, Guess, Knowledge
from veil.attacks.boosting import TREES, strongest
from veil.attacks.convolution import is_picture
from veil.attacks.features import Splits
from veil.attacks.neighbours import nearest
from veil.attacks.training import Cycle, answers, fastest_device, fit, in_chunks, placed
from veil.augmentation import flipped
from veil.precision import Precision, autocast

PENALTIES = tuple(10 ** (power / 2) for power in range(6, -9, -1))  # 1000 to 0.0001


def line(estimates: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The straight line from estimates to the quantity with the least squared error.

    Lines that fall are not allowed: an estimate that points the wrong way on "select" is worth no
    more than the mean.

    Args:
        estimates: (..., n) numbers of any scale; s: (n,) true values.

    Returns:
        Mean squared errors, slopes and offsets, each (...).
    """
    estimates, s = estimates.double(), s.double()
    mean = estimates.mean(-1, keepdim=True)
    centred, target = estimates - mean, s - s.mean()
    covariance, variance = (centred * target).mean(-1), centred.square().mean(-1)
    slope = (covariance / variance.clamp_min(1e-20)).clamp_min(0.0)
    error = (target - slope.unsqueeze(-1) * centred).square().mean(-1)
    return error, slope, s.mean() - slope * mean.squeeze(-1)


def guess_of(estimates: Mapping[AttackSplit, Tensor], knowledge: Knowledge) -> Guess:
    """The guess from estimates split -> (n,) of any scale: in the label's units."""
    return chosen_guess({split: v.unsqueeze(0) for split, v in estimates.items()}, knowledge)


def chosen_guess(estimates: Mapping[AttackSplit, Tensor], knowledge: Knowledge) -> Guess:
    """The guess of the candidate with the least squared error on "select".

    Args:
        estimates: split -> (m, n) estimates of m candidates, of any scale.
        knowledge: what the attacker held; only its labels are read.
    """
    errors, slopes, offsets = line(estimates["select"], torch.from_numpy(knowledge.s["select"]))
    best = int(errors.argmin())
    low, high = float(knowledge.s["attack"].min()), float(knowledge.s["attack"].max())

    def rows(split: AttackSplit) -> Floats:
        fitted = offsets[best] + slopes[best] * estimates[split][best].double()
        column: Floats = fitted.clamp(low, high).float().unsqueeze(1).numpy()
        return column

    return Guess(rows("attack"), rows("select"), rows("test"))


def standard_target(knowledge: Knowledge) -> Tensor:
    """(n,) the quantity of "attack" at zero mean and unit deviation; zeros where it is constant."""
    s = torch.from_numpy(knowledge.s["attack"]).double()
    return ((s - s.mean()) / s.std(correction=0).clamp_min(1e-12)).float()


def ridge_path(x: Tensor, targets: Tensor, penalties: tuple[float, ...]) -> Iterator[Tensor]:
    """(d, k) minimisers of |x w - targets|^2 / n + penalty |w|^2, for each penalty in turn.

    Solved in double precision, through the (n, n) products of rows where those are the fewer.

    Args:
        x: (n, d) features with zero mean; targets: (n, k).
    """
    n, d = x.shape
    x, targets = x.double(), targets.double() / n
    products = (x @ x.T if d > n else x.T @ x) / n
    known = targets if d > n else x.T @ targets
    one = torch.eye(len(products), dtype=x.dtype)
    for penalty in penalties:
        solved = torch.cholesky_solve(known, torch.linalg.cholesky(products + penalty * one))
        yield (x.T @ solved if d > n else solved).float()


def ridge_guess(x: Splits, knowledge: Knowledge, penalties: tuple[float, ...] = PENALTIES) -> Guess:
    """Fit on features split -> (n, d) and guess; the penalty is chosen on "select"."""
    mean = x["attack"].mean(0)
    target = standard_target(knowledge).unsqueeze(1)
    weights = torch.cat(list(ridge_path(x["attack"] - mean, target, penalties)), 1)
    return chosen_guess({split: ((v - mean) @ weights).T for split, v in x.items()}, knowledge)


def boosted_guess(
    x: Splits,
    knowledge: Knowledge,
    features: int = 192,
    rounds: int = 200,
    learning_rate: float = 0.1,
) -> Guess:
    """Boost trees on features split -> (n, d) and guess; the rounds are chosen on "select"."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    s, s_select = standard_target(knowledge), torch.from_numpy(knowledge.s["select"])
    if x["attack"].shape[1] > features:
        x = strongest(x, _correlation(x["attack"], s), features)
    known = {split: v.numpy() for split, v in x.items()}
    step = max(1, rounds // 10)
    model = HistGradientBoostingRegressor(learning_rate=learning_rate, **TREES)
    best_error, best, idle = math.inf, {}, 0
    for total in range(step, rounds + 1, step):
        model.set_params(max_iter=total).fit(known["attack"], s.numpy())
        estimates = {split: torch.from_numpy(model.predict(v)) for split, v in known.items()}
        error = line(estimates["select"], s_select)[0].item()
        idle = 0 if error < best_error * (1 - 1e-4) else idle + 1
        if error < best_error:
            best_error, best = error, estimates
        if idle == 2:
            break
    return guess_of(best, knowledge)


def _correlation(x: Tensor, s: Tensor) -> Tensor:
    """(d,) how closely features (n, d) go with a quantity (n,) of zero mean, up to a factor."""
    centred = x - x.mean(0)
    found: Tensor = (s @ centred).abs() / centred.norm(dim=0).clamp_min(1e-12)
    return found


def neighbour_means(x: Splits, split: AttackSplit, s: Tensor, counts: list[int]) -> Tensor:
    """(len(counts), n) means of s (of "attack") over the nearest 1..k rows of "attack"."""
    sums = s[nearest(x, split, counts[-1])].cumsum(1)
    return torch.stack([sums[:, count - 1] / count for count in counts])


def trained_estimates(
    network: nn.Module, x: Splits, knowledge: Knowledge, cycle: Cycle, rng: torch.Generator
) -> dict[AttackSplit, Tensor]:
    """Train a network (n, ...) -> (n, 1) by Huber's loss; the best epoch on "select" is kept.

    Pictures are mirrored at random in training, and estimates averaged over both sides.

    Returns:
        Its estimates, split -> (n,).
    """
    device = fastest_device()
    picture = x["attack"].ndim == 4 and is_picture(x["attack"])
    precision: Precision = "auto" if x["attack"].ndim == 4 else "fp32"
    network = network.to(device)
    s = standard_target(knowledge).to(device)
    s_select = torch.from_numpy(knowledge.s["select"])

    def loss(rows: Tensor) -> Tensor:
        shown = flipped(x["attack"][rows], rng) if picture else x["attack"][rows]
        with autocast(device, precision):
            found = network(placed(shown, device))
        return huber_loss(found.float()[:, 0], s[rows.to(device)])

    def estimates(rows: Tensor) -> Tensor:
        return answers(network, rows, picture, precision)[:, 0]

    def held_out() -> float:
        error = line(in_chunks(estimates, x["select"], 512), s_select)[0].item()
        return math.log(max(error, 1e-30))  # progress is a share of the error, in whatever units

    fit(network, len(s), cycle, rng, loss, held_out)
    return {split: in_chunks(estimates, v, 512) for split, v in x.items()}
