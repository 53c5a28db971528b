"""Label files as they circulate: text or CSV, with or without a count line, header, BOM or CRLF."""

from __future__ import annotations

import codecs
import re
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from veil.data.image_files import is_image
from veil.data.impostors import impostor
from veil.errors import VeilError

_INTEGER = re.compile(r"[-+]?[0-9]+")


def read_text(path: Path) -> str:
    """A text file: UTF-8 with or without a mark, or UTF-16 with one; lines end in newline alone.

    Raises:
        VeilError: the file cannot be read, or is a web page, a pointer, an archive, binary, empty.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink() and "annex" in str(path.readlink()):
            raise VeilError(
                f"{path} is a git-annex link whose content is absent: run 'git annex get'"
            ) from None
        raise VeilError(f"{path}: no such file") from None
    except OSError as error:
        raise VeilError(f"{path} cannot be read: {error.strerror}") from None
    if what := impostor(data):
        raise VeilError(f"{path} {what}")
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise VeilError(
            f"{path}, line {line}: not UTF-8 text (byte 0x{data[error.start]:02x}); "
            "save it as UTF-8 or download it again"
        ) from None
    if "\0" in text:
        raise VeilError(f"{path} is binary, not a list of labels: download it again")
    return text.replace("\r\n", "\n").replace("\r", "\n")


@dataclass(frozen=True, slots=True)
class NamedIntegers:
    """A label file whose rows are an image's name and k integers.

    Attributes:
        path: the file.
        columns: (k,) names of the columns; empty where the file has no header.
        names: (n,) image names, all different.
        values: (n, k) int64.
        lines: (n,) the line of each row, counted from 1.
    """

    path: Path
    columns: tuple[str, ...]
    names: list[str]
    values: NDArray[np.int64]
    lines: list[int]

    def bad(self, row: int, what: str) -> VeilError:
        """An error about one row."""
        return VeilError(f"{self.path}, line {self.lines[row]}: {what}")


def read_named_integers(path: Path) -> NamedIntegers:
    """Read rows of an image name and integers, parted by commas, semicolons or blanks.

    Before them may stand a line with their number and a header, which may or may not have a column
    for the name. Blank lines, quotes and blanks at a line's end are ignored.

    Raises:
        VeilError: the file is no label file; a row has too few or too many values, a value that is
            not an integer, or a name seen before; the count line disagrees (a cut-off download).
    """
    text = read_text(path)
    text = text.replace('"', "") if '"' in text else text
    stripped = [line.strip() for line in text.split("\n")]
    lines = [number for number, line in enumerate(stripped, 1) if line]
    rows = [line for line in stripped if line]
    counted = int(rows[0]) if _INTEGER.fullmatch(rows[0]) else None
    first = 0 if counted is None else 1
    if len(rows) == first:
        raise VeilError(f"{path} has no rows: download it again")
    delimiter = next((mark for mark in ",;" if mark in rows[-1]), None)
    header = _fields(rows[first], delimiter) if _is_header(rows[first], delimiter) else []
    first += bool(header)
    rows, lines = rows[first:], lines[first:]
    if not rows:
        raise VeilError(f"{path} has a header and no rows: download it again")
    if counted is not None and counted != len(rows):
        raise VeilError(
            f"{path}: the first line says {counted} rows but {len(rows)} follow; "
            "download it again, or correct the first line"
        )
    parted = [row.split(delimiter, 1) for row in rows]
    names = [part[0].strip() for part in parted]
    width = len(_fields(rows[0], delimiter)) - 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # a fraction read as an integer
            values = np.loadtxt(
                [part[1] for part in parted],
                dtype=np.int64,
                delimiter=delimiter,
                comments=None,
                ndmin=2,
            )
        if values.shape != (len(rows), width):
            raise ValueError("some rows were dropped")
    except (ValueError, IndexError, DeprecationWarning, OverflowError):
        raise _first_bad_row(path, rows, lines, delimiter, width) from None
    if header and len(header) not in (width, width + 1):
        raise VeilError(
            f"{path}: the header names {len(header)} columns but line {lines[0]} has {width} values"
        )
    columns = tuple(header[len(header) - width :]) if header else ()
    table = NamedIntegers(path, columns, names, values, lines)
    if len(set(names)) < len(names):
        raise _repeated(table)
    return table


def _fields(row: str, delimiter: str | None) -> list[str]:
    return [field.strip() for field in row.split(delimiter)]


def _is_header(row: str, delimiter: str | None) -> bool:
    name, *values = _fields(row, delimiter)
    return not is_image(name) and not (values and all(map(_INTEGER.fullmatch, values)))


def _first_bad_row(
    path: Path, rows: list[str], lines: list[int], delimiter: str | None, width: int
) -> VeilError:
    """What is wrong with the first row that the fast reader could not take."""
    for row, line in zip(rows, lines, strict=True):
        name, *values = _fields(row, delimiter)
        if len(values) != width or not values:
            return VeilError(
                f"{path}, line {line}: {len(values)} values after '{name[:40]}' where "
                f"{width or 'some'} are expected; download the file again or mend the line"
            )
        for value in values:
            if not _INTEGER.fullmatch(value) or len(value) > 18:
                return VeilError(
                    f"{path}, line {line}: '{value[:40]}' is not a whole number; mend the line"
                )
    return VeilError(f"{path} is no list of names and whole numbers: download it again")


def _repeated(table: NamedIntegers) -> VeilError:
    counts = Counter(table.names)
    row = next(i for i, name in enumerate(table.names) if counts[name] > 1)
    again = table.names.index(table.names[row], row + 1)
    return table.bad(
        again, f"'{table.names[row]}' is on line {table.lines[row]} already; remove one of them"
    )
