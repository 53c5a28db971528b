"""Audit a folder of altered pictures: drawn faces, blurred until they are hard to recognise.

    python examples/audit_a_folder.py

The originals are a folder with a table of labels; the released pictures have the names of their
originals. Anything that alters pictures can stand in for the blur. On the command line, the same:

    cd runs/audit_a_folder
    veil audit --images blurred --data table --root originals --size 32 --private Male \
        --utility Smiling --suite quick
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from veil import Audit, audit_folder
from veil.attacks.suites import Suite
from veil.data.synthfaces import faces, labels
from veil.data.table import TableConfig
from veil.report import verdict

COLUMNS = ("split", "identity", "Male", "Smiling")


def write_pictures(people: int, originals: Path, blurred: Path) -> None:
    """Five pictures of each person in `originals`, beside labels.csv, and blurred in `blurred`."""
    for folder in (originals, blurred):
        folder.mkdir(parents=True, exist_ok=True)
    indices = np.arange(people * 5)
    person = indices // 5
    # Nothing was trained to make this release, so nearly everybody is left for the attack.
    part = np.select([person < 2, person < people * 0.5, person < people * 0.65], [0, 1, 2], 3)
    split = np.array(["fit", "attack", "select", "test"])[part]
    known = {"split": split, **labels(seed=1, indices=indices)}
    with (originals / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("image", *COLUMNS))
        for i, pixels in zip(indices, faces(seed=1, indices=indices, size=32), strict=True):
            name = f"{i:05}.png"
            picture = Image.fromarray(pixels)
            picture.save(originals / name)
            picture.filter(ImageFilter.GaussianBlur(3)).save(blurred / name)
            table.writerow((name, *(known[column][i] for column in COLUMNS)))


def main(
    people: int = 240,
    suite: str | Suite = "quick",
    out: Path = Path("runs/audit_a_folder"),
) -> Audit:
    """Write the pictures and audit.json into `out`; print and return the verdict."""
    write_pictures(people, out / "originals", out / "blurred")
    splits = TableConfig(root=out / "originals", size=32).splits(seed=0)
    found = audit_folder(
        out / "blurred",
        splits,
        out / "audit.json",
        private=("Male",),
        utility=("Smiling",),
        suite=suite,
        seeds=1,
    )
    print(verdict(found))
    return found


if __name__ == "__main__":
    main()
