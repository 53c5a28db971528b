"""CelebA (Liu et al., ICCV 2015), in the official layout and the forms in which it is copied.

Under `root`, or its official subfolders `Anno`, `Eval`, `Img`:

- `list_attr_celeba` .txt or .csv: 40 attributes, coded -1/1 or 0/1; required.
- `identity_CelebA`, `list_eval_partition`, `list_landmarks_align_celeba`: where they exist.
- `img_align_celeba`: a folder, .zip, .tar or .tar.gz, or the same with `_png`; images may lie in a
  subfolder of it, and are matched to labels by name without the ending.

Any subset works: only the rows of the attribute file are used, and labels that other files lack are
missing. Non-commercial research only; see https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from veil.data.cache import Images, Progress, decoded_images
from veil.data.dataset import BINARY, IDENTITY, MISSING, Column, Dataset, Label
from veil.data.image_files import ARCHIVES, ImageFiles, Store, open_store
from veil.data.published import PublishedConfig
from veil.data.splits import Splits, split_by_partition, split_by_person
from veil.data.textfile import NamedIntegers, read_named_integers
from veil.errors import VeilError

SUBFOLDERS = ("", "Anno", "Eval", "Img")
IMAGES = ("img_align_celeba", "img_align_celeba_png")
ALIGNED_WIDTH, ALIGNED_HEIGHT = 178, 218


class CelebAConfig(PublishedConfig):
    """CelebA under `root`.

    Attributes:
        crop: side of the centre square that is kept, in pixels of the file; 178 is the usual one.
            Images that are smaller already (64 x 64) are kept whole.
    """

    source: Literal["celeba"] = "celeba"
    crop: int = Field(178, ge=1)

    def dataset(self, progress: Progress | None = None) -> Dataset:
        """All images with their labels: the attributes, "identity" and "landmarks" where known.

        Raises:
            VeilError: a file is missing, is not what its name says, or a line of it is wrong; an
                image is missing or bad and `on_bad` is "raise".
        """
        return _load(self, progress).dataset

    def splits(self, seed: int, progress: Progress | None = None) -> Splits:
        """The official partition where it is complete, else divided by person; notes say which.

        Copies of one picture in two official parts are left in the later part only.

        Args:
            seed: decides who goes where, within the official training set or overall.
            progress: called with (images decoded, images in all).

        Raises:
            VeilError: as `dataset`; or a split is empty.
        """
        loaded = _load(self, progress)
        dataset, notes = loaded.dataset, loaded.notes
        if loaded.partition is None:
            splits = split_by_person(dataset, seed)
        else:
            chosen, more = _one_part_each(dataset, loaded.partition)
            splits = split_by_partition(dataset.view(chosen), loaded.partition[chosen], seed)
            notes += more
        return replace(splits, notes=splits.notes + notes)


@dataclass(frozen=True, slots=True)
class _Loaded:
    dataset: Dataset
    partition: NDArray[np.int64] | None
    notes: tuple[str, ...]


def _load(config: CelebAConfig, progress: Progress | None) -> _Loaded:
    attributes = _table(config.root, "list_attr_celeba")
    if attributes is None:
        raise VeilError(
            f"{config.root}: no list_attr_celeba.txt or .csv there or in Anno/; "
            "set root to the folder that holds it"
        )
    classes = _binary(attributes)
    identities = _table(config.root, "identity_CelebA")
    landmarks = _table(config.root, "list_landmarks_align_celeba")
    parts = _table(config.root, "list_eval_partition")
    if identities is not None:
        _check(identities, 1, range(1, 10**9), "a person's number, 1 or more")
    if landmarks is not None:
        _check(landmarks, 10, range(-(10**6), 10**6), "a coordinate in pixels")
    if parts is not None:
        _check(parts, 1, range(3), "0 (train), 1 (validation) or 2 (test)")

    rows, images, notes = _images(config, attributes, progress)
    stems = [_stem(attributes.names[row]) for row in rows]
    labels: dict[str, Column] = dict(zip(attributes.columns, classes[rows].T, strict=True))
    schema = dict.fromkeys(labels, BINARY)
    if identities is not None:
        labels["identity"], schema["identity"] = _column(identities, stems), IDENTITY
        notes += _unknown(labels["identity"], identities)
    if landmarks is not None:
        at = _rows_of(landmarks, stems)
        points = _stored_coordinates(landmarks.values, config)[at]
        labels["landmarks"] = np.where(at[:, None] >= 0, points, np.float32(np.nan))
        schema["landmarks"] = Label("landmarks")
    partition = None
    if parts is not None:
        partition = _column(parts, stems)
        notes += _unknown(partition, parts)
    files = [attributes.names[row] for row in rows]
    dataset = Dataset("celeba", images.pixels, labels, schema, images.hashes, files=files)
    return _Loaded(dataset, partition, notes)


def _table(root: Path, name: str) -> NamedIntegers | None:
    """The label file of this name, the text form before the CSV, or None where there is none."""
    for folder in SUBFOLDERS:
        for ending in (".txt", ".csv"):
            path = root / folder / (name + ending)
            if path.is_file() or path.is_symlink():
                return read_named_integers(path)
    return None


def _images(
    config: CelebAConfig, attributes: NamedIntegers, progress: Progress | None
) -> tuple[NDArray[np.int64], Images, tuple[str, ...]]:
    """The rows of the attribute file that have an image, the images, and notes on the others."""
    with _store(config.root) as store:
        names = sorted(store.names(), key=lambda name: (name.count("/"), name))
        at = {_stem(name): name for name in reversed(names)}
        stems = [_stem(name) for name in attributes.names]
        there = np.array([stem in at for stem in stems])
        absent = [attributes.names[row] for row in np.flatnonzero(~there)]
        lacking = f"{len(absent)} of {len(stems)} images that {attributes.path.name} lists are"
        if absent and (config.on_bad == "raise" or not there.any()):
            raise VeilError(
                f"{lacking} not in {store.path} ({_first(absent)}); "
                'unpack all of them, or set on_bad = "skip" to use the others'
            )
        rows = np.flatnonzero(there)
        files = ImageFiles(store, tuple(at[stems[row]] for row in rows))
        images = decoded_images(
            files, config.size, config.channels, config.crop, config.on_bad, progress
        )
    notes = [f"{lacking} absent ({_first(absent)})"] if absent else []
    if unlisted := len(at.keys() - set(stems)):
        notes.append(f"{unlisted} images that {attributes.path.name} does not list left out")
    if images.skipped:
        reasons = [f"{bad.name} {bad.reason}" for bad in images.skipped]
        notes.append(f"{len(reasons)} bad images left out ({_first(reasons)})")
    return rows[images.kept], images, tuple(notes)


def _store(root: Path) -> Store:
    """The first folder or archive of aligned images that holds any."""
    for folder in SUBFOLDERS:
        for name in IMAGES:
            for ending in ("", *ARCHIVES):
                path = root / folder / (name + ending)
                if path.is_dir() if ending == "" else path.is_file():
                    store = open_store(path)
                    if store.names():
                        return store
                    store.close()
    raise VeilError(
        f"{root}: no images; expected img_align_celeba as a folder, .zip or .tar "
        "there or in Img/ (unpack a .7z first)"
    )


def _binary(attributes: NamedIntegers) -> NDArray[np.int64]:
    """(n, k) classes 0 and 1 from the codes -1/1 or 0/1."""
    values = attributes.values
    if not attributes.columns:
        raise VeilError(f"{attributes.path} has no header line that names the attributes: add it")
    _check(attributes, len(attributes.columns), range(-1, 2), "-1, 0 or 1")
    low = values.min()
    if low < 0 and np.any(values == 0):
        row, column = np.argwhere(values == 0)[0]
        raise attributes.bad(
            int(row),
            f"0 for {attributes.columns[column]} in a file that codes 'no' as -1; "
            "use one coding, -1/1 or 0/1",
        )
    classes: NDArray[np.int64] = (values > 0).astype(np.int64)
    return classes


def _check(table: NamedIntegers, width: int, allowed: range, what: str) -> None:
    """Refuse a table of another width, or a value outside `allowed`, naming its line."""
    if table.values.shape[1] != width:
        raise VeilError(
            f"{table.path} has {table.values.shape[1]} values a row where {width} are expected: "
            "it may be another file under this name"
        )
    outside = (table.values < allowed.start) | (table.values >= allowed.stop)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        where = f" for {table.columns[column]}" if table.columns else ""
        value = table.values[row, column]
        raise table.bad(int(row), f"{value}{where} is not {what}; mend the line")


def _stem(name: str) -> str:
    """The name without folder and ending: PNG copies keep the labels of the JPEGs."""
    return name.rpartition("/")[2].rsplit(".", 1)[0]


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _rows_of(table: NamedIntegers, stems: list[str]) -> NDArray[np.int64]:
    """(n,) the row of `table` that names each image, or -1."""
    row_of = {_stem(name): row for row, name in enumerate(table.names)}
    return np.array([row_of.get(stem, -1) for stem in stems], dtype=np.int64)


def _column(table: NamedIntegers, stems: list[str]) -> NDArray[np.int64]:
    """(n,) the table's one value for each image; -1 where it does not name it."""
    rows = _rows_of(table, stems)
    return np.where(rows >= 0, table.values[rows, 0], MISSING)


def _unknown(column: NDArray[np.int64], table: NamedIntegers) -> tuple[str, ...]:
    missing = int((column == MISSING).sum())
    return (f"{missing} images are not in {table.path.name}",) if missing else ()


def _stored_coordinates(points: NDArray[np.int64], config: CelebAConfig) -> NDArray[np.float32]:
    """(n, 2k) pixels of the aligned 178 x 218 image -> pixels of the stored image.

    The centre of the first pixel is (0, 0) in both.
    """
    side = min(config.crop, ALIGNED_WIDTH)
    left, top = (ALIGNED_WIDTH - side) // 2, (ALIGNED_HEIGHT - side) // 2
    corner = np.tile([left, top], points.shape[1] // 2)
    stored: NDArray[np.float32] = ((points - corner + 0.5) * config.size / side - 0.5).astype(
        np.float32
    )
    return stored


def _one_part_each(
    dataset: Dataset, partition: NDArray[np.int64]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Rows whose official part is known and whose picture has no copy in a later part."""
    everything = np.arange(len(dataset))
    if any(not np.any(partition == part) for part in range(3)):
        return everything, ()
    _, picture = np.unique(dataset.content(), return_inverse=True)
    last = np.full(len(dataset), MISSING)
    np.maximum.at(last, picture, partition)
    known = partition != MISSING
    chosen = np.flatnonzero(known & (partition == last[picture]))
    copies = int(known.sum()) - len(chosen)
    note = f"{copies} images left out: the same picture is in a later official part"
    return chosen, (note,) if copies else ()
