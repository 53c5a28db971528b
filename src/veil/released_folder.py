"""A folder (or archive) of released pictures that have the names of their originals."""

from __future__ import annotations

import io
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from veil.attacks.attack import AttackSplit
from veil.data.cache import decoded_images
from veil.data.dataset import MISSING, Dataset
from veil.data.decode import FORMATS
from veil.data.image_files import ImageFiles, Store, open_store
from veil.data.splits import Splits
from veil.errors import VeilError
from veil.evidence import ATTACK_SPLITS, Evidence, of_splits
from veil.seeds import generator

MOST_ABSENT: Final = 0.5
THUMBNAIL: Final = 4
SHUFFLES: Final = 99


def evidence_of_folder(
    folder: Path,
    splits: Splits,
    private: tuple[str, ...],
    utility: tuple[str, ...],
    seed: int,
    name: str,
    group: str | None = None,
) -> Evidence:
    """What an attacker of released pictures may hold: the pictures, and nothing of their making.

    Originals without a released picture are left out. Pictures of one size, the data's or smaller,
    are attacked as they are; others are resized as the originals were. Only pixels are attacked:
    what else files tell (metadata, length, name) is not.

    Args:
        folder: the released pictures: a folder, .zip, .tar or .tar.gz.
        splits: the originals, from files; `fit` is not released.
        private, utility, name, group: see `evidence.of_splits`.
        seed: of the check that released pictures go with their originals.

    Returns:
        Evidence whose z is (n, 3, h, w) in [0, 1]; its notes say what was left out or resized.

    Raises:
        VeilError: there is no such folder; the data come from no files; more than half of the
            originals have no released picture; two pictures could be one original's.
    """
    if not folder.exists():
        raise VeilError(f"{folder}: no such folder")
    originals = [file for split in ATTACK_SPLITS for file in _files(splits[split])]
    with open_store(folder) as store:
        names = matched(originals + _files(splits.fit), store.names(), folder)
        _absent(originals, names, folder)
        wanted = sorted({names[original] for original in originals if original in names})
        released = _decoded(store, wanted, splits.attack.image_shape[1])
    row_of = {o: released.row_of[at] for o, at in names.items() if at in released.row_of}
    notes = _absent(originals, row_of, folder) + released.notes
    kept: dict[AttackSplit, Dataset] = {}
    z: dict[AttackSplit, Tensor] = {}
    for split in ATTACK_SPLITS:
        files = _files(splits[split])
        rows = np.array([row_of.get(file, MISSING) for file in files], dtype=np.int64)
        kept[split] = splits[split].view(rows != MISSING)
        pixels = torch.from_numpy(released.pixels[rows[rows != MISSING]])
        z[split] = pixels.permute(0, 3, 1, 2).float() / 255
    remaining = replace(splits, **kept, notes=splits.notes + notes)
    if not goes_with(z["attack"], remaining.attack.batch(slice(None), labels=()).x, seed):
        note = (
            "released pictures resemble their own originals no more than others: "
            "either next to nothing is released, or the names do not match"
        )
        remaining = replace(remaining, notes=(*remaining.notes, note))
    found = of_splits(z, remaining, private, utility, name, group)
    return replace(found, provenance={**found.provenance, "released": folder.name})


def matched(originals: Sequence[str], released: Sequence[str], folder: Path) -> dict[str, str]:
    """Original -> released picture, for those originals that have one.

    The same path below the folder wins, then the same path but for the ending (".png" for
    ".jpg"). Where no path is the same, the folders were laid out differently, and file names are
    compared without folders and endings. What stands for two originals stands for neither.

    Raises:
        VeilError: two released pictures could be one original's.
    """
    exact = set(released)
    key: Callable[[str], str] = _without_ending
    ours, theirs = _grouped(originals, key), _grouped(released, key)
    if not ours.keys() & theirs.keys():
        key = _bare
        ours, theirs = _grouped(originals, key), _grouped(released, key)
    found: dict[str, str] = {}
    for original in originals:
        candidates = theirs.get(key(original), [])
        if original in exact:
            found[original] = original
        elif len(ours[key(original)]) > 1 or not candidates:
            continue
        elif len(candidates) > 1:
            raise VeilError(
                f"{folder}: '{candidates[0]}' and '{candidates[1]}' could both be the release of "
                f"'{original}': remove one of them"
            )
        else:
            found[original] = candidates[0]
    return found


def goes_with(z: Tensor, x: Tensor, seed: int) -> bool:
    """Whether small versions of releases and originals vary together, more than by chance.

    The squared correlation of each of 4 x 4 places and channels, on average, against those after
    shuffling: contrast and negatives make no difference.

    Args:
        z: (n, 3, h', w') released pictures; x: (n, c, h, w) their originals.
        seed: of the shuffling.
    """
    ours, theirs = _thumbnails(x.expand(-1, 3, -1, -1)), _thumbnails(z)

    def agreement(order: Tensor) -> float:
        return float((ours * theirs[order]).mean(0).square().mean())

    rng = generator(seed, "released folder", "shuffle")
    shuffled = [agreement(torch.randperm(len(z), generator=rng)) for _ in range(SHUFFLES)]
    return agreement(torch.arange(len(z))) > max(shuffled)


def _thumbnails(pictures: Tensor) -> Tensor:
    """(n, 48) places and channels, each standardised over the pictures; zero where constant."""
    small = F.adaptive_avg_pool2d(pictures, THUMBNAIL).flatten(1)
    centred = small - small.mean(0)
    return centred / centred.square().mean(0).sqrt().clamp_min(1e-6)


@dataclass(frozen=True)
class _Released:
    """The released pictures that can be read.

    Attributes:
        pixels: (n, h, w, 3) uint8.
        row_of: name in the folder -> row of `pixels`.
        notes: how they were read.
    """

    pixels: NDArray[np.uint8]
    row_of: Mapping[str, int]
    notes: tuple[str, ...]


def _decoded(store: Store, names: Sequence[str], data_size: int) -> _Released:
    shapes = (_shape(store, name) for name in names)
    side, notes = _side({shape for shape in shapes if shape is not None}, data_size)
    images = decoded_images(ImageFiles(store, tuple(names)), side, 3, crop=None, on_bad="skip")
    if images.skipped:
        bad = images.skipped[0]
        notes += (
            f"{len(images.skipped)} released pictures left out (first: {bad.name} {bad.reason})",
        )
    row_of = {names[position]: row for row, position in enumerate(images.kept)}
    return _Released(images.pixels, row_of, notes)


def _side(shapes: set[tuple[int, int]], data_size: int) -> tuple[int, tuple[str, ...]]:
    """Height and width at which released pictures are attacked, and what a reader must know."""
    notes: tuple[str, ...] = ()
    if any(width != height for width, height in shapes):
        notes = ("released pictures are not square: only their centre square was attacked",)
    sides = sorted({min(shape) for shape in shapes})
    if len(sides) == 1 and sides[0] <= data_size:
        return sides[0], notes
    if sides:
        span = f"{sides[0]} to {sides[-1]}" if len(sides) > 1 else f"{sides[0]}"
        notes += (f"released pictures of {span} pixels resized to the data's {data_size}",)
    return data_size, notes


def _shape(store: Store, name: str) -> tuple[int, int] | None:
    """(width, height) as the file's header says; None where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decoding says what is wrong with a picture
            with Image.open(io.BytesIO(store.read(name)), formats=FORMATS) as image:
                return image.size
    except Exception:  # Pillow's readers raise nearly anything on damaged bytes
        return None


def _files(dataset: Dataset) -> list[str]:
    files = dataset.files
    if files is None:
        raise VeilError(
            f"{dataset.name} has no files, so no folder of released pictures can be matched to it; "
            "use a source of files (any but synthfaces)"
        )
    return files


def _absent(originals: Sequence[str], there: Collection[str], folder: Path) -> tuple[str, ...]:
    """A note that counts the originals without a released picture; too many are an error."""
    absent = [original for original in originals if original not in there]
    if not absent:
        return ()
    lacking = f"({len(absent)} of {len(originals)} images have no released picture)"
    if len(absent) > MOST_ABSENT * len(originals):
        first = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        raise VeilError(
            f"{folder}: no released picture of {first} {lacking}; "
            "released pictures must have the names of their originals"
        )
    return (lacking,)


def _grouped(names: Sequence[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return dict(groups)


def _without_ending(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _bare(name: str) -> str:
    return PurePosixPath(name).stem
