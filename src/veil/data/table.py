"""Any folder of images with a CSV or Parquet file that labels them.

One column names the images, relative to `root` or to `root/images`; "identity" or "person" says who
is on them; "split" or "partition" divides them (fit, attack, select, test; or train, val, test; or
0, 1, 2). All others become labels, whose kinds are guessed from their values (columns.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from veil.data.cache import Images, OnBad, Progress, decoded_images
from veil.data.columns import ColumnKind, NoLabel, Table, label_of, read_table
from veil.data.dataset import MISSING, Column, Dataset, Label
from veil.data.image_files import FolderStore, ImageFiles
from veil.data.splits import SPLIT_NAMES, Splits, split_by_partition, split_by_person
from veil.errors import VeilError, nearest

IMAGE_COLUMNS = ("image", "image_id", "file", "file_name", "filename", "path")
IDENTITY_COLUMNS = ("identity", "person")
SPLIT_COLUMNS = ("split", "partition")
OFFICIAL = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "0": 0, "1": 1, "2": 2}
LOOKED_AT = 50  # rows, to find out which column names images and where they lie


class TableConfig(BaseModel):
    """A folder of images and a table.

    Attributes:
        root: the folder. Images lie in it or below; absolute paths and `..` are refused.
        table: the .csv or .parquet file, relative to `root` or to the working folder; the only one
            in `root` by default.
        image_column: the column that names the images; by default one called image, image_id,
            file, file_name, filename or path, else the one whose values are files.
        size: height and width of the stored images in pixels.
        channels: 3 (RGB) or 1 (grey).
        crop: side of the centre square that is kept, in pixels; the largest square by default.
        on_bad: "raise" at an image that is missing or cannot be decoded, or "skip" and count it.
        kinds: column -> "binary", "multiclass", "continuous" or "identity", where the guess is
            wrong.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["table"] = "table"
    root: Path
    table: Path | None = None
    image_column: str | None = None
    size: int = Field(64, ge=1)
    channels: Literal[1, 3] = 3
    crop: int | None = Field(None, ge=1)
    on_bad: OnBad = "raise"
    kinds: dict[str, ColumnKind] = {}

    def dataset(self, progress: Progress | None = None) -> Dataset:
        """All images with their labels.

        Raises:
            VeilError: the table or an image is missing or bad; a column is unknown or does not fit
                its kind.
        """
        return _load(self, progress).dataset

    def splits(self, seed: int, progress: Progress | None = None) -> Splits:
        """The table's own split where it has one, else divided by person; notes say which.

        Args:
            seed: decides who goes where, where the table does not.
            progress: called with (images decoded, images in all).

        Raises:
            VeilError: as `dataset`; or two splits share a person or a picture, or one is empty.
        """
        loaded = _load(self, progress)
        dataset, part = loaded.dataset, loaded.part
        if part is None:
            splits = split_by_person(dataset, seed)
        elif loaded.ours:
            views = {n: dataset.view(np.flatnonzero(part == i)) for i, n in enumerate(SPLIT_NAMES)}
            splits = Splits(**views, notes=("divided as the table says",))
        else:
            known = np.flatnonzero(part != MISSING)
            splits = split_by_partition(dataset.view(known), part[known], seed)
        return replace(splits, notes=splits.notes + loaded.notes)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The data set; each row's part (-1: none): of `SPLIT_NAMES` if `ours`, else official 0-2."""

    dataset: Dataset
    part: NDArray[np.int64] | None
    ours: bool
    notes: tuple[str, ...]


def _load(config: TableConfig, progress: Progress | None) -> _Loaded:
    table = read_table(_table_path(config))
    for name in config.kinds:
        _require(table, name)
    image_column = _image_column(config, table)
    notes = list(table.notes)
    labels: dict[str, Column] = {}
    schema: dict[str, Label] = {}
    split_column = next((n for n in _named(table, SPLIT_COLUMNS) if n not in config.kinds), None)
    for name in table.columns:
        if name in (image_column, split_column):
            continue
        kind = config.kinds.get(name)
        if kind is None and name.lower() in IDENTITY_COLUMNS:
            kind = "identity"
        try:
            meaning, column = label_of(table, name, kind)
        except NoLabel as why:
            notes.append(f"column '{name}' left out: {why}")
            continue
        label = "identity" if kind == "identity" else name
        if label in labels:
            raise VeilError(
                f"{table.path} has two columns of people ('{name}' is the second): "
                "say kinds = {" + f"{name} = 'multiclass'" + "} or drop one"
            )
        schema[label], labels[label] = meaning, column
    part, ours = None, False
    if split_column is not None:
        part, ours = _parts(table, split_column)
    names = _image_names(table, image_column)
    rows, images, more = _images(config, table, image_column, names, progress)
    dataset = Dataset(
        table.path.name,
        images.pixels,
        {name: values[rows] for name, values in labels.items()},
        schema,
        images.hashes,
        files=[str(names[row]) for row in rows],
    )
    if part is not None:
        part = part[rows]
        if unknown := int((part == MISSING).sum()):
            more += (f"{unknown} rows without a '{split_column}' left out",)
    return _Loaded(dataset, part, ours, (*notes, *more))


def _table_path(config: TableConfig) -> Path:
    if config.table is not None:
        inside = config.root / config.table
        return inside if inside.is_file() else config.table
    if not config.root.is_dir():
        raise VeilError(f"{config.root}: no such folder")
    found = sorted(p for p in config.root.iterdir() if p.suffix.lower() in (".csv", ".parquet"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found[:5])
    many = f"{len(found)} tables in {config.root} ({names})"
    raise VeilError(
        f"{many if found else f'no .csv or .parquet in {config.root}'}: "
        "name the table that labels the images ('table')"
    )


def _named(table: Table, names: Sequence[str]) -> list[str]:
    """The table's columns with one of these names, whatever the case, best first."""
    lowered = {column.lower(): column for column in table.columns}
    return [lowered[name] for name in names if name in lowered]


def _require(table: Table, column: str) -> None:
    if column not in table.columns:
        hint = nearest(column, table.columns)
        raise VeilError(f"{table.path} has no column '{column}': {hint}")


def _image_column(config: TableConfig, table: Table) -> str:
    if config.image_column is not None:
        _require(table, config.image_column)
        return config.image_column
    if named := _named(table, IMAGE_COLUMNS):
        return named[0]
    for name, cells in table.columns.items():
        paths = [cell.replace("\\", "/") for cell in cells[:LOOKED_AT] if cell is not None]
        if any((folder / path).is_file() for folder in _folders(config) for path in paths):
            return name
    raise VeilError(
        f"{table.path}: no column names images that are in {config.root}: set image_column; "
        f"{nearest('image', table.columns)}"
    )


def _folders(config: TableConfig) -> list[Path]:
    return [config.root, config.root / "images"]


def _parts(table: Table, column: str) -> tuple[NDArray[np.int64], bool]:
    """Each row's part, and whether the parts are fit, attack, select, test."""
    cells = [cell and cell.lower().removesuffix(".0") for cell in table.columns[column]]
    ours = any(cell in ("fit", "attack", "select") for cell in cells)
    known = {str(name): i for i, name in enumerate(SPLIT_NAMES)} if ours else OFFICIAL
    for row, cell in enumerate(cells):
        if cell is not None and cell not in known:
            raise table.bad(
                row,
                f"'{cell}' in column '{column}' is no split: {', '.join(SPLIT_NAMES)}; "
                "or train, val, test; or 0, 1, 2",
            )
    parts = [MISSING if cell is None else known[cell] for cell in cells]
    return np.array(parts, dtype=np.int64), ours


def _images(
    config: TableConfig,
    table: Table,
    column: str,
    names: list[str | None],
    progress: Progress | None,
) -> tuple[NDArray[np.int64], Images, tuple[str, ...]]:
    """The rows whose name in `column` is an image, the images, and notes on the others."""
    folder = max(
        _folders(config),
        key=lambda folder: sum((folder / name).is_file() for name in names[:LOOKED_AT] if name),
    )
    store = FolderStore(folder)
    there = [name is not None and store.stamp(name) is not None for name in names]
    rows = np.flatnonzero(there)
    absent = [
        name or f"nothing on line {line}"
        for name, line, found in zip(names, table.lines, there, strict=True)
        if not found
    ]
    shown = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
    lacking = f"{len(absent)} of {len(names)} images that {table.path.name} lists are"
    if absent and (config.on_bad == "raise" or len(rows) == 0):
        raise VeilError(
            f"{lacking} not in {folder} ({shown}); mend column '{column}', "
            'or set on_bad = "skip" to use the others'
        )
    files = ImageFiles(store, tuple(str(names[row]) for row in rows))
    images = decoded_images(
        files, config.size, config.channels, config.crop, config.on_bad, progress
    )
    notes = [f"{lacking} absent ({shown})"] if absent else []
    if images.skipped:
        bad = images.skipped[0]
        notes.append(f"{len(images.skipped)} bad images left out (first: {bad.name} {bad.reason})")
    return rows[images.kept], images, tuple(notes)


def _image_names(table: Table, column: str) -> list[str | None]:
    """Posix paths below the folder of images; None where the table names none."""
    names: list[str | None] = []
    first: dict[str, int] = {}
    for row, cell in enumerate(table.columns[column]):
        if cell is None:
            names.append(None)
            continue
        path = PurePosixPath(cell.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or path.parts[0].endswith(":"):
            raise table.bad(row, f"'{cell}' leaves the folder: name images relative to root")
        name = str(path)
        if name in first:
            before = table.lines[first[name]]
            raise table.bad(row, f"'{cell}' is on line {before} already; remove one of them")
        first[name] = row
        names.append(name)
    return names
