"""A released data set in a file: anyone's `.npz` or `.safetensors`, read with suspicion.

The file may be of any size. Of a release too large for the memory given, as many rows are
kept as fit: whole people, the same share of every split, drawn by the seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from veil.array_file import StoredArray, open_arrays
from veil.attacks.attack import AttackSplit
from veil.data.dataset import IDENTITY, MISSING, RECONSTRUCTION, Column, Rows
from veil.data.splits import divide
from veil.errors import Refused, VeilError, nearest
from veil.evidence import ATTACK_SPLITS, Evidence
from veil.released_columns import (
    GROUP,
    Labels,
    labels_of,
    people_column,
    split_column,
    target_of,
)
from veil.released_rows import (
    Positions,
    available_memory,
    kept_bytes,
    most_rows,
    picture_bytes,
    picture_hashes,
    read_pictures,
    read_release,
    row_hashes,
    rows_that_fit,
)
from veil.seeds import seed_for
from veil.statistics import people_of

if TYPE_CHECKING:
    from veil.mechanism import ClippedGaussian

SHARES: Final[Mapping[AttackSplit, float]] = {"attack": 0.6, "select": 0.15, "test": 0.25}
FEWEST_ROWS: Final = 10
SMALLEST_ORIGINAL: Final = 8
SHARE_OF_MEMORY: Final = 4
ARRAYS: Final = ("z", "z_draws", "s", "y", "x", "identity", "g", "split")
# Rows of so many numbers, nearly all of them distinct, do not repeat by chance.
WIDE: Final = 16
DISTINCT: Final = 0.9

Stored = Mapping[str, StoredArray]


def from_file(
    path: Path,
    seed: int,
    private: tuple[str, ...] = (),
    mechanism: ClippedGaussian | None = None,
    memory: int | None = None,
) -> Evidence:
    """A released data set in `.npz` or `.safetensors` (docs/audit.md, "Bring your own release").

    Args:
        path: the file.
        seed: decides the division where the file has none, and the rows where not all fit.
        private: what is attacked: private labels of the file ("s", and NAME of an array s_NAME),
            "identity", "reconstruction"; all private labels by default.
        mechanism: what the release is known to end with.
        memory: bytes that the release and the original images may take as float32; a quarter of
            what is free by default.

    Raises:
        VeilError: an array is missing, unknown, damaged, of the wrong shape or kind, or pickled.
        Refused: the file's own splits share people or pictures.
    """
    if memory is None:
        memory = available_memory() // SHARE_OF_MEMORY
    arrays = open_arrays(path)
    z = _release(arrays, path)
    _refuse_odd_arrays(arrays, z, memory)
    x, drawn = arrays.get("x"), z.name == "z_draws"
    labels = labels_of(arrays, path)
    private = _private(private, labels, arrays, path)
    people = None
    if "identity" in arrays:
        people = people_column(arrays["identity"].read(), f"{path}: 'identity'")
    pictures = None if x is None else picture_hashes(x, memory)
    split, how = _split(arrays, people, pictures, path, seed)
    _refuse_shared(people, split, "people", path)
    _refuse_shared(pictures, split, "identical pictures", path)

    each = kept_bytes(z, drawn) + (0 if x is None else picture_bytes(x))
    most = most_rows(each, memory)
    rows = rows_that_fit(split, people_of(people, len(split)), most, seed)
    kept = sum(map(len, rows.values()))
    fit = "" if kept == len(split) else f"; {memory / 1e9:.3g} GB hold {most} of {len(split)} rows"
    for name, at in rows.items():
        if len(at) < FEWEST_ROWS:
            raise VeilError(
                f"{path}: {len(at)} rows in '{name}' ({how}{fit}); an audit needs 10 at least"
            )

    def part(column: Column) -> dict[AttackSplit, Column]:
        return {name: column[at] for name, at in rows.items()}

    release = read_release(z, drawn, rows, memory)
    originals = None if x is None else read_pictures(x, rows, memory)

    def original(name: AttackSplit) -> Tensor:
        assert originals is not None
        return torch.from_numpy(originals[name]).float().div_(255)

    declared = (*private, *labels.useful)
    notes = [how, *labels.notes]
    if fit:
        notes.append(
            f"the file holds {len(split)} rows; {kept} of them fit into the memory given "
            f"({memory / 1e9:.3g} GB) and were attacked"
        )
    if release.rounded:
        notes.append(
            f"'{z.name}' is {z.dtype} and was attacked as float32: what it says beyond float32's "
            "7 digits is not covered"
        )
    notes += _repeated(release.z)
    return Evidence(
        name=path.name,
        z=release.z,
        labels={name: part(labels.columns[name]) for name in declared if name in labels.columns},
        meaning={**labels.meaning, "identity": IDENTITY},
        private=private,
        utility=labels.useful,
        identity=None if people is None else part(people),
        averaged=release.averaged,
        deviation=release.deviation,
        random=drawn,
        subgroups=None if labels.group is None else part(labels.group),
        group=None if labels.group is None else GROUP,
        undeclared={
            name: part(column)
            for name, column in labels.columns.items()
            if name not in declared and labels.meaning[name].is_class
        },
        mechanism=mechanism,
        originals=None if originals is None else original,
        originals_key="" if pictures is None else _content(pictures, rows),
        provenance={"released": path.name, "notes": notes, "rows left out": len(split) - kept},
    )


def _release(arrays: Stored, path: Path) -> StoredArray:
    if ("z" in arrays) == ("z_draws" in arrays):
        raise VeilError(f"{path}: give the release as 'z' (n, ...) or 'z_draws' (n, draws, ...)")
    drawn = "z_draws" in arrays
    z = arrays["z_draws" if drawn else "z"]
    if len(z.shape) < (3 if drawn else 1) or 0 in z.shape or z.dtype.kind not in "biuf":
        raise VeilError(
            f"{path}: the release has shape {z.shape}, type {z.dtype}; it must be numbers, "
            + ("'z_draws' (n, draws, ...)" if drawn else "'z' (n, ...)")
        )
    return z


def _refuse_odd_arrays(arrays: Stored, z: StoredArray, memory: int) -> None:
    for name, array in arrays.items():
        if name not in ARRAYS and target_of(name) is None:
            prefixes = tuple(f"{kind}_{name.partition('_')[2] or 'NAME'}" for kind in "sy")
            hint = nearest(name, (*ARRAYS, *prefixes))
            raise VeilError(f"{array.path}: unknown array {name!r}: {hint}")
        if array.shape[0] != z.shape[0]:
            raise VeilError(
                f"{array.path}: '{name}' has shape {array.shape}, the release {z.shape[0]} rows"
            )
        if name not in ("z", "z_draws", "x") and array.nbytes > memory:
            raise VeilError(
                f"{array.path}: '{name}' takes {array.nbytes:,} bytes, more than the {memory:,} "
                "given"
            )
    x = arrays.get("x")
    if x is None:
        return
    if len(x.shape) != 4 or x.shape[1] not in (1, 3) or min(x.shape[2:]) < SMALLEST_ORIGINAL:
        raise VeilError(
            f"{x.path}: 'x' has shape {x.shape}; original images are (n, 1 or 3, h, w), "
            f"of {SMALLEST_ORIGINAL} pixels or more"
        )
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise VeilError(f"{x.path}: 'x' must be uint8, or float in [0, 1]")


def _private(asked: tuple[str, ...], labels: Labels, arrays: Stored, path: Path) -> tuple[str, ...]:
    """What is attacked, as asked; all private labels where nothing is."""
    if not asked and not labels.private:
        raise VeilError(f"{path}: the private label 's' (n,) is missing")
    needed = {"identity": "identity", RECONSTRUCTION: "x"}
    options = [*labels.private, *(name for name, array in needed.items() if array in arrays)]
    for name in asked:
        if name in needed and name not in options:
            raise VeilError(
                f"{path}: '{name}' can be attacked only with the array '{needed[name]}'"
            )
        if name not in options:
            raise VeilError(f"{path}: no private label {name!r}: {nearest(name, options)}")
    return tuple(dict.fromkeys(asked)) or labels.private


def _split(
    arrays: Stored,
    people: Rows | None,
    pictures: NDArray[np.uint64] | None,
    path: Path,
    seed: int,
) -> tuple[Rows, str]:
    """(n,) 0 attack, 1 select, 2 test; and who divided it how."""
    if "split" in arrays:
        return split_column(arrays["split"].read(), f"{path}: 'split'"), "the file's own split"
    n = next(iter(arrays.values())).shape[0]
    if people is not None:
        units, how = people_of(people, n), "by person"
    elif pictures is not None:
        units = np.unique(pictures, return_inverse=True)[1].astype(np.int64)
        how = "at random, identical originals together"
    else:
        units, how = people_of(None, n), "at random (people unknown)"
    parts = divide(units, SHARES, seed_for(seed, "audit split"))
    split = np.empty(n, dtype=np.int64)
    for code, name in enumerate(ATTACK_SPLITS):
        split[parts[name]] = code
    return split, f"no 'split' in the file: divided {how}, 60 : 15 : 25"


def _refuse_shared(values: NDArray[np.generic] | None, split: Rows, what: str, path: Path) -> None:
    """Of all rows, whether they fit or not: what is wrong with the file is wrong with a part."""
    if values is None:
        return
    for a, b in combinations(range(len(ATTACK_SPLITS)), 2):
        shared = np.intersect1d(values[split == a], values[split == b])
        count = np.count_nonzero(shared != MISSING) if what == "people" else shared.size
        if count:
            raise Refused(
                f"{path.name}: splits '{ATTACK_SPLITS[a]}' and '{ATTACK_SPLITS[b]}' share "
                f"{count} {what}; divide by person, without copies, and audit again"
            )


def _repeated(z: Mapping[AttackSplit, Tensor]) -> list[str]:
    """A note on test releases that the attackers have seen, where that cannot be chance."""
    if z["test"][0].numel() < WIDE:
        return []
    hashes = {name: row_hashes(z[name].numpy()) for name in ("attack", "test")}
    if any(len(np.unique(of)) <= DISTINCT * len(of) for of in hashes.values()):
        return []
    count = np.count_nonzero(np.isin(hashes["test"], hashes["attack"]))
    return [f"{count} of the test releases occur bit for bit in attack"] if count else []


def _content(pictures: NDArray[np.uint64], rows: Positions) -> str:
    """A hash of the kept originals of every split, in order."""
    kept = np.concatenate([pictures[at] for at in rows.values()])
    return hashlib.blake2b(kept.tobytes(), digest_size=16).hexdigest()
