"""A released data set in a file: anyone's `.npz` or `.safetensors`, read with suspicion."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from veil.attacks.attack import AttackSplit
from veil.data.dataset import BINARY, IDENTITY, MISSING, Label
from veil.data.splits import divide
from veil.errors import Refused, VeilError, nearest
from veil.evidence import ATTACK_SPLITS, Evidence
from veil.seeds import seed_for
from veil.statistics import people_of

SHARES: Mapping[AttackSplit, float] = {"attack": 0.6, "select": 0.15, "test": 0.25}
MOST_CLASSES = 1000
SMALLEST_ORIGINAL = 8
ARRAYS = ("z", "z_draws", "s", "y", "x", "identity", "g", "split")


def from_file(path: Path, seed: int) -> Evidence:
    """A released data set in `.npz` or `.safetensors` (docs/audit.md, "Bring your own release").

    Raises:
        VeilError: an array is missing, unknown, of the wrong shape or kind, or pickled.
        Refused: the file's own splits share people or pictures.
    """
    arrays = read_arrays(path)
    for name in arrays:
        if name not in ARRAYS:
            raise VeilError(f"{path}: unknown array '{name}': {nearest(name, ARRAYS)}")
    if ("z" in arrays) == ("z_draws" in arrays):
        raise VeilError(f"{path}: give the release as 'z' (n, ...) or 'z_draws' (n, draws, ...)")
    if "s" not in arrays:
        raise VeilError(f"{path}: the private label 's' (n,) is missing")
    drawn = "z_draws" in arrays
    z = arrays["z_draws" if drawn else "z"]
    real = np.issubdtype(z.dtype, np.number) and not np.iscomplexobj(z)
    if z.ndim < (3 if drawn else 2) or 0 in z.shape or not (real or z.dtype == bool):
        raise VeilError(
            f"{path}: the release has shape {z.shape}, type {z.dtype}; it must be numbers, "
            + ("'z_draws' (n, draws, ...)" if drawn else "'z' (n, ...)")
        )
    for name, array in arrays.items():
        if array.shape[:1] != z.shape[:1]:
            raise VeilError(f"{path}: '{name}' has shape {array.shape}, the release {len(z)} rows")
    labels = {
        name: class_column(arrays[name], f"{path}: '{name}'") for name in "sy" if name in arrays
    }
    identity = _people(arrays["identity"], path) if "identity" in arrays else None
    x = _pictures(arrays["x"], path) if "x" in arrays else None
    split, note = _split(arrays.get("split"), identity, x, labels["s"][0], path, seed)
    if x is not None:
        _refuse_copies(x, split, path)
    rows = {name: np.flatnonzero(split == i) for i, name in enumerate(ATTACK_SPLITS)}
    for name, at in rows.items():
        if len(at) < 10:
            raise VeilError(
                f"{path}: {len(at)} rows in '{name}' ({note}); an audit needs 10 at least"
            )

    draws = z.shape[1] if drawn else 1

    def part(array: NDArray[Any]) -> dict[AttackSplit, NDArray[Any]]:
        return {name: array[at] for name, at in rows.items()}

    def tensors(array: NDArray[Any]) -> dict[AttackSplit, Tensor]:
        with np.errstate(
            over="ignore"
        ):  # what float32 cannot hold is inf, which attackers can read
            return {name: torch.from_numpy(a.astype(np.float32)) for name, a in part(array).items()}

    def originals(name: AttackSplit) -> Tensor:
        assert x is not None
        return torch.from_numpy(x[rows[name]]).float() / 255

    return Evidence(
        name=path.name,
        z=tensors(z[:, 0] if drawn else z),
        labels={name: part(column) for name, (column, _) in labels.items()},
        meaning={name: label for name, (_, label) in labels.items()} | {"identity": IDENTITY},
        private=("s",),
        utility=("y",) if "y" in labels else (),
        identity=None if identity is None else part(identity),
        averaged=tensors(z.mean(axis=1, dtype=np.float64)) if draws > 1 else None,
        draws=draws,
        random=drawn,
        originals=None if x is None else originals,
        originals_key="" if x is None else hashlib.blake2b(x.tobytes(), digest_size=16).hexdigest(),
        provenance={"released": path.name, "notes": [note]},
    )


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a `.npz` or `.safetensors` file; nothing pickled is ever loaded."""
    try:
        if path.suffix == ".safetensors":
            # Through torch, as numpy has no bfloat16.
            tensors = load_file(path)
            return {
                n: (t.float() if t.is_floating_point() else t).numpy() for n, t in tensors.items()
            }
        if path.suffix == ".npz":
            if not path.is_file():
                raise FileNotFoundError
            if not is_zipfile(path):
                raise VeilError(f"{path}: is no .npz file, or was cut short")
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            for name, array in arrays.items():
                if not isinstance(array, np.ndarray):
                    raise VeilError(f"{path}: '{name}' is not an array")
            return arrays
    except FileNotFoundError:
        raise VeilError(f"{path}: no such file") from None
    except VeilError:
        raise
    except Exception as error:  # zip, npy and safetensors have no common error of damaged content
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "pickle" in reason.lower():
            reason = "it holds pickled objects, which could run code; save plain arrays"
        raise VeilError(f"{path}: cannot be read: {reason}") from None
    raise VeilError(f"{path}: a release is a .npz or .safetensors file, not '{path.suffix}'")


def class_column(array: NDArray[Any], where: str) -> tuple[NDArray[np.int64], Label]:
    """Labels as classes 0..K-1, -1 where missing, and what they mean.

    Integers, booleans, or floats that are integers are classes in ascending order. NaN is missing;
    the integer -1 is too, unless the codes are -1 and 1.
    """
    if array.ndim != 1:
        raise VeilError(f"{where} has shape {array.shape}; labels are (n,)")
    if np.issubdtype(array.dtype, np.floating):
        missing = np.isnan(array)
        known = array[~missing]
        if not np.array_equal(known, np.round(known)) or np.isinf(known).any():
            raise VeilError(f"{where} holds fractions or inf; labels are classes (integers)")
    elif np.issubdtype(array.dtype, np.integer):
        signs = set(np.unique(array).tolist()) == {-1, 1}
        missing = np.zeros(len(array), dtype=bool) if signs else array == MISSING
    elif array.dtype == bool:
        missing = np.zeros(len(array), dtype=bool)
    else:
        raise VeilError(f"{where} has type {array.dtype}; labels are classes (integers)")
    values, classes = np.unique(array[~missing], return_inverse=True)
    if len(values) < 2:
        raise VeilError(f"{where} shows {len(values)} classes; there is nothing to infer")
    if len(values) > min(MOST_CLASSES, max(20, len(classes) // 10)):
        raise VeilError(
            f"{where} has {len(values)} classes in {len(classes)} rows; is it an identity?"
        )
    column = np.full(len(array), MISSING, dtype=np.int64)
    column[~missing] = classes
    names = tuple(f"{value:g}" for value in values.tolist())
    return column, BINARY if len(values) == 2 else Label("multiclass", names)


def _people(array: NDArray[Any], path: Path) -> NDArray[np.int64]:
    """(n,) person numbers; -1, NaN and the empty string are people unknown."""
    if array.ndim != 1:
        raise VeilError(f"{path}: 'identity' has shape {array.shape}; it must be (n,)")
    if np.issubdtype(array.dtype, np.floating):
        unknown = np.isnan(array) | (array == MISSING)
    elif np.issubdtype(array.dtype, np.character):
        unknown = array == array.dtype.type()
    else:
        unknown = array == MISSING
    people: NDArray[np.int64] = np.unique(array, return_inverse=True)[1].astype(np.int64)
    people[unknown] = MISSING
    return people


def _pictures(x: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    if x.ndim != 4 or x.shape[1] not in (1, 3) or min(x.shape[2:]) < SMALLEST_ORIGINAL:
        raise VeilError(
            f"{path}: 'x' has shape {x.shape}; original images are (n, 1 or 3, h, w), "
            f"of {SMALLEST_ORIGINAL} pixels or more"
        )
    if x.dtype == np.uint8:
        return x
    if not np.issubdtype(x.dtype, np.floating) or not (x.min() >= 0 and x.max() <= 1):
        raise VeilError(f"{path}: 'x' must be uint8, or float in [0, 1]")
    return np.round(x * 255).astype(np.uint8)


def _split(
    given: NDArray[Any] | None,
    identity: NDArray[np.int64] | None,
    x: NDArray[np.uint8] | None,
    s: NDArray[np.int64],
    path: Path,
    seed: int,
) -> tuple[NDArray[np.int64], str]:
    if given is not None:
        if given.ndim != 1 or not np.isin(given, (0, 1, 2)).all():
            raise VeilError(f"{path}: 'split' must be (n,) of 0 attack, 1 select, 2 test")
        return given.astype(np.int64), "the file's own split"
    if identity is not None:
        units, how = people_of(identity, len(s)), "by person"
    elif x is not None:
        _, copies = np.unique(x.reshape(len(x), -1), axis=0, return_inverse=True)
        units, how = copies.astype(np.int64), "at random, identical originals together"
    else:
        units, how = np.arange(len(s), dtype=np.int64), "at random (people unknown)"
    parts = divide(units, SHARES, seed_for(seed, "audit split"))
    split = np.empty(len(s), dtype=np.int64)
    for i, name in enumerate(ATTACK_SPLITS):
        split[parts[name]] = i
    return split, f"no 'split' in the file: divided {how}, 60 : 15 : 25"


def _refuse_copies(x: NDArray[np.uint8], split: NDArray[np.int64], path: Path) -> None:
    digests = np.array([hashlib.blake2b(image.tobytes(), digest_size=8).hexdigest() for image in x])
    for a, b in ((0, 1), (0, 2), (1, 2)):
        shared = np.intersect1d(digests[split == a], digests[split == b])
        if shared.size:
            raise Refused(
                f"{path.name}: splits '{ATTACK_SPLITS[a]}' and "
                f"'{ATTACK_SPLITS[b]}' share {shared.size} identical pictures; remove the copies"
            )
