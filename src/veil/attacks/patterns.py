"""Leaks beside the values: what is missing, exactly zero, saturated, or lies on a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from veil.attacks.attack import AttackSplit, Guess, Kind, Knowledge, Whole
from veil.attacks.boosting import boosted_guess
from veil.attacks.features import Splits, standardise
from veil.attacks.linear import logistic_guess

COLUMNS = 512  # indicators kept
VALUES = 256  # of a release looked at for grids
GRIDS = (*(2.0**-k for k in range(9)), 1 / 255, 1 / 127, *(10.0**-k for k in (1, 2, 3)), 0.05, 0.2)


@dataclass(frozen=True)
class Patterns(Whole):
    """Only where and how values are special, never how large they are.

    Attributes:
        learner: what reads the patterns.
    """

    learner: Literal["logistic", "boosting"] = "boosting"

    family: ClassVar[str] = "patterns"
    kind: ClassVar[Kind] = "attribute"
    seeded: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"patterns {self.learner}"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x = standardise(_varied(special_values(knowledge.z)))
        learn = logistic_guess if self.learner == "logistic" else boosted_guess
        return learn(x, knowledge)


def _varied(x: Splits) -> Splits:
    """Without the columns that are the same for all of "attack"; one is kept where all are."""
    known = x["attack"]
    varied = (known != known[0]).any(0)
    if not varied.any():
        varied[0] = True
    return {split: v[:, varied] for split, v in x.items()}


def special_values(z: Splits) -> dict[AttackSplit, Tensor]:
    """Indicators and per-release fractions of special values.

    Args:
        z: split -> (n, ...) releases.

    Returns:
        split -> (n, k): per feature whether it is missing (or infinite) and whether it is exactly
        zero (the 512 most varied of each in "attack"); per release the fractions missing, zero,
        at the least and at the greatest value of "attack", equal to a value seen elsewhere in
        "attack", the agreement with grids of 1/2^k, 1/10^k, 1/255 and 1/127, and the mean number
        of unused low bits of its values.
    """
    flat = {split: x.flatten(1) for split, x in z.items()}
    columns: dict[AttackSplit, list[Tensor]] = {split: [] for split in flat}
    for special in (torch.isfinite, lambda x: x != 0):
        found = {split: (~special(x)).float() for split, x in flat.items()}
        varied = found["attack"].var(0, correction=0).topk(min(COLUMNS, flat["attack"].shape[1]))
        for split, x in found.items():
            columns[split] += [x[:, varied.indices], x.mean(1, keepdim=True)]
    known = flat["attack"][flat["attack"].isfinite()]
    least, greatest = (known.min(), known.max()) if len(known) else (math.nan, math.nan)
    step = math.ceil(flat["attack"].shape[1] / VALUES)
    few = {split: x[:, ::step].contiguous() for split, x in flat.items()}
    seen = few["attack"][few["attack"].isfinite()].sort().values
    for split, x in flat.items():
        columns[split] += [
            (x == least).float().mean(1, keepdim=True),
            (x == greatest).float().mean(1, keepdim=True),
            _repeated(few[split], seen, 2 if split == "attack" else 1),
            _on_grids(few[split]),
            _unused_bits(few[split]),
        ]
    return {split: torch.cat(parts, 1) for split, parts in columns.items()}


def _repeated(x: Tensor, seen: Tensor, times: int) -> Tensor:
    """(n, 1) fraction of values, zeros apart, that stand at least `times` in `seen` (sorted)."""
    counts = torch.searchsorted(seen, x, right=True) - torch.searchsorted(seen, x)
    counted = x.isfinite() & (x != 0)
    return _fraction((counts >= times) & counted, counted)


def _on_grids(x: Tensor) -> Tensor:
    """(n, len(GRIDS)) mean of cos(2 pi x / grid): 1 when every value is a multiple of it."""
    counted = x.isfinite() & (x != 0)
    values = torch.where(counted, x, 0.0).double()
    cells = ((values / grid).frac().float() for grid in GRIDS)
    return torch.cat([_fraction((2 * math.pi * cell).cos(), counted) for cell in cells], 1)


def _unused_bits(x: Tensor) -> Tensor:
    """(n, 1) mean number of trailing zero bits of the float32 mantissas (23 bits)."""
    counted = x.isfinite() & (x != 0)
    bits = x.view(torch.int32) & 0x7FFFFF
    lowest = (bits & -bits).clamp_min(1).float().log2()
    return _fraction(torch.where(bits == 0, 23.0, lowest), counted)


def _fraction(values: Tensor, counted: Tensor) -> Tensor:
    mean = torch.where(counted, values.float(), 0.0).sum(1) / counted.sum(1).clamp_min(1)
    return mean.unsqueeze(1)
