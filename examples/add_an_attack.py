"""An attacker in thirty lines, against a release that hides a label from linear attackers.

    python examples/add_an_attack.py

The release is four random signs; the private label is the product of two of them. No single feature
says anything about it. An attacker that looks at products of features reads it at once. A suite of
your own is handed to the audit as it is; put the class into a file of src/veil/attacks/ and its
name into suites.py, and every audit runs it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from veil import Audit, Evidence, audit_evidence
from veil.attacks.attack import Guess, Kind, Knowledge, Whole
from veil.attacks.features import prepare
from veil.attacks.linear import Logistic, logistic_guess
from veil.attacks.suites import suite_named
from veil.data.dataset import BINARY
from veil.evidence import ATTACK_SPLITS
from veil.report import print_audit


@dataclass(frozen=True)
class Products(Whole):
    """Logistic regression on the products of every two features."""

    name: ClassVar[str] = "products"
    family: ClassVar[str] = "products"
    kind: ClassVar[Kind] = "attribute"
    seeded: ClassVar[bool] = False

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        wide = knowledge.z["attack"][0].numel() > 64
        return "too many products of two features" if wide else None

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        x = prepare(knowledge.z, "standardised")
        row, column = torch.triu_indices(x["attack"].shape[1], x["attack"].shape[1], offset=1)
        return logistic_guess({k: v[:, row] * v[:, column] for k, v in x.items()}, knowledge)


def release(rows: int, seed: int) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """(rows, 4) noisy signs, and as private label whether the first two agree."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], (rows, 4))
    z = signs + 0.1 * rng.standard_normal(signs.shape)
    return torch.from_numpy(z).float(), (signs[:, 0] == signs[:, 1]).astype(np.int64)


def main(rows: int = 600) -> Audit:
    """Audit with a linear attacker and with `Products`; print and return what they found."""
    parts = {split: release(rows, seed) for seed, split in enumerate(ATTACK_SPLITS)}
    evidence = Evidence(
        name="signs",
        z={split: z for split, (z, _) in parts.items()},
        labels={"agree": {split: s for split, (_, s) in parts.items()}},
        meaning={"agree": BINARY},
        private=("agree",),
    )
    mine = replace(suite_named("quick"), name="mine", attribute=(Logistic(), Products()))
    found = audit_evidence(evidence, suite=mine, seeds=1)
    print_audit(found, Console(width=100))
    return found


if __name__ == "__main__":
    main()
