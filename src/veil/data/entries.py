"""One entry of the image cache: opened when finished, written beside its place and renamed.

A folder per key holds

- `pixels.npy` (n, h, w, c) uint8,
- `hashes.npy` (n,) uint64, blake2b-8 of each image,
- `entry.json`, how many files were given and which were skipped and why.

An interrupted build leaves nothing that looks finished, and of two processes that build the same
entry the first to finish wins and the other uses its result.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from veil.errors import VeilError

UNFINISHED = ".building-"
STALE_AFTER = 24 * 3600  # seconds; no build takes a day


@dataclass(frozen=True, slots=True)
class Skipped:
    """One file that could not be used: its name among the files given, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Images:
    """Decoded images, in the order of the files given.

    Attributes:
        pixels: (n, h, w, c) uint8, mapped copy-on-write: the file on disk cannot be changed by it.
        hashes: (n,) uint64, a hash of each decoded image.
        kept: (n,) int64 positions into the files given; all of them unless some were skipped.
        skipped: the others.
    """

    pixels: NDArray[np.uint8]
    hashes: NDArray[np.uint64]
    kept: NDArray[np.int64]
    skipped: tuple[Skipped, ...] = ()


def open_entry(entry: Path) -> Images | None:
    """The finished entry, or None where there is none or it is damaged (then it is removed)."""
    if not entry.is_dir():
        return None
    try:
        about = json.loads((entry / "entry.json").read_bytes())
        pixels = np.load(entry / "pixels.npy", mmap_mode="c", allow_pickle=False)
        hashes = np.load(entry / "hashes.npy", allow_pickle=False)
        skipped = {int(row): Skipped(name, reason) for row, name, reason in about["skipped"]}
        kept = np.setdiff1d(np.arange(about["files"], dtype=np.int64), list(skipped))
        if not len(pixels) == len(hashes) == len(kept):
            raise ValueError("lengths differ")
    except (OSError, ValueError, KeyError, TypeError):
        shutil.rmtree(entry, ignore_errors=True)
        return None
    return Images(pixels, hashes, kept, tuple(skipped.values()))


def build_entry(
    entry: Path,
    shape: tuple[int, int, int],
    files: int,
    chunks: Iterable[NDArray[np.uint8]],
    skipped: Mapping[int, Skipped],
) -> Images:
    """Write an entry beside its place and rename it.

    Args:
        entry: where it goes.
        shape: (h, w, c) of every image.
        files: how many files were given.
        chunks: the images in order, (m, h, w, c) at a time.
        skipped: position -> what was left out; may grow while `chunks` is consumed.

    Raises:
        VeilError: no image is left, or the cache cannot be written.
    """
    with _writing(entry.parent):
        entry.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(entry.parent)
        unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=entry.parent))
    try:
        hashes = _write_pixels(unfinished / "pixels.npy", shape, files, chunks)
        if not len(hashes):
            first = next((f"; {s.name} {s.reason}" for s in skipped.values()), "")
            raise VeilError(f"none of {files} files is a usable picture{first}")
        about = {"files": files, "skipped": [(i, s.name, s.reason) for i, s in skipped.items()]}
        with _writing(entry.parent):
            np.save(unfinished / "hashes.npy", hashes)
            (unfinished / "entry.json").write_text(json.dumps(about, indent=1))
            unfinished.chmod(0o755)
            try:
                unfinished.rename(entry)
            except OSError:
                # Another process finished the same entry first: its images are the same.
                if not entry.is_dir():
                    raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    built = open_entry(entry)
    if built is None:
        raise VeilError(f"{entry}: the cache entry was damaged while it was written; run again")
    return built


def write_small(path: Path, text: str) -> None:
    """Write a small file of the cache, whole or not at all."""
    with _writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path.parent)
        with tempfile.NamedTemporaryFile(
            "w", prefix=UNFINISHED, dir=path.parent, delete=False
        ) as file:
            file.write(text)
        Path(file.name).replace(path)


def _write_pixels(
    path: Path, shape: tuple[int, int, int], files: int, chunks: Iterable[NDArray[np.uint8]]
) -> NDArray[np.uint64]:
    """Append the chunks to a .npy file and return the (n,) hash of each image.

    Ordinary writes, not a memory map: on a full disk they fail with an error, a map with SIGBUS.
    """
    hashes: list[int] = []
    folder = path.parent.parent
    with path.open("wb") as file:
        _write_header(file, (files, *shape))
        for chunk in chunks:
            if chunk.dtype != np.uint8 or chunk.shape[1:] != shape:
                wanted = f"(m, {shape[0]}, {shape[1]}, {shape[2]}) uint8"
                raise VeilError(f"images must be {wanted}, not {chunk.shape} {chunk.dtype}")
            images = np.ascontiguousarray(chunk)
            hashes.extend(_image_hash(image) for image in images)
            with _writing(folder):
                file.write(images.data)
        with _writing(folder):
            # The header has a fixed length, so the number of images kept can be set afterwards.
            file.seek(0)
            _write_header(file, (len(hashes), *shape))
            file.flush()
            os.fsync(file.fileno())
    return np.array(hashes, dtype=np.uint64)


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _image_hash(image: NDArray[np.uint8]) -> int:
    return int.from_bytes(hashlib.blake2b(image.data, digest_size=8).digest(), "big")


def _remove_stale(folder: Path) -> None:
    """Remove what was left behind by builds that were killed long ago."""
    for unfinished in folder.glob(UNFINISHED + "*"):
        with suppress(OSError):
            if time.time() - unfinished.stat().st_mtime < STALE_AFTER:
                continue
            if unfinished.is_dir():
                shutil.rmtree(unfinished, ignore_errors=True)
            else:
                unfinished.unlink()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn a failure to write below `folder` into one clear line."""
    try:
        yield
    except OSError as error:
        raise VeilError(
            f"cannot write the image cache in {folder}: {error.strerror or error}; "
            "make room there or set VEIL_CACHE to another folder"
        ) from None
