"""Arrays come back as they were saved, block by block; everything else is one clear line."""

from __future__ import annotations

import io
import json
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as drawn
from numpy.typing import NDArray
from safetensors.torch import save_file

from veil.array_file import open_arrays
from veil.errors import VeilError

RNG = np.random.default_rng(5)
Z = RNG.normal(size=(50, 3, 4))
TYPES = st.sampled_from(["?", "<u1", "<i2", ">i4", "<i8", "<u8", "<f2", ">f4", "<f8", "<U3", "S2"])
FILE = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def blocks_of(path: Path, name: str, rows: int) -> NDArray[Any]:
    blocks = list(open_arrays(path)[name].blocks(rows))
    assert all(len(block) <= rows for block in blocks)
    return np.concatenate(blocks)


@given(
    array=TYPES.flatmap(
        lambda kind: drawn.arrays(
            kind,
            drawn.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=7),
            elements=st.text("ab", max_size=2) if kind == "<U3" else None,
        )
    ),
    rows=st.integers(1, 9),
    small=st.booleans(),
    by_column=st.booleans(),
)
@FILE
def test_blocks_are_the_array(
    tmp_path: Path, array: NDArray[Any], rows: int, small: bool, by_column: bool
) -> None:
    saved = np.asfortranarray(array) if by_column else array
    (np.savez_compressed if small else np.savez)(tmp_path / "a.npz", z=saved)
    stored = open_arrays(tmp_path / "a.npz")["z"]
    assert (stored.shape, stored.dtype) == (array.shape, array.dtype.newbyteorder("="))
    for found in (blocks_of(tmp_path / "a.npz", "z", rows), stored.read()):
        assert found.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int64", "float16", "float64", "bfloat16", "float8_e4m3fn"]
)
def test_safetensors_come_back(tmp_path: Path, dtype: str) -> None:
    tensor = torch.from_numpy(Z).abs().to(getattr(torch, dtype))
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(3), "z": tensor}, path, metadata={"made": "here"})
    stored = open_arrays(path)["z"]
    short = dtype in ("bfloat16", "float8_e4m3fn")
    assert stored.dtype == ("float32" if short else dtype)
    expected = (tensor.float() if short else tensor).numpy()
    np.testing.assert_array_equal(blocks_of(path, "z", 7), expected)


def test_opening_and_reading_hold_no_more_than_a_block(tmp_path: Path) -> None:
    """Fails where the whole array is read (40 MB)."""
    whole = np.zeros((1000, 10_000), np.float32)
    np.savez_compressed(tmp_path / "a.npz", z=whole)
    save_file({"z": torch.from_numpy(whole)}, tmp_path / "a.safetensors")
    del whole
    for name in ("a.npz", "a.safetensors"):
        tracemalloc.start()
        for block in open_arrays(tmp_path / name)["z"].blocks(20):
            assert block.nbytes == 800_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 6_000_000


class Poison:
    """Unpickling an instance leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_pickles_are_refused_and_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "run"
    np.savez(tmp_path / "bad.npz", z=Z, s=np.array([Poison(mark)] * 50, dtype=object))
    with pytest.raises(VeilError, match="pickled objects, which could run code"):
        open_arrays(tmp_path / "bad.npz")
    (tmp_path / "pure.npz").write_bytes(pickle.dumps(Poison(mark)))
    with pytest.raises(VeilError, match=r"no \.npz file"):
        open_arrays(tmp_path / "pure.npz")
    assert not mark.exists()
    np.load(tmp_path / "bad.npz", allow_pickle=True)["s"]  # the poison works
    assert mark.exists()


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"
MEMBERS = {
    "is not an array": {"z.txt": b"z"},
    "'z' is not an array": {"z.npy": b"z"},
    "says 16 bytes and has 12": {"z.npy": npy(HEADER % "(4,)", bytes(12))},
    "says 16 bytes and has 20": {"z.npy": npy(HEADER % "(4,)", bytes(20))},
    "says 8000000000000 bytes": {"z.npy": npy(HEADER % "(10, 200000000000)", bytes(20))},
    "says -16 bytes": {"z.npy": npy(HEADER % "(-4,)")},
    "must have rows": {"z.npy": npy(HEADER % "()", bytes(4))},
    "structured": {"z.npy": npy(HEADER % "(4,)", bytes(16), b"\x03\x00")},
    r"type \[\('a', '<i4'\)\]": {"z.npy": npy(HEADER.replace("'<f4'", "[('a','<i4')]") % "(0,)")},
    "type datetime64": {"z.npy": npy(HEADER.replace("<f4", "<M8[s]") % "(0,)")},
    "type <U0": {"z.npy": npy(HEADER.replace("<f4", "<U0") % "(4,)")},
    "cannot be read": {"z.npy": npy("__import__('os')")},
    "'a\\\\nb' is not an array": {"a\nb": b""},
}


@pytest.mark.parametrize("says", MEMBERS)
def test_odd_members_are_one_clear_line(tmp_path: Path, says: str) -> None:
    path = tmp_path / "bad.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in MEMBERS[says].items():
            archive.writestr(name, content)
    with pytest.raises(VeilError, match=says) as caught:
        open_arrays(path)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        for _ in range(2):
            archive.writestr("z.npy", npy(HEADER % "(1,)", bytes(4)))
    with pytest.raises(VeilError, match="'z' is there twice"):
        open_arrays(tmp_path / "bad.npz")


def test_safetensors_of_odd_types_are_refused(tmp_path: Path) -> None:
    save_file({"z": torch.ones(4).to(torch.float8_e8m0fnu)}, tmp_path / "a.safetensors")
    with pytest.raises(VeilError, match="type F8_E8M0; save it as float32"):
        open_arrays(tmp_path / "a.safetensors")
    header = json.dumps({"z": {"dtype": "F32", "shape": [9], "data_offsets": [0, 16]}}).encode()
    liar = len(header).to_bytes(8, "little") + header + bytes(16)
    (tmp_path / "b.safetensors").write_bytes(liar)
    with pytest.raises(VeilError, match=r"b\.safetensors: cannot be read"):
        open_arrays(tmp_path / "b.safetensors")


def test_what_is_no_such_file_is_one_clear_line(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", Z)
    (tmp_path / "npy.npz").write_bytes((tmp_path / "array.npy").read_bytes())
    for name in ("empty.npz", "empty.safetensors", "table.csv"):
        (tmp_path / name).touch()
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 50)
    (tmp_path / "folder.npz").mkdir()
    for name in ("npy.npz", "none.npz", *(path.name for path in tmp_path.iterdir())):
        with pytest.raises(VeilError, match=name.replace(".", r"\.")) as caught:
            open_arrays(tmp_path / name)
        assert "\n" not in str(caught.value)


def whole_files() -> list[tuple[str, bytes]]:
    stored, small = io.BytesIO(), io.BytesIO()
    np.savez(stored, z=Z, s=np.arange(50))
    np.savez_compressed(small, z=np.asfortranarray(Z), s=np.arange(50))
    header = json.dumps({"z": {"dtype": "F64", "shape": [50, 12], "data_offsets": [0, 4800]}})
    tensors = len(header).to_bytes(8, "little") + header.encode() + Z.tobytes()
    return [(".npz", stored.getvalue()), (".npz", small.getvalue()), (".safetensors", tensors)]


@given(
    whole=st.sampled_from(whole_files()),
    cut=st.floats(0, 1),
    at=st.floats(0, 1),
    content=st.binary(max_size=8),
)
@FILE
def test_damage_is_never_a_traceback(
    tmp_path: Path, whole: tuple[str, bytes], cut: float, at: float, content: bytes
) -> None:
    """A zip archive notices every wrong byte of its data; safetensors has no checksum."""
    suffix, good = whole
    start = int(at * len(good))
    path = (tmp_path / "damaged").with_suffix(suffix)
    bad = good[:start] + content + good[start + len(content) :]
    path.write_bytes(bad[: len(bad) - int(cut * len(bad) / 2)] if cut < 0.5 else bad)
    said, arrays = "", {}
    try:
        arrays = {name: array.read() for name, array in open_arrays(path).items()}
    except VeilError as error:
        said = str(error)
    assert said.startswith(str(path) if said else "")
    assert "\n" not in said
    if suffix == ".npz" and "z" in arrays:
        np.testing.assert_array_equal(arrays["z"], Z)


def test_a_wrong_byte_of_the_data_is_noticed(tmp_path: Path) -> None:
    for _, good in whole_files()[:2]:
        middle = len(good) // 2
        wrong = bytes([good[middle] ^ 255])
        (tmp_path / "a.npz").write_bytes(good[:middle] + wrong + good[middle + 1 :])
        array = open_arrays(tmp_path / "a.npz")["z"]
        with pytest.raises(VeilError, match="cannot be read"):
            array.read()
