"""The columns of a released file: what its labels mean, who is shown, which rows are whose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from veil.array_file import StoredArray
from veil.data.dataset import BINARY, MISSING, RECONSTRUCTION, Column, Label, Rows
from veil.errors import VeilError

MOST_NUMBERED_CLASSES: Final = 30
MOST_NAMED_CLASSES: Final = 1000
GROUP: Final = "g"
# What no label may be called, as something else of an audit is.
TAKEN: Final = ("identity", RECONSTRUCTION, GROUP)


@dataclass(frozen=True)
class Labels:
    """The labels of a file, under the names that they have in an audit.

    Attributes:
        columns: name -> (n,); see `label_column`.
        meaning: name -> what they mean, the subgroups' too.
        private: what must not be told from the release; useful: what should be.
        group: (n,) int64 subgroup, -1 where missing, or None.
        notes: what was not obvious.
    """

    columns: Mapping[str, Column]
    meaning: Mapping[str, Label]
    private: tuple[str, ...]
    useful: tuple[str, ...]
    group: Rows | None
    notes: tuple[str, ...]


def target_of(array: str) -> str | None:
    """What the label in an array is called: "s", "y", or NAME of s_NAME and y_NAME; or None."""
    if array in ("s", "y"):
        return array
    name = array[2:]
    return name if array[:2] in ("s_", "y_") and name.strip() and name.isprintable() else None


def labels_of(arrays: Mapping[str, StoredArray], path: Path) -> Labels:
    """All labels of a file, and its subgroups.

    Raises:
        VeilError: two labels of one name, or a column that is no label (see `label_column`).
    """
    columns: dict[str, Column] = {}
    meaning: dict[str, Label] = {}
    names: dict[str, list[str]] = {"s": [], "y": []}
    notes = []
    for array, stored in arrays.items():
        name = target_of(array)
        if name is None:
            continue
        if name in TAKEN or name in columns:
            raise VeilError(f"{path}: '{array}': the name '{name}' is taken; choose another")
        columns[name], meaning[name], note = label_column(stored.read(), f"{path}: '{array}'")
        names[array[0]].append(name)
        notes += [note] if note else []
    group = None
    if GROUP in arrays:
        given = arrays[GROUP].read()
        group, meaning[GROUP], _ = label_column(given, f"{path}: '{GROUP}'")
        if not meaning[GROUP].is_class:
            raise VeilError(f"{path}: '{GROUP}' holds a quantity; subgroups are classes")
        if meaning[GROUP] == BINARY and given.dtype.kind != "b":
            # A subgroup is called by its code, "g=1": it is seldom a question of no or yes.
            codes = np.unique(given[group != MISSING]).tolist()
            meaning[GROUP] = Label("binary", tuple(f"{code:.0f}" for code in codes))
    return Labels(columns, meaning, tuple(names["s"]), tuple(names["y"]), group, tuple(notes))


def label_column(array: NDArray[Any], where: str) -> tuple[Column, Label, str | None]:
    """What a label column holds: classes or a quantity.

    Text, booleans, and whole numbers with up to 30 distinct values are classes, in ascending order.
    Other numbers are a quantity. Missing are NaN, the empty text, and the integer -1: unless the
    codes are -1 and 1, or a quantity takes other negative values too.

    Args:
        array: (n,) numbers, booleans or text.
        where: the file and the array's name, for messages.

    Returns:
        (n,) int64 classes 0..K-1, -1 where missing, or (n,) float32, NaN where missing; what they
        mean; and a note, where that was not obvious.

    Raises:
        VeilError: another shape or type, inf, or fewer than two distinct values.
    """
    if array.ndim != 1:
        raise VeilError(f"{where} has shape {array.shape}; labels are (n,)")
    if array.dtype.kind not in "biufUS":
        raise VeilError(f"{where} has type {array.dtype}; labels are numbers or text")
    missing = _empty(array)
    known = array[~missing]
    if array.dtype.kind == "f":
        if np.isinf(known).any():
            raise VeilError(f"{where} holds inf; a missing label is NaN")
        if not np.array_equal(known, np.round(known)):
            return _quantity(array, missing, where), Label("continuous"), None
    values = np.unique(known)
    if array.dtype.kind == "i" and set(values.tolist()) != {-1, 1}:
        values = values[values != MISSING]
    if array.dtype.kind in "iuf" and len(values) > MOST_NUMBERED_CLASSES:
        if array.dtype.kind == "i" and values[0] > MISSING:
            missing = array == MISSING
        note = (
            f"{where} has {len(values)} distinct whole numbers: treated as a quantity (if they "
            "are people, call the array 'identity')"
        )
        return _quantity(array, missing, where), Label("continuous"), note
    if len(values) < 2:
        raise VeilError(f"{where} has {len(values)} distinct values; there is nothing to tell")
    if len(values) > MOST_NAMED_CLASSES:
        raise VeilError(f"{where} has {len(values)} classes; if they are people, use 'identity'")
    place = np.searchsorted(values, array).clip(max=len(values) - 1)
    column = np.where(values[place] == array, place, MISSING).astype(np.int64)
    return column, _meaning(values, where), None


def people_column(array: NDArray[Any], where: str) -> Rows | None:
    """(n,) person numbers, -1 where nobody knows who it is; None where that is so in every row.

    Unknown are -1, NaN and the empty text.
    """
    if array.ndim != 1 or array.dtype.kind not in "biufUS":
        raise VeilError(
            f"{where} has shape {array.shape}, type {array.dtype}; people are (n,) numbers or text"
        )
    unknown = _empty(array)
    if array.dtype.kind in "if":
        unknown |= array == MISSING
    if array.dtype.kind == "f" and not np.array_equal(array[~unknown], np.round(array[~unknown])):
        raise VeilError(f"{where} holds fractions; people are whole numbers or text")
    people: Rows = np.full(len(array), MISSING, dtype=np.int64)
    people[~unknown] = np.unique(array[~unknown], return_inverse=True)[1]
    return None if unknown.all() else people


def split_column(array: NDArray[Any], where: str) -> Rows:
    """(n,) int64: 0 attack, 1 select, 2 test."""
    if array.ndim != 1 or array.dtype.kind not in "iuf" or not np.isin(array, (0, 1, 2)).all():
        raise VeilError(f"{where} must be (n,) of 0 attack, 1 select, 2 test")
    return array.astype(np.int64)


def _empty(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Which entries are NaN, or the empty text."""
    empty: NDArray[np.bool_] = np.zeros(len(array), dtype=bool)
    if array.dtype.kind == "f":
        empty = np.isnan(array)
    elif array.dtype.kind in "US":
        empty = array == array.dtype.type()
    return empty


def _quantity(array: NDArray[Any], missing: NDArray[np.bool_], where: str) -> Column:
    with np.errstate(over="ignore"):
        column = np.where(missing, np.nan, array).astype(np.float32)
    if np.isinf(column).any():
        raise VeilError(f"{where} holds values beyond 3.4e38; give it in a larger unit")
    if len(np.unique(column[~missing])) < 2:
        raise VeilError(f"{where} takes one value as float32; there is nothing to tell")
    return column


def _meaning(values: NDArray[Any], where: str) -> Label:
    """The classes under the file's own names; 0 and 1, or -1 and 1, are no and yes."""
    kind = values.dtype.kind
    if kind == "b" or (kind in "iuf" and values.tolist() in ([0, 1], [-1, 1])):
        return BINARY
    try:
        texts = np.char.decode(values, "utf-8") if kind == "S" else values
        names = tuple(f"{v:.0f}" if kind == "f" else str(v) for v in texts.tolist())
    except (ValueError, SystemError):  # not UTF-8; numbers beyond the last character
        raise VeilError(f"{where} holds bytes that are not text") from None
    for name in names:
        if not name.isprintable():
            raise VeilError(f"{where} holds {name!r}, which cannot be printed")
    return Label("binary" if len(names) == 2 else "multiclass", names)
