"""What a released file becomes, what is said when it cannot be used, and what is refused."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as drawn
from numpy.typing import NDArray
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from small_evidence import write
from veil.errors import Refused, VeilError
from veil.evidence import ATTACK_SPLITS, Evidence
from veil.mechanism import ClippedGaussian
from veil.released_file import from_file
from veil.released_rows import available_memory

N = 120
RNG = np.random.default_rng(5)
Z = RNG.normal(size=(N, 6)).astype(np.float32)
S = RNG.integers(0, 2, N)
X = RNG.integers(0, 256, (N, 3, 8, 8)).astype(np.uint8)
SPLIT = np.arange(N) % 3
AGE = RNG.integers(18, 90, N)


def notes(found: Evidence) -> str:
    return "\n".join(found.provenance["notes"])


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
    assert notes(found) == (
        "no 'split' in the file: divided at random (people unknown), 60 : 15 : 25"
    )
    assert rows_of(path, seed=1) != rows


def test_safetensors_say_the_same_as_npz_and_bfloat16_is_read(tmp_path: Path) -> None:
    npz = from_file(write(tmp_path / "r.npz", z=Z, s=S), 0)
    save_file({"z": Z, "s": S}, tmp_path / "r.safetensors")
    same = from_file(tmp_path / "r.safetensors", 0)
    assert all(torch.equal(npz.z[split], same.z[split]) for split in ATTACK_SPLITS)
    save_torch({"z": torch.tensor(Z).bfloat16(), "s": torch.tensor(S)}, tmp_path / "b.safetensors")
    rounded = from_file(tmp_path / "b.safetensors", 0)
    assert torch.equal(rounded.z["test"], npz.z["test"].bfloat16().float())


def test_the_files_own_split_is_kept(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path / "r.npz", z=Z, s=S, split=SPLIT))
    assert rows == {s: list(range(i, N, 3)) for i, s in enumerate(ATTACK_SPLITS)}


@pytest.mark.parametrize("names", [np.arange(N) // 4, np.char.mod("person %d", np.arange(N) // 4)])
def test_people_stay_together(tmp_path: Path, names: NDArray[Any]) -> None:
    path = write(tmp_path / "r.npz", z=Z, s=S, identity=names)
    people = [{i // 4 for i in rows} for rows in rows_of(path).values()]
    assert sum(map(len, people)) == N // 4
    assert "by person" in notes(from_file(path, 0))


@pytest.mark.parametrize("unknown", [-1, np.nan, ""])
def test_unknown_people_are_nobody_rather_than_one_person(tmp_path: Path, unknown: Any) -> None:
    """Fails where -1, NaN or "" is numbered like any other person: all would be one."""
    names = np.array([unknown if i % 2 else i for i in range(N)])
    path = write(tmp_path / "r.npz", z=Z, s=S, identity=names, split=SPLIT)
    found = from_file(path, 0)
    assert found.identity is not None
    assert [int((found.identity[s] == -1).sum()) for s in ATTACK_SPLITS] == [20, 20, 20]
    divided = from_file(write(tmp_path / "d.npz", z=Z, s=S, identity=names), 0)
    assert divided.identity is not None
    assert all((divided.identity[s] == -1).sum() > 5 for s in ATTACK_SPLITS)
    nobody = np.full(N, unknown)
    assert from_file(write(tmp_path / "n.npz", z=Z, s=S, identity=nobody), 0).identity is None


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


@pytest.mark.parametrize(("draws", "counts"), [(2, [2]), (5, [4, 5]), (60, [4, 16, 50, 60])])
def test_draws_are_averaged_and_one_draw_is_attacked(
    tmp_path: Path, draws: int, counts: list[int]
) -> None:
    z = 1e4 + Z[:, None] + RNG.normal(size=(N, draws, 6)).astype(np.float32)
    found = from_file(write(tmp_path / "r.npz", z_draws=z, s=S, split=SPLIT), 0)
    assert (found.random, found.draws, sorted(found.averaged)) == (True, draws, counts)
    for code, split in enumerate(ATTACK_SPLITS):
        own = z[code == SPLIT].astype(np.float64)
        assert torch.equal(found.z[split], torch.from_numpy(own[:, 0]).float())
        for count, mean in found.averaged.items():
            expected = own[:, :count].mean(1).astype(np.float32)
            np.testing.assert_allclose(mean[split], expected, rtol=1e-7)
        assert (found.deviation is None) == (draws < 3)
        if found.deviation is not None:
            np.testing.assert_allclose(found.deviation[split], own.std(1, ddof=1), rtol=1e-5)


def test_one_draw_is_random_too(tmp_path: Path) -> None:
    one = from_file(write(tmp_path / "one.npz", z_draws=Z[:, None], s=S), 0)
    assert (one.random, one.draws, one.averaged, one.deviation) == (True, 1, {}, None)


def test_labels_of_many_names(tmp_path: Path) -> None:
    groups = np.where(np.arange(N) % 7 == 0, "", np.where(S == 0, "old", "young"))
    path = write(
        tmp_path / "r.npz", z=Z, s=S, s_age=AGE, s_hair=SPLIT, y_smile=S, y=AGE / 9, g=groups
    )
    found = from_file(path, 0)
    assert (found.private, found.utility) == (("s", "age", "hair"), ("smile", "y"))
    kinds = {name: label.kind for name, label in found.meaning.items()}
    assert kinds == {
        **{"s": "binary", "age": "continuous", "hair": "multiclass", "smile": "binary"},
        **{"y": "continuous", "g": "binary", "identity": "identity"},
    }
    assert found.meaning["g"].classes == ("old", "young")
    assert found.subgroups is not None
    rows = rows_of(path)["test"]
    assert found.group == "g"
    assert np.array_equal(found.subgroups["test"], np.where(groups[rows] == "", -1, S[rows]))
    assert np.array_equal(found.labels["age"]["test"], AGE[rows].astype(np.float32))
    assert "'s_age' has" in notes(found)
    assert "distinct whole numbers: treated as a quantity" in notes(found)


def test_private_targets_are_chosen_and_the_rest_left_for_a_scan(tmp_path: Path) -> None:
    people = np.arange(N)
    path = write(tmp_path / "r.npz", z=Z, s=S, s_age=AGE, s_hair=SPLIT, x=X, identity=people)
    asked = ("hair", "identity", "reconstruction")
    found = from_file(path, 0, private=asked, mechanism=ClippedGaussian(1.0, 0.5))
    assert found.private == asked
    assert set(found.labels) == {"hair"}
    assert set(found.undeclared) == {"s"}  # a quantity is not scanned
    assert found.mechanism == ClippedGaussian(1.0, 0.5)
    alone = write(tmp_path / "i.npz", z=Z, identity=people)
    assert from_file(alone, 0, private=("identity",)).private == ("identity",)
    with pytest.raises(VeilError, match="no private label 'hairs': did you mean 'hair'"):
        from_file(path, 0, private=("s", "hairs"))
    with pytest.raises(VeilError, match="no private label 'g'"):
        from_file(path, 0, private=("g",))
    bare = write(tmp_path / "b.npz", z=Z, s=S)
    for name, array in {"identity": "identity", "reconstruction": "x"}.items():
        with pytest.raises(VeilError, match=f"only with the array '{array}'"):
            from_file(bare, 0, private=(name,))


@pytest.mark.parametrize(
    "z",
    [
        Z.astype(np.float16),
        np.full((N, 4), 0.1),
        np.arange(N),
        Z > 0,
        np.abs(Z * 9).astype(np.uint8),
        np.where(Z > 0, np.nan, Z),
        np.where(Z > 0, np.inf, Z),
        np.float32(3e38) * np.sign(Z),
        Z.reshape(N, 1, 2, 3),
    ],
    ids=["half", "constant", "flat", "bool", "bytes", "nan", "inf", "enormous", "map"],
)
def test_releases_of_all_kinds_are_float32(tmp_path: Path, z: NDArray[Any]) -> None:
    found = from_file(write(tmp_path / "r.npz", z=z, s=S, split=SPLIT), 0)
    expected = z[SPLIT == 2].astype(np.float32).reshape(N // 3, *(z.shape[1:] or (1,)))
    assert found.z["test"].dtype == torch.float32
    np.testing.assert_array_equal(found.z["test"], expected)


def test_rounding_to_float32_is_noted_only_where_it_happens(tmp_path: Path) -> None:
    fine = from_file(write(tmp_path / "r.npz", z=Z.astype(np.float64), s=S), 0)
    assert "float32" not in notes(fine)
    rounded = from_file(write(tmp_path / "r.npz", z=Z.astype(np.float64) / 3, s=S), 0)
    assert "'z' is float64 and was attacked as float32" in notes(rounded)


HIDDEN: list[tuple[str, NDArray[Any]]] = [
    ("tell apart in 1 of its 6", Z + np.float64(1e9) * np.eye(6)[2] * (1 + 1e-12 * S[:, None])),
    (r"first: 2\)", Z + np.float64(1e9) * np.eye(6)[2] * (1 + 1e-12 * S[:, None])),
    ("tell apart in 1 of its 1 ", np.where(S == 0, 1.0, 1 + 1e-9)),
    ("tell apart in 1 of its 1 ", np.where(S == 0, 1e-60, 2e-60)),
    ("whole numbers beyond 16,777,216", 2**40 + S),
    ("whole numbers beyond", -(2**62) + S),
    ("beyond 3.4e38", np.where(S == 0, 1e300, 2e300)),
]


@pytest.mark.parametrize(("says", "z"), HIDDEN)
def test_what_float32_would_hide_is_an_error(tmp_path: Path, says: str, z: NDArray[Any]) -> None:
    """Each of these releases tells s in double precision and says nothing in float32."""
    flat = z.reshape(N, -1)
    releases = [{"z": z}, {"z_draws": np.stack([flat, flat], 1)}]
    if "beyond" in says:  # of a later draw too
        releases.append({"z_draws": np.stack([np.zeros_like(flat), flat], 1)})
    for arrays in releases:
        with pytest.raises(VeilError, match=says):
            from_file(write(tmp_path / "r.npz", s=S, **arrays), 0)


def test_releases_of_test_that_occur_in_attack_are_noted(tmp_path: Path) -> None:
    z = RNG.normal(size=(N, 16)).astype(np.float32)
    z[[2, 5]] = z[[0, 3]]
    note = "2 of the test releases occur bit for bit in attack"
    assert note in notes(from_file(write(tmp_path / "r.npz", z=z, s=S, split=SPLIT), 0))
    for legitimate in (z[:, :15], np.zeros_like(z), z[np.arange(N) % 9]):
        path = write(tmp_path / "ok.npz", z=legitimate, s=S, split=SPLIT)
        assert "bit for bit" not in notes(from_file(path, 0))


BAD: list[tuple[str, dict[str, Any]]] = [
    ("unknown array 'identitty': did you mean 'identity'", {"z": Z, "s": S, "identitty": S}),
    ("unknown array 'S_age': did you mean 's_age'", {"z": Z, "s": S, "S_age": S}),
    ("unknown array 's_': did you mean 's'", {"z": Z, "s_": S}),
    ("unknown array 'QQ': known: .* s_NAME, .* y_NAME", {"z": Z, "QQ": S}),
    (r"unknown array 's_\\x1b'", {"z": Z, "s_\x1b": S}),
    ("'z' .* or 'z_draws'", {"s": S}),
    ("'z' .* or 'z_draws'", {"z": Z, "z_draws": Z[:, None], "s": S}),
    ("'s' .* is missing", {"z": Z}),
    ("'s' .* is missing", {"z": Z, "y": S}),
    ("the name 'age' is taken", {"z": Z, "s_age": S, "y_age": S}),
    ("the name 'y' is taken", {"z": Z, "y": S, "s_y": S}),
    ("the name 'identity' is taken", {"z": Z, "s_identity": S}),
    ("the name 'g' is taken", {"z": Z, "s_g": S}),
    ("shape", {"z": np.array(1.0), "s": S}),
    ("shape", {"z": Z[:, :0], "s": S}),
    ("shape", {"z": Z[:0], "s": S[:0]}),
    ("z_draws", {"z_draws": Z, "s": S}),
    ("z_draws", {"z_draws": np.zeros((N, 0, 4)), "s": S}),
    ("complex", {"z": Z + 1j, "s": S}),
    ("type <U1", {"z": Z.astype("U1"), "s": S}),
    ("no finite number", {"z": np.full_like(Z, np.nan), "s": S}),
    ("120 rows", {"z": Z, "s": S[:-1]}),
    ("120 rows", {"z": Z, "s": S, "x": X[1:]}),
    ("must have rows", {"z": Z, "s": np.array(1)}),
    ("labels are \\(n,\\)", {"z": Z, "s": S[:, None]}),
    ("'y' has 0 distinct values", {"z": Z, "s": S, "y": np.full(N, -1)}),
    ("'g' has 1 distinct values", {"z": Z, "s": S, "g": np.zeros(N, int)}),
    ("subgroups are classes", {"z": Z, "s": S, "g": AGE / 2}),
    ("10 at least", {"z": Z[:3], "s": np.array([0, 1, 0])}),
    ("0 rows in 'test' .* 10 at least", {"z": Z, "s": S, "split": S}),
    ("'split' must be", {"z": Z, "s": S, "split": np.arange(N)}),
    ("'split' must be", {"z": Z, "s": S, "split": np.full((N, 1), 0)}),
    ("'identity' has shape", {"z": Z, "s": S, "identity": S[:, None]}),
    ("'identity' holds fractions", {"z": Z, "s": S, "identity": Z[:, 0]}),
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


ANY_ARRAY = st.sampled_from(
    ["?", "u1", "i8", "f2", "f4", ">f8", "c8", "<U2", "S1", "M8[s]"]
).flatmap(
    lambda kind: drawn.arrays(kind, st.sampled_from([(40,), (40, 1), (40, 3), (40, 3, 8, 8), (3,)]))
)
NAMES = st.sampled_from(
    ["z", "z_draws", "s", "y", "x", "identity", "g", "split", "s_a", "y_a", "q"]
)


@given(arrays=st.dictionaries(NAMES, ANY_ARRAY, max_size=5), likely=st.booleans())
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_file_is_a_traceback(
    tmp_path: Path, arrays: dict[str, NDArray[Any]], likely: bool
) -> None:
    """`likely` files have a fair release and label, so that other arrays are reached."""
    fair: dict[str, NDArray[Any]] = {}
    if likely and "z_draws" not in arrays:
        fair = {"z": Z[:40], "s": np.arange(40) % 2}
    said = ""
    try:
        found = from_file(write(tmp_path / "any.npz", **{**arrays, **fair}), 0)
    except VeilError as error:
        said = str(error)
    else:
        assert all(len(z) == len(found.labels["s"][n]) for n, z in found.z.items() if fair)
    assert "\n" not in said


def test_shared_people_are_refused_even_where_few_rows_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "r.npz", z=Z, s=S, identity=np.arange(N) // 2, split=SPLIT)
    for memory in (None, 40 * Z[0].nbytes):
        with pytest.raises(Refused, match="share 20 people") as caught:
            from_file(path, 0, memory=memory)
        assert caught.value.id == "overlap"
    from_file(write(tmp_path / "ok.npz", z=Z, s=S, identity=SPLIT, split=SPLIT), 0)


def test_shared_pictures_are_refused(tmp_path: Path) -> None:
    x = X.copy()
    from_file(write(tmp_path / "ok.npz", z=Z, s=S, x=x, split=SPLIT), 0)
    x[2] = x[0]
    with pytest.raises(Refused, match="'attack' and 'test' share 1 identical") as caught:
        from_file(write(tmp_path / "r.npz", z=Z, s=S, x=x, split=SPLIT), 0)
    assert caught.value.id == "overlap"


@pytest.mark.parametrize("split", [None, np.repeat([0, 1, 2], [2400, 600, 1000])])
def test_of_a_large_file_whole_people_are_kept_in_proportion(
    tmp_path: Path, split: NDArray[Any] | None
) -> None:
    n = 4000
    z = np.arange(n * 10, dtype=np.float32).reshape(n, 10)
    people = np.arange(n) // 8
    arrays: dict[str, NDArray[Any]] = {"z": z, "s": people % 2, "identity": people}
    arrays |= {} if split is None else {"split": split}
    path = write(tmp_path / "r.npz", **arrays)
    found = from_file(path, 0, memory=40_000)
    sizes = {name: len(part) for name, part in found.z.items()}
    assert 0.85 * 1000 < sum(sizes.values()) <= 1000 * 15 / 16
    assert found.provenance["notes"][-1] == (
        f"the file holds 4000 rows; {sum(sizes.values())} of them fit into the memory given "
        "(4e-05 GB) and were attacked"
    )
    for name, share in zip(ATTACK_SPLITS, (0.6, 0.15, 0.25), strict=True):
        assert abs(sizes[name] / sum(sizes.values()) - share) < 0.01
        rows = (found.z[name][:, 0].numpy() / 10).astype(int)
        assert np.array_equal(found.z[name], z[rows])
        assert np.array_equal(found.labels["s"][name], people[rows] % 2)
        assert found.identity is not None
        assert np.array_equal(found.identity[name], people[rows])
        assert (np.unique(people[rows], return_counts=True)[1] == 8).all()
    again, other = from_file(path, 0, memory=40_000), from_file(path, 1, memory=40_000)
    assert torch.equal(again.z["attack"], found.z["attack"])
    assert not torch.equal(other.z["attack"], found.z["attack"])


def test_originals_count_too_and_stay_beside_their_releases(tmp_path: Path) -> None:
    path = write(tmp_path / "r.npz", z=X.reshape(N, -1), s=S, x=X)
    each = 192 * 4 + 192 * 5
    found = from_file(path, 0, memory=90 * each)
    assert found.originals is not None
    assert 75 < sum(map(len, found.z.values())) <= 90 * 15 // 16
    for split in ATTACK_SPLITS:
        pixels = found.originals(split).reshape(len(found.z[split]), -1) * 255
        assert torch.allclose(pixels, found.z[split], atol=1e-3)


def test_too_little_memory_is_one_clear_line(tmp_path: Path) -> None:
    path = write(tmp_path / "r.npz", z=Z, s=S)
    with pytest.raises(VeilError, match=r"rows in .* GB hold 46 of 120 rows\); .* 10 at least"):
        from_file(path, 0, memory=50 * Z[0].nbytes)
    wide = write(tmp_path / "w.npz", z_draws=np.zeros((N, 5000, 1)), s=S)
    with pytest.raises(VeilError, match="one row of 'z_draws' takes 40,048 bytes to read"):
        from_file(wide, 0, memory=30_000)
    text = write(tmp_path / "t.npz", z=Z, s=S, identity=np.full(N, "a" * 100))
    with pytest.raises(VeilError, match="'identity' takes 48,000 bytes, more than the 30,000"):
        from_file(text, 0, memory=30_000)


def test_memory_at_hand_is_no_more_than_the_machine_has() -> None:
    assert 1 << 24 < available_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("kind", ["stored", "compressed", "columns", "safetensors", "draws"])
def test_memory_stays_near_what_was_given(tmp_path: Path, kind: str) -> None:
    """A file of 32 MB read with 8 MB; fails where the whole array is ever in memory."""
    z = np.resize(RNG.normal(size=(4, 400)).astype(np.float32), (20_000, 400))
    arrays: dict[str, Any] = {"z": z, "s": np.arange(20_000) % 2}
    path = tmp_path / ("r.safetensors" if kind == "safetensors" else "r.npz")
    if kind == "draws":
        arrays = {"z_draws": z.reshape(-1, 20, 20), "s": arrays["s"]}
    elif kind == "columns":
        arrays["z"] = np.asfortranarray(z)
    if kind == "safetensors":
        save_file(arrays, path)
    else:
        (np.savez_compressed if kind == "compressed" else np.savez)(path, **arrays)
    del z, arrays
    memory = 8_000_000
    tracemalloc.start()
    found = from_file(path, 0, memory=memory)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = [found.z, *found.averaged.values(), *([found.deviation] if found.deviation else [])]
    used = sum(part.nbytes for parts in kept for part in parts.values())
    assert 0.85 * memory < used <= memory
    assert peak < memory + 6_000_000
