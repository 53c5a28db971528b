"""The rows of a released file: how many fit into memory, which are kept, and what they hold."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from veil.array_file import StoredArray
from veil.attacks.attack import AttackSplit, Floats
from veil.data.dataset import Rows
from veil.errors import VeilError
from veil.evidence import ATTACK_SPLITS, draw_counts
from veil.seeds import seed_for

BLOCKS_IN_MEMORY: Final = 16
LARGEST_BLOCK: Final = 64 << 20
FEWEST_DEVIATING: Final = 3
# float64 copies of one draw while several are averaged and rounded.
COPIES_AT_WORK: Final = 6
# Rounding to float32 may move a number by this share of the range that it takes.
LOST: Final = 0.01
EXACT_WHOLE_NUMBERS: Final = 1 << 24

Positions = Mapping[AttackSplit, Rows]
Pictures = Mapping[AttackSplit, NDArray[np.uint8]]


@dataclass(frozen=True)
class Release:
    """The kept rows of a release, as `Evidence` has them.

    Attributes:
        z: split -> (n, ...) float32, the first draw.
        averaged: N -> split -> (n, ...), the mean of the first N draws.
        deviation: split -> (n, ...), the standard deviation over all draws; None of fewer than 3.
        rounded: whether the file holds digits that float32 does not.
    """

    z: dict[AttackSplit, Tensor]
    averaged: dict[int, dict[AttackSplit, Tensor]]
    deviation: dict[AttackSplit, Tensor] | None
    rounded: bool


def kept_bytes(release: StoredArray, drawn: bool) -> int:
    """What one row of a release takes as float32, with its means and its deviation."""
    draws = release.shape[1] if drawn else 1
    copies = 1 + len(draw_counts(draws)[1:]) + (draws >= FEWEST_DEVIATING)
    return 4 * copies * math.prod(release.shape[1 + drawn :])


def picture_bytes(pictures: StoredArray) -> int:
    """What one original takes: a byte for each pixel, and a float32 while it is attacked."""
    return 5 * math.prod(pictures.shape[1:])


def most_rows(row_bytes: int, memory: int) -> int:
    """How many rows fit into `memory` bytes beside the blocks they are read in."""
    return max(0, memory - memory // BLOCKS_IN_MEMORY) // row_bytes


def rows_that_fit(split: Rows, units: Rows, most: int, seed: int) -> Positions:
    """Which rows are kept: whole units, the same share of every split, drawn by `seed`.

    Args:
        split: (n,) 0 attack, 1 select, 2 test.
        units: (n,) the person each row belongs to.
        most: how many rows fit.

    Returns:
        split -> ascending positions.
    """
    rows = {}
    for code, name in enumerate(ATTACK_SPLITS):
        at = np.flatnonzero(split == code)
        if most < len(split):
            room = len(at) * most // len(split)
            _, member_of, sizes = np.unique(units[at], return_inverse=True, return_counts=True)
            chosen = np.zeros(len(sizes), dtype=bool)
            rng = np.random.default_rng(seed_for(seed, "rows that fit", name))
            for unit in rng.permutation(len(sizes)):
                if sizes[unit] <= room:
                    chosen[unit] = True
                    room -= sizes[unit]
            at = at[chosen[member_of]]
        rows[name] = at
    return rows


def read_release(array: StoredArray, drawn: bool, rows: Positions, memory: int) -> Release:
    """The kept rows of a release, read block by block.

    Args:
        array: (n, ...), or (n, draws, ...) where it was `drawn` several times.
        rows: split -> ascending positions.
        memory: bytes, of which the blocks take a small part.

    Raises:
        VeilError: no number is finite, or float32 cannot hold what tells the rows apart.
    """
    where = f"{array.path}: '{array.name}'"
    shape = array.shape[1 + drawn :] or (1,)
    draws = array.shape[1] if drawn else 1

    def empty() -> dict[AttackSplit, Floats]:
        return {split: np.empty((len(at), *shape), np.float32) for split, at in rows.items()}

    z, means = empty(), {count: empty() for count in draw_counts(draws)[1:]}
    deviation = empty() if draws >= FEWEST_DEVIATING else None
    rounding, finite = _Rounding(array.dtype, shape, where), False
    at_work = COPIES_AT_WORK * 8 * math.prod(shape)
    for split, to, block in _picked(array, rows, memory, at_work):
        first = rounding.rounded(block[:, 0] if drawn else block.reshape(len(block), *shape))
        z[split][to] = first
        finite = finite or bool(np.isfinite(first).any())
        if not drawn:
            continue
        # Squares of differences from one draw: nothing cancels where the noise is small.
        total, apart, squares = (np.zeros(first.shape) for _ in range(3))
        with np.errstate(invalid="ignore", over="ignore"):
            for number in range(1, draws + 1):
                draw = block[:, number - 1].astype(np.float64)
                rounding.rounded(block[:, number - 1])
                total += draw
                if number in means:
                    means[number][split][to] = total / number
                draw -= first
                apart += draw
                squares += draw * draw
            if deviation is not None:
                variance = (squares - apart * apart / draws) / (draws - 1)
                deviation[split][to] = np.sqrt(np.maximum(variance, 0))
    if not finite:
        raise VeilError(f"{where} holds no finite number; there is nothing to attack")
    rounding.refuse_what_is_lost()
    return Release(
        z=_tensors(z),
        averaged={count: _tensors(mean) for count, mean in means.items()},
        deviation=None if deviation is None else _tensors(deviation),
        rounded=rounding.moved is not None and bool(rounding.moved.any()),
    )


def picture_hashes(array: StoredArray, memory: int) -> NDArray[np.uint64]:
    """(n,) a hash of each original; every pixel is checked on the way.

    Raises:
        VeilError: a pixel is neither uint8 nor a float in [0, 1].
    """
    hashes = [
        row_hashes(_pixels(block, array))
        for block in array.blocks(_rows_at_once(array, 8 * math.prod(array.shape[1:]), memory))
    ]
    return np.concatenate(hashes)


def read_pictures(array: StoredArray, rows: Positions, memory: int) -> Pictures:
    """The kept originals, split -> (n, c, h, w) uint8."""
    kept = {s: np.empty((len(at), *array.shape[1:]), np.uint8) for s, at in rows.items()}
    for split, to, block in _picked(array, rows, memory, 8 * math.prod(array.shape[1:])):
        kept[split][to] = _pixels(block, array)
    return kept


def row_hashes(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """(n,) one hash for the content of each row."""
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, np.uint64)


def available_memory() -> int:
    """Bytes that a process may still take, as far as the system tells (else 8 GiB)."""
    known = []
    free, limit = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if free.is_file():
        amounts = dict(line.split(":") for line in free.read_text().splitlines())
        known.append(1024 * int(amounts["MemAvailable"].split()[0]))
    elif hasattr(os, "sysconf"):
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if limit.is_file() and limit.read_text().strip().isdigit():
        known.append(int(limit.read_text()))
    return min(known, default=8 << 30)


class _Rounding:
    """float32 of a release, and whether what tells its rows apart is lost by it.

    This finds accidents, not intent: one row far away makes all others look alike enough. So a
    release that was rounded at all is noted (`Release.rounded`).
    """

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...], where: str) -> None:
        self.where = where
        self.whole = dtype.kind in "iu"
        self.moved: NDArray[Any] | None = None
        if not np.can_cast(dtype, np.float32, "safe"):
            self.moved = np.zeros(shape)
            self.low, self.high = np.full(shape, np.inf), np.full(shape, -np.inf)

    def rounded(self, values: NDArray[Any]) -> Floats:
        with np.errstate(over="ignore"):
            rounded: Floats = values.astype(np.float32)
        if self.moved is None:
            return rounded
        if self.whole and (
            values.max() > EXACT_WHOLE_NUMBERS or values.min() < -EXACT_WHOLE_NUMBERS
        ):
            raise VeilError(
                f"{self.where} holds whole numbers beyond {EXACT_WHOLE_NUMBERS:,}, which float32 "
                "cannot tell apart; subtract an offset, or save bits as numbers of their own"
            )
        finite = np.isfinite(values)
        if np.isinf(rounded[finite]).any():
            raise VeilError(f"{self.where} holds values beyond 3.4e38; release it in a larger unit")
        moved = np.where(finite, values, 0) - np.where(finite, rounded, 0)
        self.moved = np.maximum(self.moved, np.abs(moved).max(axis=0))
        self.low = np.minimum(self.low, np.where(finite, values, np.inf).min(axis=0))
        self.high = np.maximum(self.high, np.where(finite, values, -np.inf).max(axis=0))
        return rounded

    def refuse_what_is_lost(self) -> None:
        if self.moved is None:
            return
        lost = np.flatnonzero((self.high > self.low) & (self.moved > LOST * (self.high - self.low)))
        if lost.size:
            raise VeilError(
                f"{self.where} varies by less than float32 can tell apart in {lost.size} of its "
                f"{self.moved.size} numbers (first: {lost[0]}); subtract its mean, or save as "
                "float32 what is released as float32"
            )


def _rows_at_once(array: StoredArray, at_work: int, memory: int) -> int:
    row = array.nbytes // array.shape[0] + at_work
    if row > memory:
        raise VeilError(
            f"{array.path}: one row of '{array.name}' takes {row:,} bytes to read, more than the "
            f"{memory:,} given"
        )
    return max(1, min(LARGEST_BLOCK, memory // BLOCKS_IN_MEMORY) // row)


def _picked(
    array: StoredArray, rows: Positions, memory: int, at_work: int
) -> Iterator[tuple[AttackSplit, slice, NDArray[Any]]]:
    """The kept rows as the file is read: their split, their places in it, what they hold.

    Args:
        at_work: bytes that the caller needs for one row beside the row itself.
    """
    start = 0
    for block in array.blocks(_rows_at_once(array, at_work, memory)):
        for split, at in rows.items():
            first, last = np.searchsorted(at, (start, start + len(block)))
            if first < last:
                yield split, slice(int(first), int(last)), block[at[first:last] - start]
        start += len(block)


def _pixels(block: NDArray[Any], array: StoredArray) -> NDArray[np.uint8]:
    if block.dtype == np.uint8:
        return block
    if not (block.min() >= 0 and block.max() <= 1):
        raise VeilError(f"{array.path}: '{array.name}' must be uint8, or float in [0, 1]")
    return np.round(block * 255).astype(np.uint8)


def _tensors(parts: Mapping[AttackSplit, Floats]) -> dict[AttackSplit, Tensor]:
    return {split: torch.from_numpy(part) for split, part in parts.items()}
