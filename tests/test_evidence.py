"""What a released file becomes, what is said when it cannot be used, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from small_evidence import made_up, write
from veil.errors import Refused, VeilError
from veil.evidence import ATTACK_SPLITS
from veil.released_file import class_column, from_file, read_arrays

N = 120
RNG = np.random.default_rng(5)
Z = RNG.normal(size=(N, 6)).astype(np.float32)
S = RNG.integers(0, 2, N)
X = RNG.integers(0, 256, (N, 3, 8, 8)).astype(np.uint8)


def rows_of(path: Path, seed: int = 0) -> dict[str, list[int]]:
    """Which rows of Z went where."""
    found = from_file(path, seed)
    where = {row.tobytes(): i for i, row in enumerate(Z)}
    return {s: [where[z.numpy().tobytes()] for z in found.z[s]] for s in ATTACK_SPLITS}


def test_a_file_is_divided_60_15_25_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "r.npz", z=Z, s=S, y=1 - S)
    found = from_file(path, 0)
    rows = rows_of(path)
    assert [len(rows[s]) for s in ATTACK_SPLITS] == [72, 18, 30]
    assert sorted(i for part in rows.values() for i in part) == list(range(N))
    assert all(np.array_equal(found.labels["s"][s], S[rows[s]]) for s in ATTACK_SPLITS)
    assert all(np.array_equal(found.labels["y"][s], 1 - S[rows[s]]) for s in ATTACK_SPLITS)
    assert (found.private, found.utility, found.random, found.draws) == (("s",), ("y",), False, 1)
    assert "at random" in found.provenance["notes"][0]
    assert rows_of(path, seed=1) != rows


def test_safetensors_say_the_same_as_npz_and_bfloat16_is_read(tmp_path: Path) -> None:
    npz = from_file(write(tmp_path / "r.npz", z=Z, s=S), 0)
    save_file({"z": Z, "s": S}, tmp_path / "r.safetensors")
    same = from_file(tmp_path / "r.safetensors", 0)
    assert all(torch.equal(npz.z[split], same.z[split]) for split in ATTACK_SPLITS)
    save_torch({"z": torch.tensor(Z).bfloat16(), "s": torch.tensor(S)}, tmp_path / "b.safetensors")
    rounded = from_file(tmp_path / "b.safetensors", 0)
    assert torch.allclose(rounded.z["test"], npz.z["test"], rtol=0.01)
    assert not torch.equal(rounded.z["test"], npz.z["test"])


def test_the_files_own_split_is_kept(tmp_path: Path) -> None:
    split = np.arange(N) % 3
    rows = rows_of(write(tmp_path / "r.npz", z=Z, s=S, split=split))
    assert rows == {s: list(range(i, N, 3)) for i, s in enumerate(ATTACK_SPLITS)}


@pytest.mark.parametrize("names", [np.arange(N) // 4, np.char.mod("person %d", np.arange(N) // 4)])
def test_people_stay_together(tmp_path: Path, names: NDArray[Any]) -> None:
    path = write(tmp_path / "r.npz", z=Z, s=S, identity=names)
    people = [{i // 4 for i in rows} for rows in rows_of(path).values()]
    assert sum(map(len, people)) == N // 4
    assert "by person" in from_file(path, 0).provenance["notes"][0]


@pytest.mark.parametrize("unknown", [-1, np.nan, ""])
def test_unknown_people_are_nobody_rather_than_one_person(tmp_path: Path, unknown: Any) -> None:
    """Fails where -1, NaN or "" is numbered like any other person: all would be one."""
    names = np.array([unknown if i % 2 else i for i in range(N)])
    path = write(tmp_path / "r.npz", z=Z, s=S, identity=names, split=np.arange(N) % 3)
    found = from_file(path, 0)
    assert found.identity is not None
    assert [int((found.identity[s] == -1).sum()) for s in ATTACK_SPLITS] == [20, 20, 20]
    divided = from_file(write(tmp_path / "d.npz", z=Z, s=S, identity=names), 0)
    assert divided.identity is not None
    assert all((divided.identity[s] == -1).sum() > 5 for s in ATTACK_SPLITS)


def test_identical_originals_stay_together_without_identity(tmp_path: Path) -> None:
    x = np.repeat(X[: N // 3], 3, axis=0)
    path = write(tmp_path / "r.npz", z=Z, s=S, x=x)
    pictures = [{i // 3 for i in rows} for rows in rows_of(path).values()]
    assert sum(map(len, pictures)) == N // 3


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16])
def test_originals_are_in_0_to_1(tmp_path: Path, dtype: type) -> None:
    x = X if dtype is np.uint8 else (X / 255).astype(dtype)
    path = write(tmp_path / "r.npz", z=Z, s=S, x=x)
    found = from_file(path, 0)
    assert found.originals is not None
    expected = torch.from_numpy(X[rows_of(path)["test"]]).float() / 255
    assert torch.allclose(found.originals("test"), expected, atol=1e-6)
    assert from_file(write(tmp_path / "o.npz", z=Z, s=S, x=255 - X), 0).originals_key != (
        found.originals_key
    )


def test_draws_are_averaged_and_one_draw_is_attacked(tmp_path: Path) -> None:
    draws = Z[:, None] + RNG.normal(size=(N, 5, 6))
    found = from_file(write(tmp_path / "r.npz", z_draws=draws, s=S, split=np.arange(N) % 3), 0)
    assert found.averaged is not None
    assert (found.random, found.draws) == (True, 5)
    assert torch.equal(found.z["attack"], torch.from_numpy(draws[::3, 0]).float())
    assert torch.allclose(found.averaged["attack"], torch.from_numpy(draws[::3].mean(1)).float())
    one = from_file(write(tmp_path / "one.npz", z_draws=draws[:, :1], s=S), 0)
    assert (one.random, one.draws, one.averaged) == (True, 1, None)


CODES: list[tuple[Any, list[int], tuple[str, ...]]] = [
    ([0, 1, 1], [0, 1, 1], ("no", "yes")),
    ([-1, 1, 1], [0, 1, 1], ("no", "yes")),
    ([-1, 0, 1], [-1, 0, 1], ("no", "yes")),
    ([-1, 1, 2], [-1, 0, 1], ("no", "yes")),
    ([-1, 3, 5, 9], [-1, 0, 1, 2], ("3", "5", "9")),
    ([-2, -1, 1], [0, -1, 1], ("no", "yes")),
    ([True, False], [1, 0], ("no", "yes")),
    ([0.0, 1.0, np.nan], [0, 1, -1], ("no", "yes")),
    ([-1.0, 1.0, np.nan], [0, 1, -1], ("no", "yes")),
    (np.array([7, 8], np.uint64), [0, 1], ("no", "yes")),
]


@pytest.mark.parametrize(("codes", "classes", "names"), CODES)
def test_label_codings(codes: Any, classes: list[int], names: tuple[str, ...]) -> None:
    column, label = class_column(np.asarray(codes), "s")
    assert column.tolist() == classes
    assert column.dtype == np.int64
    assert label.classes == names


@given(st.lists(st.integers(-1, 6), min_size=2, max_size=40))
@settings(max_examples=60, deadline=None)
def test_classes_keep_their_order_and_missing_rows(codes: list[int]) -> None:
    known = sorted({c for c in codes if c != -1})
    if set(codes) == {-1, 1}:
        known = [-1, 1]
    if len(known) < 2:
        with pytest.raises(VeilError, match="nothing to infer"):
            class_column(np.array(codes), "s")
        return
    column, _ = class_column(np.array(codes), "s")
    assert column.tolist() == [known.index(c) if c in known else -1 for c in codes]


BAD: list[tuple[str, dict[str, Any]]] = [
    ("did you mean 'identity'", {"z": Z, "s": S, "identitty": S}),
    ("'z' .* or 'z_draws'", {"s": S}),
    ("'z' .* or 'z_draws'", {"z": Z, "z_draws": Z[:, None], "s": S}),
    ("'s' .* is missing", {"z": Z}),
    ("shape", {"z": Z[:, 0], "s": S}),
    ("shape", {"z": np.array(1.0), "s": S}),
    ("shape", {"z": Z[:, :0], "s": S}),
    ("z_draws", {"z_draws": Z, "s": S}),
    ("z_draws", {"z_draws": np.zeros((N, 0, 4)), "s": S}),
    ("complex", {"z": Z + 1j, "s": S}),
    ("type <U1", {"z": Z.astype("U1"), "s": S}),
    ("120 rows", {"z": Z, "s": S[:-1]}),
    ("120 rows", {"z": Z, "s": np.array(1)}),
    ("labels are \\(n,\\)", {"z": Z, "s": S[:, None]}),
    ("classes \\(integers\\)", {"z": Z, "s": np.char.mod("%d", S)}),
    ("fractions", {"z": Z, "s": S + 0.5 * (S == 0)}),
    ("fractions", {"z": Z, "s": np.where(S == 0, np.inf, 0)}),
    ("nothing to infer", {"z": Z, "s": np.zeros(N, int)}),
    ("nothing to infer", {"z": Z, "s": np.full(N, np.nan)}),
    ("nothing to infer", {"z": Z, "s": S, "y": np.full(N, -1)}),
    ("is it an identity", {"z": Z, "s": np.arange(N)}),
    ("10 at least", {"z": Z[:3], "s": np.array([0, 1, 0])}),
    ("10 at least", {"z": Z, "s": S, "split": S}),
    ("'split' must be", {"z": Z, "s": S, "split": np.arange(N)}),
    ("'split' must be", {"z": Z, "s": S, "split": np.full(N, 0.5)}),
    ("'split' must be", {"z": Z, "s": S, "split": np.full((N, 1), 0)}),
    ("'identity' has shape", {"z": Z, "s": S, "identity": S[:, None]}),
    ("uint8, or float", {"z": Z, "s": S, "x": X.astype(np.int64)}),
    ("uint8, or float", {"z": Z, "s": S, "x": X.astype(np.float32)}),
    ("uint8, or float", {"z": Z, "s": S, "x": np.full(X.shape, np.nan)}),
    ("original images", {"z": Z, "s": S, "x": X[:, 0]}),
    ("original images", {"z": Z, "s": S, "x": X.transpose(0, 2, 3, 1)}),
    ("8 pixels or more", {"z": Z, "s": S, "x": X[:, :, :2, :2]}),
    ("8 pixels or more", {"z": Z, "s": S, "x": np.zeros((N, 3, 0, 0))}),
]


@pytest.mark.parametrize(("says", "arrays"), BAD)
def test_bad_arrays_are_one_clear_line(
    tmp_path: Path, says: str, arrays: dict[str, NDArray[Any]]
) -> None:
    path = write(tmp_path / "bad.npz", **arrays)
    with pytest.raises(VeilError, match=says) as caught:
        from_file(path, 0)
    assert "\n" not in str(caught.value)
    assert "bad.npz" in str(caught.value)


class Poison:
    """Unpickling an instance leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_pickles_are_refused_and_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "run"
    poisoned = np.array([Poison(mark)] * N, dtype=object)
    np.savez(tmp_path / "bad.npz", z=Z, s=S, identity=poisoned)
    with pytest.raises(VeilError, match="pickled objects, which could run code"):
        from_file(tmp_path / "bad.npz", 0)
    (tmp_path / "pure.npz").write_bytes(pickle.dumps(Poison(mark)))
    with pytest.raises(VeilError, match=r"no \.npz file"):
        from_file(tmp_path / "pure.npz", 0)
    assert not mark.exists()
    np.load(tmp_path / "bad.npz", allow_pickle=True)["identity"]  # the poison works
    assert mark.exists()


def test_damaged_files_are_one_clear_line(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.npz", z=Z, s=S).read_bytes()
    np.save(tmp_path / "array.npy", Z)
    contents = {
        "cut.npz": whole[: len(whole) // 2],
        "empty.npz": b"",
        "text.npz": b"z,s\n1,0\n",
        "npy.npz": (tmp_path / "array.npy").read_bytes(),
        "flipped.npz": whole[:400] + bytes(b ^ 255 for b in whole[400:500]) + whole[500:],
        "bad.safetensors": b"\xff" * 50,
        "empty.safetensors": b"",
        "table.csv": b"z,s\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.npz").mkdir()
    for name in (*contents, "folder.npz", "folder.safetensors", "none.npz", "none.safetensors"):
        with pytest.raises(VeilError, match=name.replace(".", r"\.")) as caught:
            read_arrays(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_shared_people_are_refused(tmp_path: Path) -> None:
    split = np.arange(N) % 3
    path = write(tmp_path / "r.npz", z=Z, s=S, identity=np.arange(N) // 2, split=split)
    with pytest.raises(Refused, match="share 20 people") as caught:
        from_file(path, 0)
    assert caught.value.id == "overlap"
    from_file(write(tmp_path / "ok.npz", z=Z, s=S, identity=split, split=split), 0)


def test_shared_pictures_are_refused(tmp_path: Path) -> None:
    x, split = X.copy(), np.arange(N) % 3
    from_file(write(tmp_path / "ok.npz", z=Z, s=S, x=x, split=split), 0)
    x[2] = x[0]
    with pytest.raises(Refused, match="'attack' and 'test' share 1 identical") as caught:
        from_file(write(tmp_path / "r.npz", z=Z, s=S, x=x, split=split), 0)
    assert caught.value.id == "overlap"


def test_rows_without_a_label_leave_every_column() -> None:
    s = np.where(np.arange(N) % 5 == 0, -1, S)
    whole = made_up(Z, s, y=1 - S, identity=np.arange(N), originals=X / 255)
    known = whole.knowing("s")
    for split in ATTACK_SPLITS:
        kept = whole.labels["s"][split] != -1
        assert np.array_equal(known.labels["s"][split], whole.labels["s"][split][kept])
        assert np.array_equal(known.labels["y"][split], whole.labels["y"][split][kept])
        assert torch.equal(known.z[split], whole.z[split][torch.from_numpy(kept)])
        assert known.identity is not None
        assert len(known.identity[split]) == kept.sum()
        assert known.originals is not None
        assert whole.originals is not None
        assert torch.equal(known.originals(split), whole.originals(split)[torch.from_numpy(kept)])
    assert known.originals_key != whole.originals_key
    assert whole.knowing("y") is whole
    with pytest.raises(VeilError, match="people are unknown"):
        made_up(Z, S).knowing("identity")
