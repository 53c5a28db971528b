"""A CSV or Parquet file's columns, and what kind of label each one is."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from veil.data.dataset import BINARY, IDENTITY, MISSING, Column, Label
from veil.data.textfile import read_text
from veil.errors import VeilError

if TYPE_CHECKING:
    import pyarrow

ColumnKind = Literal["binary", "multiclass", "continuous", "identity"]
Cell = str | None

NOTHING = frozenset({"", "nan", "na", "n/a", "null"})
NO_YES = (("0", "1"), ("-1", "1"), ("no", "yes"), ("false", "true"))
MOST_INTEGER_CLASSES = 20
MOST_TEXT_CLASSES = 100


@dataclass(frozen=True, slots=True)
class Table:
    """A table as text.

    Attributes:
        path: the file.
        columns: name -> (n,) cells without blanks around them; None where a value is missing.
        lines: (n,) where each row stands, counted from 1; the row's number in a Parquet file.
        notes: columns that were left out, and why.
    """

    path: Path
    columns: dict[str, list[Cell]]
    lines: Sequence[int]
    notes: tuple[str, ...] = ()

    def bad(self, row: int, what: str) -> VeilError:
        """An error about one row."""
        return VeilError(f"{self.path}, line {self.lines[row]}: {what}")


def read_table(path: Path) -> Table:
    """Read a .parquet file (needs pyarrow), or a CSV parted by commas, semicolons or tabs.

    Empty cells, NaN, NA, N/A and null are missing. A column without a name (a data frame's index)
    is ignored.

    Raises:
        VeilError: the file is not a table, or a row has too few or too many cells.
    """
    return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)


def _read_csv(path: Path) -> Table:
    text = read_text(path)
    first = text.lstrip("\n").partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise VeilError(f"{path}, line {reader.line_num}: {error}; mend the line") from None
    if len(rows) < 2:
        raise VeilError(f"{path} has no rows below its header")
    header = [name.strip() for name in rows[0]]
    repeated = next((name for name in header if name and header.count(name) > 1), None)
    if repeated is not None:
        raise VeilError(f"{path} has two columns '{repeated}': rename one of them")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise VeilError(
                f"{path}, line {line}: {len(row)} cells where the header names {len(header)}; "
                "mend the line, or quote cells that contain the delimiter"
            )
    columns = {name: [_cell(row[at]) for row in rows[1:]] for at, name in enumerate(header) if name}
    return Table(path, columns, lines[1:])


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise VeilError(
            f"{path}: reading Parquet needs pyarrow: pip install pyarrow, or save it as CSV"
        ) from None
    if not path.is_file():
        raise VeilError(f"{path}: no such file")
    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise VeilError(f"{path} is no Parquet file that can be read ({reason})") from None
    columns: dict[str, list[Cell]] = {}
    notes: list[str] = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name.startswith("__index_level_"):
            continue
        cells = _parquet_cells(column)
        if cells is None:
            notes.append(f"column '{name}' left out: {column.type} is not a number or text")
        else:
            columns[name] = cells
    return Table(path, columns, range(1, table.num_rows + 1), tuple(notes))


def _parquet_cells(column: pyarrow.ChunkedArray) -> list[Cell] | None:
    values = column.to_pylist()
    if not all(value is None or isinstance(value, str | int | float) for value in values):
        return None
    return [None if value is None else _cell(str(value)) for value in values]


def _cell(text: str) -> Cell:
    text = text.strip()
    return None if text.lower() in NOTHING else text


class NoLabel(Exception):
    """A column that can be no label; the message says why ("812 different texts")."""


def label_of(table: Table, name: str, kind: ColumnKind | None = None) -> tuple[Label, Column]:
    """What a column means, and its values as a `Dataset` stores them.

    0/1, -1/1, no/yes and false/true are binary, as are any two values (their names are kept); up to
    20 integers, or 100 texts each seen twice on average, are multiclass; other numbers are
    continuous. Classes are in numeric or alphabetic order.

    Args:
        table: where the column is.
        name: the column.
        kind: what it is, if the guess above would be wrong.

    Returns:
        The label and its (n,) column.

    Raises:
        NoLabel: no `kind` is given and none can be guessed.
        VeilError: the values do not fit the given `kind`.
    """
    cells = _plain_integers(table.columns[name])
    present = [cell for cell in cells if cell is not None]
    words = {cell.lower() for cell in present}
    no_yes = next((codes for codes in NO_YES if words <= set(codes)), None)
    if kind is None:
        kind = _guess(present) if no_yes is None or not words else "binary"
    if kind == "continuous":
        return Label("continuous"), _floats(table, name)
    classes = _ordered(present)
    if kind == "identity":
        return IDENTITY, _codes(cells, classes)
    if kind == "binary" and no_yes is not None:
        return BINARY, _codes([cell and cell.lower() for cell in cells], no_yes)
    if kind == "binary" and len(classes) != 2:
        shown = ", ".join(classes[:5])
        raise VeilError(
            f"{table.path}: '{name}' is to be binary but has {len(classes)} values ({shown}); "
            "make it multiclass"
        )
    return Label(kind, tuple(classes)), _codes(cells, classes)


def _plain_integers(cells: list[Cell]) -> list[Cell]:
    """Integers that a data frame wrote as 1.0, because one was missing, written as 1."""
    numbers = _numbers([cell for cell in cells if cell is not None])
    if numbers is None or not all(number.is_integer() for number in numbers):
        return cells
    return [None if cell is None else str(int(float(cell))) for cell in cells]


def _guess(present: list[str]) -> ColumnKind:
    if not present:
        raise NoLabel("it is empty")
    distinct = len(set(present))
    numbers = _numbers(present)
    if numbers is not None:
        integers = all(number.is_integer() for number in numbers)
        if not integers or distinct > MOST_INTEGER_CLASSES:
            return "continuous"
    elif distinct > MOST_TEXT_CLASSES or 2 * distinct > len(present):
        raise NoLabel(f"{distinct} different texts in {len(present)} rows")
    if distinct == 1:
        raise NoLabel(f"it says '{present[0]}' everywhere")
    return "binary" if distinct == 2 else "multiclass"


def _numbers(cells: list[str]) -> list[float] | None:
    """The cells as numbers, or None where one is not a finite number."""
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _ordered(cells: list[str]) -> list[str]:
    distinct = sorted(set(cells))
    return distinct if _numbers(distinct) is None else sorted(distinct, key=float)


def _codes(cells: Sequence[Cell], classes: Sequence[str]) -> NDArray[np.int64]:
    number = {name: code for code, name in enumerate(classes)}
    return np.array([MISSING if c is None else number[c] for c in cells], dtype=np.int64)


def _floats(table: Table, name: str) -> NDArray[np.float32]:
    values = np.full(len(table.lines), np.nan, dtype=np.float32)
    for row, cell in enumerate(table.columns[name]):
        if cell is not None:
            if _numbers([cell]) is None:
                raise table.bad(row, f"'{cell[:40]}' in column '{name}' is not a finite number")
            values[row] = float(cell)
    return values
