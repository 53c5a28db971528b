"""Audit a representation that veil did not make: principal components of drawn faces.

    python examples/audit_your_own.py

Anything that turns an image into numbers can stand in for the principal components: write its
outputs and the labels into one .npz file, and audit the file. docs/auditor.md explains the figures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from veil import Audit, audit_file
from veil.data.synthfaces import faces, labels
from veil.report import verdict


def main(people: int = 240, out: Path = Path("runs/audit_your_own")) -> Audit:
    """Write `out`/released.npz and `out`/audit.json; print and return the verdict."""
    indices = np.arange(people * 5)  # five photos of each person
    pictures = faces(seed=1, indices=indices, size=32, channels=1)
    known = labels(seed=1, indices=indices)

    pixels = pictures.reshape(len(pictures), -1) / 255
    centred = pixels - pixels.mean(axis=0)
    _, _, directions = np.linalg.svd(centred[: len(centred) // 2], full_matrices=False)
    components = centred @ directions[:32].T

    out.mkdir(parents=True, exist_ok=True)
    released = out / "released.npz"
    np.savez(
        released,
        z=components.astype(np.float32),  # what was released, (n, ...)
        s=known["Male"],  # the private label, (n,)
        y=known["Smiling"],  # the label that should survive, (n,)
        identity=known["identity"],  # who is shown, (n,): the splits will share nobody
    )
    found = audit_file(released, out / "audit.json", suite="quick", seeds=1, seed=0, console=None)
    print(verdict(found))
    return found


if __name__ == "__main__":
    main()
