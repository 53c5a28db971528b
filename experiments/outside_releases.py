"""Releases that veil did not make, on real faces: plain PCA, a blurred folder, a JPEG-5 folder.

    python experiments/outside_releases.py CELEBA OUT

CELEBA is a folder in CelebA's official layout. OUT gets `pca.npz` (64 principal components, fitted
on other people than are audited), and the folders `blurred` (Gaussian, radius 4 pixels) and `jpeg5`
(JPEG, quality 5) of pictures that have the names of their originals. Nothing here is used by veil;
audit them with the commands that are printed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer
from PIL import Image, ImageFilter
from sklearn.decomposition import PCA

from veil.data.celeba import CelebAConfig
from veil.evidence import ATTACK_SPLITS

COMPONENTS = 64
RADIUS = 4
QUALITY = 5
SIZE = 64


def main(celeba: Path, out: Path) -> None:
    """Write the three releases."""
    splits = CelebAConfig(root=celeba, size=SIZE).splits(0)
    fit = splits.fit.images[splits.fit.rows].reshape(len(splits.fit), -1) / 255.0
    pca = PCA(COMPONENTS, svd_solver="randomized", random_state=0).fit(fit)
    arrays: dict[str, list[np.ndarray]] = {}
    for code, name in enumerate(ATTACK_SPLITS):
        split = splits[name]
        pixels = split.images[split.rows]
        for key, column in {
            "z": pca.transform(pixels.reshape(len(split), -1) / 255.0).astype(np.float32),
            "s": split.column("Male"),
            "y": split.column("Smiling"),
            "x": pixels.transpose(0, 3, 1, 2),
            "identity": split.column("identity"),
            "split": np.full(len(split), code),
        }.items():
            arrays.setdefault(key, []).append(column)
        assert split.files is not None
        for image, file in zip(pixels, split.files, strict=True):
            picture = Image.fromarray(image)
            for folder in ("blurred", "jpeg5"):
                (out / folder / file).parent.mkdir(parents=True, exist_ok=True)
            blurred = picture.filter(ImageFilter.GaussianBlur(RADIUS))
            blurred.save((out / "blurred" / file).with_suffix(".png"))
            picture.save((out / "jpeg5" / file).with_suffix(".jpg"), quality=QUALITY)
    np.savez(out / "pca.npz", **{key: np.concatenate(parts) for key, parts in arrays.items()})
    both = "--private Male --private identity --utility Smiling"
    print(f"veil audit --released {out / 'pca.npz'} --private s --private identity")
    for folder in ("blurred", "jpeg5"):
        print(f"veil audit --images {out / folder} --data celeba --root {celeba} {both}")


if __name__ == "__main__":
    typer.run(main)
