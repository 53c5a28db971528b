"""Reading a run folder: audit.json, and what else lies beside it."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veil.errors import VeilError
from veil.records import Audit

# Sets of pictures in samples.npz; those of one set show the same images, and as many.
PICTURES = (
    ("original", "release", "reconstruction", "gradcam"),
    ("attacked_original", "attacked"),
)
Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Progress:
    """One line of metrics.jsonl.

    Attributes:
        stage: the training stage ("adversarial"); split: "fit" or "select".
        at: "epoch" and "step", those that the line gives.
        terms: "<player>/<term>" -> value; values that are not finite are left out.
    """

    stage: str
    split: str
    at: Mapping[str, float]
    terms: Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        folder: where it was read.
        audit: its audit.json.
        about: its run.json, as it is; empty where absent.
        samples: from samples.npz, name of PICTURES -> (k, h, w, 1 or 3) uint8, k the same in a set.
        progress: its metrics.jsonl.
    """

    folder: Path
    audit: Audit
    about: Mapping[str, Any]
    samples: Mapping[str, Pictures]
    progress: tuple[Progress, ...]


def read_run(folder: Path) -> Run:
    """Read a run folder, of which everything but audit.json may be absent.

    Raises:
        VeilError: no such folder, no audit.json, or a file that cannot be understood (named).
    """
    if not folder.is_dir():
        raise VeilError(f"{folder}: not a run folder; give the folder that holds audit.json")
    return Run(
        folder,
        Audit.load(folder / "audit.json"),
        _about(folder / "run.json"),
        _samples(folder / "samples.npz"),
        _progress(folder / "metrics.jsonl"),
    )


def _about(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        about = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise VeilError(f"{path}: not JSON: {error}") from None
    if not isinstance(about, dict):
        raise VeilError(f"{path}: must hold one JSON object, not a {type(about).__name__}")
    return about


def _samples(path: Path) -> dict[str, Pictures]:
    if not path.exists():
        return {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for kinds in PICTURES for name in kinds if name in arrays}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise VeilError(f"{path}: not an .npz of arrays: {' '.join(str(error).split())}") from None
    for name, array in found.items():
        if array.ndim != 4 or array.dtype != np.uint8 or array.shape[3] not in (1, 3):
            raise VeilError(
                f"{path}: '{name}' must be (k, h, w, 1 or 3) uint8, not {array.shape} {array.dtype}"
            )
    for kinds in PICTURES:
        counts = {name: len(found[name]) for name in kinds if name in found}
        if len(set(counts.values())) > 1:
            sizes = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise VeilError(f"{path}: every array must hold the same number of pictures: {sizes}")
    return {name: array for name, array in found.items() if array.size}


def _progress(path: Path) -> tuple[Progress, ...]:
    if not path.exists():
        return ()
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise VeilError(f"{path}: not UTF-8 text: {error}") from None
    return tuple(
        _progress_line(f"{path}:{number}", line)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )


def _progress_line(where: str, line: str) -> Progress:
    try:
        given = json.loads(line)
    except ValueError as error:
        raise VeilError(f"{where}: not JSON: {error}") from None
    if not isinstance(given, dict):
        raise VeilError(f"{where}: must be a JSON object, not a {type(given).__name__}")
    numbers = {
        key: float(value)
        for key, value in given.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    return Progress(
        str(given.get("stage", "training")),
        str(given.get("split", "fit")),
        {key: numbers[key] for key in ("epoch", "step") if key in numbers},
        {key: value for key, value in numbers.items() if "/" in key},
    )
