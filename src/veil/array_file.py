"""Arrays of a `.npz` or `.safetensors` file, read block by block and never unpickled.

Opening a file reads what its arrays are called, their shapes and types, and holds the file to its
word: an array whose bytes are not all there, or are more than its shape says, is an error. Their
contents are read only on demand, in order, into as little memory as the reader likes.

The formats: NEP 1 (`.npy`, of which `.npz` is a zip archive) and the safetensors header
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from zipfile import ZipFile, is_zipfile

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from safetensors import safe_open

from veil.errors import VeilError

BYTES_AT_ONCE: Final = 1 << 20
HEADERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
READABLE_KINDS: Final = "biufcUS"
TENSORS: Final[Mapping[str, str]] = {
    **{"BOOL": "?", "U8": "<u1", "I8": "<i1", "U16": "<u2", "I16": "<i2", "U32": "<u4"},
    **{"I32": "<i4", "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8"},
    **{"C64": "<c8"},
}
# What numpy has no type for is handed out as float32.
SHORT_FLOATS: Final[Mapping[str, tuple[str, torch.dtype]]] = {
    "BF16": ("<u2", torch.bfloat16),
    "F8_E4M3": ("u1", torch.float8_e4m3fn),
    "F8_E5M2": ("u1", torch.float8_e5m2),
}


@dataclass(frozen=True)
class StoredArray:
    """One array of a file: what its header says. Nothing else has been read.

    Attributes:
        path: the file; name: the array's.
        shape: at least one dimension, whose entries are the rows.
        dtype: of the values handed out: numbers, bool or text.
        stored: of the values in the file, with their byte order.
        offset: where the data begin, in bytes.
        member: the member of a zip archive, "" in a plain file.
        by_column: whether the first index varies fastest (Fortran order).
        short: the float type, unknown to numpy, whose bytes `stored` holds.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored: np.dtype[Any]
    offset: int
    member: str = ""
    by_column: bool = False
    short: torch.dtype | None = None

    @property
    def nbytes(self) -> int:
        """The size of the data in the file."""
        return math.prod(self.shape) * self.stored.itemsize

    def blocks(self, rows: int) -> Iterator[NDArray[Any]]:
        """All rows in order, (at most `rows`, ...) at once; the memory of one block is held.

        Raises:
            VeilError: the file was damaged, cut short or changed since it was opened. Of a zip
                archive the last block shows it: its checksum is of all of an array.
        """
        with _reading(self.path), _content(self.path, self.member) as file:
            file.seek(self.offset)
            if self.by_column and len(self.shape) > 1:
                yield from self._transposed(file, rows)
            else:
                for start in range(0, max(1, self.shape[0]), rows):
                    count = min(rows, self.shape[0] - start)
                    yield self._values(_bytes(file, count * self.nbytes // max(1, self.shape[0])))

    def read(self) -> NDArray[Any]:
        """The whole array."""
        (whole,) = self.blocks(max(1, self.shape[0]))
        return whole

    def _values(self, content: NDArray[np.uint8]) -> NDArray[Any]:
        values: NDArray[Any]
        if self.short is None:
            values = content.view(self.stored).astype(self.dtype, copy=False)
        else:
            values = torch.from_numpy(content).view(self.short).float().numpy()
        return values.reshape(-1, *self.shape[1:])

    def _transposed(self, file: IO[bytes], rows: int) -> Iterator[NDArray[Any]]:
        """Rows lie scattered: the data go through a file on disk, where any byte is at hand."""
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(file, copy, BYTES_AT_ONCE)
            copy.flush()
            whole = np.memmap(copy, self.stored, "r", shape=self.shape, order="F")
            for start in range(0, self.shape[0], rows):
                yield np.array(whole[start : start + rows], self.dtype, order="C")


def open_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays of a `.npz` or `.safetensors` file by name, their contents not yet read.

    Raises:
        VeilError: no such file, damaged, or an array is pickled, structured, or has no rows.
    """
    readers = {".npz": _npz, ".safetensors": _safetensors}
    if path.suffix not in readers:
        raise VeilError(f"{path}: a release is a .npz or .safetensors file, not '{path.suffix}'")
    if not path.is_file():
        raise VeilError(f"{path}: no such file")
    with _reading(path):
        arrays = {}
        for array in readers[path.suffix](path):
            if array.name in arrays:
                raise VeilError(f"{path}: {array.name!r} is there twice")
            if not array.shape or min(array.shape) < 0:
                raise VeilError(
                    f"{path}: {array.name!r} has shape {array.shape}; it must have rows, one per "
                    "image"
                )
            arrays[array.name] = array
        return arrays


def _npz(path: Path) -> Iterator[StoredArray]:
    if not is_zipfile(path):
        raise VeilError(f"{path}: is no .npz file, or was cut short")
    with ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as file:
                if not info.filename.endswith(".npy") or file.read(6) != npy.MAGIC_PREFIX:
                    raise VeilError(f"{path}: {name!r} is not an array")
                version = (file.read(1)[0], file.read(1)[0])
                if version not in HEADERS:
                    raise VeilError(f"{path}: {name!r} is structured; save its fields one by one")
                with warnings.catch_warnings():  # about old spellings of types
                    warnings.simplefilter("ignore")
                    shape, by_column, dtype = HEADERS[version](file)
                offset = file.tell()
            if dtype.hasobject:
                raise VeilError(
                    f"{path}: {name!r} holds pickled objects, which could run code; save plain "
                    "arrays"
                )
            if dtype.kind not in READABLE_KINDS or dtype.itemsize == 0:
                raise VeilError(f"{path}: {name!r} has type {dtype}; save numbers or text")
            array = StoredArray(
                path=path,
                name=name,
                shape=shape,
                dtype=dtype.newbyteorder("="),
                stored=dtype,
                offset=offset,
                member=info.filename,
                by_column=by_column,
            )
            if offset + array.nbytes != info.file_size:
                raise VeilError(
                    f"{path}: {name!r} says {array.nbytes} bytes and has {info.file_size - offset}"
                )
            yield array


def _safetensors(path: Path) -> Iterator[StoredArray]:
    with safe_open(path, "numpy"):
        pass  # the format's own library refuses what is damaged, overlaps or leaves holes
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    for name, entry in header.items():
        kind, shape = entry["dtype"], tuple(entry["shape"])
        if kind not in TENSORS and kind not in SHORT_FLOATS:
            raise VeilError(f"{path}: {name!r} has type {kind}; save it as float32")
        stored, short = SHORT_FLOATS.get(kind) or (TENSORS[kind], None)
        yield StoredArray(
            path=path,
            name=name,
            shape=shape,
            dtype=np.dtype(np.float32 if short else stored),
            stored=np.dtype(stored),
            offset=8 + length + entry["data_offsets"][0],
            short=short,
        )


@contextmanager
def _content(path: Path, member: str) -> Iterator[IO[bytes]]:
    if not member:
        with path.open("rb") as file:
            yield file
    else:
        with ZipFile(path) as archive, archive.open(member) as file:
            yield file


def _bytes(file: IO[bytes], count: int) -> NDArray[np.uint8]:
    """The next `count` bytes, in pieces, as zip would hold a whole read twice."""
    content = np.empty(count, np.uint8)
    for start in range(0, count, BYTES_AT_ONCE):
        piece = file.read(min(BYTES_AT_ONCE, count - start))
        if len(piece) < min(BYTES_AT_ONCE, count - start):
            raise EOFError("it ends too early")
        content[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
    return content


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside, said in one line."""
    try:
        yield
    except VeilError:
        raise
    except Exception as error:  # zip, npy and safetensors have no common error of damaged content
        lines = str(error).splitlines() or [type(error).__name__]
        raise VeilError(f"{path}: cannot be read: {lines[0]}") from None
