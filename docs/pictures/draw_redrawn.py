"""Draws docs/pictures/redrawn.png: `python docs/pictures/draw_redrawn.py runs/tables`.

Drawn faces, and what an attacker's decoder made of their releases, in the rows of
experiments/tables/drawn_reconstruction.toml, which must have been run.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from veil.config import read_tables
from veil.reclassify_figures import draw_pictures
from veil.records import Audit

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "experiments/tables/drawn_reconstruction.toml"


def rows(runs: Path) -> dict[str, Tensor]:
    """The originals, and then each row's redrawn faces, with its scores."""
    found: dict[str, Tensor] = {}
    for name in read_tables(TABLE)["rows"]:
        run = runs / TABLE.stem / name
        audit = Audit.load(run / "audit.json")
        worst = audit.targets["reconstruction"].worst
        with np.load(run / "samples.npz", allow_pickle=False) as samples:
            originals, redrawn = (
                torch.from_numpy(samples[key]).permute(0, 3, 1, 2) / 255
                for key in ("attacked_original", "attacked")
            )
        assert torch.equal(found.setdefault("Originals", originals), originals)
        rank1 = worst.scores["rank1"]
        title = audit.name.rpartition(" on ")[0]
        found[f"{title}: SSIM {worst.score:.2f}, rank-1 {rank1:.2f}"] = redrawn
    return found


if __name__ == "__main__":
    draw_pictures(rows(Path(sys.argv[1])), HERE / "redrawn.png")
