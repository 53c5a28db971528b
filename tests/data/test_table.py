"""Any folder with a table: what each column becomes, and what is said when it cannot be used."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from veil.data.columns import ColumnKind, NoLabel, Table, label_of, read_table
from veil.data.table import TableConfig
from veil.errors import VeilError

COUNT = 12
NAMES = [f"{i:02}.png" for i in range(COUNT)]
PIXELS = np.random.default_rng(3).integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEIL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve pictures and no table yet."""
    root = tmp_path / "faces"
    root.mkdir()
    for name, pixels in zip(NAMES, PIXELS, strict=True):
        Image.fromarray(pixels).save(root / name)
    return root


def write_table(root: Path, file: str = "labels.csv", **columns: Sequence[object]) -> Path:
    rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values()))]  # noqa: B905
    path = root / file
    path.write_text("\n".join(rows) + "\n")
    return path


def config(root: Path, **settings: object) -> TableConfig:
    return TableConfig.model_validate({"root": root, "size": 8, **settings})


def table_of(*cells: str) -> Table:
    """A table with the one column "c", as read from a file."""
    values = [None if cell == "" else cell for cell in cells]
    return Table(Path("t.csv"), {"c": values}, range(2, len(cells) + 2))


INFERRED = [
    (("0", "1", "1", ""), "binary", ("no", "yes"), [0, 1, 1, -1]),
    (("-1", "1", "1"), "binary", ("no", "yes"), [0, 1, 1]),
    (("1.0", "0.0", ""), "binary", ("no", "yes"), [1, 0, -1]),
    (("Yes", "no", "NO"), "binary", ("no", "yes"), [1, 0, 0]),
    (("True", "false"), "binary", ("no", "yes"), [1, 0]),
    (("1", "1"), "binary", ("no", "yes"), [1, 1]),
    (("man", "woman", "man", "woman"), "binary", ("man", "woman"), [0, 1, 0, 1]),
    (("b", "a", "c", "a", "b", "c"), "multiclass", ("a", "b", "c"), [1, 0, 2, 0, 1, 2]),
    (("10", "9", "2", ""), "multiclass", ("2", "9", "10"), [2, 1, 0, -1]),
    (("0.5", "2", "", "1e3"), "continuous", (), [0.5, 2, np.nan, 1000]),
    (tuple(map(str, range(30))), "continuous", (), list(range(30))),
]


@pytest.mark.parametrize(("cells", "kind", "classes", "values"), INFERRED)
def test_what_a_column_is_taken_for(
    cells: tuple[str, ...], kind: str, classes: tuple[str, ...], values: list[float]
) -> None:
    label, column = label_of(table_of(*cells), "c")
    assert (label.kind, label.classes) == (kind, classes)
    assert column.dtype == (np.float32 if kind == "continuous" else np.int64)
    assert np.array_equal(column, np.array(values), equal_nan=kind == "continuous")


UNUSABLE = [
    (("", ""), "empty"),
    (("note one", "note two", "note three"), "3 different texts in 3 rows"),
    (("same", "same", "same"), "says 'same' everywhere"),
]


@pytest.mark.parametrize(("cells", "words"), UNUSABLE)
def test_what_can_be_no_label(cells: tuple[str, ...], words: str) -> None:
    with pytest.raises(NoLabel, match=words):
        label_of(table_of(*cells), "c")


OVERRIDDEN: list[tuple[tuple[str, ...], ColumnKind, list[float]]] = [
    (("3", "1", "2"), "continuous", [3, 1, 2]),
    (("0", "1", "1"), "multiclass", [0, 1, 1]),
    (("zoe", "adam", "zoe", ""), "identity", [1, 0, 1, -1]),
    (("note one", "note two"), "multiclass", [0, 1]),
]


@pytest.mark.parametrize(("cells", "kind", "values"), OVERRIDDEN)
def test_a_given_kind_wins(cells: tuple[str, ...], kind: ColumnKind, values: list[float]) -> None:
    label, column = label_of(table_of(*cells), "c", kind)
    assert label.kind == kind
    assert column.tolist() == values


def test_values_that_do_not_fit_the_given_kind() -> None:
    with pytest.raises(VeilError, match="3 values"):
        label_of(table_of("a", "b", "c"), "c", "binary")
    with pytest.raises(VeilError, match=r"t\.csv, line 3: 'tall' in column 'c' is not a finite"):
        label_of(table_of("1.5", "tall"), "c", "continuous")
    with pytest.raises(VeilError, match="'inf'"):
        label_of(table_of("1.5", "inf"), "c", "continuous")


cells = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(cells, cells), min_size=1, max_size=5),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_a_csv_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    coding: str,
    newline: str,
) -> None:
    """Quoted cells with commas, quotes and accents, against the cells themselves."""
    path = tmp_path_factory.mktemp("csv") / "t.csv"

    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    lines = ["file,a,b"]
    lines += [f"{i}.png,{quoted(a)},{quoted(b)}" for i, (a, b) in enumerate(rows)]
    path.write_bytes((newline.join(lines) + newline).encode(coding))
    table = read_table(path)
    nothing = {"", "nan", "na", "n/a", "null"}
    for name, at in (("a", 0), ("b", 1)):
        written = [row[at].strip() for row in rows]
        expected = [None if cell.lower() in nothing else cell for cell in written]
        assert table.columns[name] == expected


def test_a_csv_and_its_parquet_are_the_same_data_set(root: Path) -> None:
    smile = [True, False, None, *[True] * 9]
    age = [20.5, None, *[30.0] * 10]
    shade = [["dark", "light", "fair"][i % 3] for i in range(COUNT)]
    csv = write_table(
        root,
        image=list(NAMES),
        smile=["" if s is None else s for s in smile],
        age=["" if a is None else a for a in age],
        shade=list(shade),
    )
    typed = pa.table({"image": NAMES, "smile": smile, "age": age, "shade": shade})
    parquet.write_table(typed, root / "labels.parquet")
    with pytest.raises(VeilError, match=r"2 tables .*\(labels\.csv, labels\.parquet\)"):
        config(root).dataset()
    one = config(root, table="labels.csv").dataset()
    two = config(root, table=root / "labels.parquet").dataset()
    csv.unlink()
    three = config(root).dataset()
    assert [label.kind for label in one.schema.values()] == ["binary", "continuous", "multiclass"]
    for other in (two, three):
        assert one.schema == other.schema
        assert np.array_equal(one.images, other.images)
        for name in one.schema:
            assert np.array_equal(one.column(name), other.column(name), equal_nan=name == "age")
    assert np.array_equal(one.images, PIXELS)


def test_parquet_without_pyarrow_is_one_clear_line(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet.write_table(pa.table({"image": NAMES}), root / "labels.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(VeilError, match=r"pip install pyarrow"):
        config(root).dataset()


def test_a_parquet_file_that_is_none(root: Path) -> None:
    (root / "labels.parquet").write_text("<html>quota</html>")
    with pytest.raises(VeilError, match="no Parquet file"):
        config(root).dataset()


def test_people_by_name_are_kept_together(root: Path) -> None:
    people = [f"person {i // 2}" for i in range(COUNT)]
    write_table(root, image=list(NAMES), person=list(people))
    splits = config(root).splits(seed=1)
    assert splits.fit.label("identity").kind == "identity"
    everyone = [set(split.column("identity")) for _, split in splits.items()]
    assert sum(map(len, everyone)) == len(set().union(*everyone)) == 6


PARTITIONS: list[tuple[Sequence[object], list[int]]] = [
    (["fit"] * 4 + ["attack"] * 4 + ["select"] * 2 + ["test"] * 2, [4, 4, 2, 2]),
    (["train"] * 8 + ["val"] * 2 + ["test"] * 2, [4, 4, 2, 2]),
    ([0] * 8 + [1] * 2 + [2] * 2, [4, 4, 2, 2]),
    ([0] * 7 + [""] + [1] * 2 + [2] * 2, [4, 3, 2, 2]),
]


@pytest.mark.parametrize(("parts", "sizes"), PARTITIONS)
def test_the_tables_own_split_is_used(
    root: Path, parts: Sequence[object], sizes: list[int]
) -> None:
    write_table(root, image=list(NAMES), split=parts)
    splits = config(root).splits(seed=0)
    assert [len(split) for _, split in splits.items()] == sizes
    assert any("1 rows without a 'split'" in note for note in splits.notes) == ("" in parts)


def test_a_split_that_shares_a_person_is_refused(root: Path) -> None:
    write_table(
        root, image=list(NAMES), identity=[i % 3 for i in range(COUNT)], split=PARTITIONS[0][0]
    )
    with pytest.raises(VeilError, match="share 3 people"):
        config(root).splits(seed=0)


def test_an_unknown_split_is_named(root: Path) -> None:
    write_table(root, image=list(NAMES), split=["train"] * 11 + ["trian"])
    with pytest.raises(VeilError, match=r"line 13: 'trian' in column 'split'"):
        config(root).dataset()


def test_columns_that_are_no_labels_are_noted(root: Path) -> None:
    write_table(root, image=list(NAMES), note=[f"text {i}" for i in range(COUNT)], male=[0, 1] * 6)
    splits = config(root).splits(seed=0)
    assert [*splits.fit.schema] == ["male"]
    assert "column 'note' left out: 12 different texts in 12 rows" in splits.notes


def test_the_image_column_is_found_by_its_values(root: Path) -> None:
    write_table(root, male=[0, 1] * 6, photo=list(NAMES))
    assert np.array_equal(config(root).dataset().images, PIXELS)
    with pytest.raises(VeilError, match="no column 'phto': did you mean 'photo'"):
        config(root, image_column="phto").dataset()
    write_table(root, male=[0, 1] * 6, photo=[f"x{name}" for name in NAMES])
    with pytest.raises(VeilError, match="set image_column"):
        config(root).dataset()


def test_images_may_lie_in_images_and_be_named_by_windows(root: Path) -> None:
    (root / "images" / "a").mkdir(parents=True)
    for name in NAMES:
        (root / name).rename(root / "images" / "a" / name)
    write_table(root, image=[f"a\\{name}" for name in NAMES], male=[0, 1] * 6)
    assert np.array_equal(config(root).dataset().images, PIXELS)
    assert config(root).dataset().files == [f"a/{name}" for name in NAMES]


@pytest.mark.parametrize("name", ["../00.png", "/etc/passwd", "C:\\00.png", "a/../../00.png"])
def test_names_that_leave_the_folder_are_refused(root: Path, name: str) -> None:
    write_table(root, image=[*NAMES[:2], name], male=[0, 1, 0])
    with pytest.raises(VeilError, match=r"labels\.csv, line 4: .* leaves the folder"):
        config(root).dataset()


def test_absent_and_bad_images(root: Path) -> None:
    (root / NAMES[3]).unlink()
    (root / NAMES[5]).write_bytes(b"")
    write_table(root, image=[*NAMES[:11], ""], male=[0, 1] * 6)
    with pytest.raises(VeilError, match=r"2 of 12 .*\(03\.png, nothing on line 13\)"):
        config(root).dataset()
    skipping = config(root, on_bad="skip")
    assert np.array_equal(skipping.dataset().images, np.delete(PIXELS, [3, 5, 11], axis=0))
    assert skipping.dataset().column("male").tolist() == [0, 1, 0, 0, 0, 1, 0, 1, 0]
    assert skipping.dataset().files == [NAMES[row] for row in (0, 1, 2, 4, 6, 7, 8, 9, 10)]
    notes = " ".join(skipping.splits(seed=0).notes)
    assert "2 of 12 images" in notes
    assert "1 bad images left out (first: 05.png is empty" in notes


def test_an_image_named_twice(root: Path) -> None:
    write_table(root, image=[*NAMES, NAMES[0]], male=[0] * 13)
    with pytest.raises(VeilError, match=r"line 14: '00\.png' is on line 2 already"):
        config(root).dataset()


BAD_TABLES = [
    ("image,male\n00.png,0,1\n", "line 2: 3 cells where the header names 2"),
    ("image,male\n", "no rows below its header"),
    ("image,male,male\n00.png,0,1\n", "two columns 'male'"),
    ('image,male\n"00.png,0\n', "line 2: unexpected end of data"),
    ("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
]


@pytest.mark.parametrize(("text", "words"), BAD_TABLES)
def test_what_is_wrong_with_a_table_is_said_in_one_line(root: Path, text: str, words: str) -> None:
    (root / "labels.csv").write_text(text)
    with pytest.raises(VeilError, match=words) as refusal:
        config(root).dataset()
    assert "\n" not in str(refusal.value)


def test_no_table_no_folder_and_no_such_column(root: Path) -> None:
    with pytest.raises(VeilError, match=r"no \.csv or \.parquet"):
        config(root).dataset()
    with pytest.raises(VeilError, match="no such folder"):
        config(root / "nowhere").dataset()
    with pytest.raises(VeilError, match="no such file"):
        config(root, table="other.csv").dataset()
    write_table(root, image=list(NAMES), male=[0, 1] * 6)
    with pytest.raises(VeilError, match="no column 'mail': did you mean 'male'"):
        config(root, kinds={"mail": "binary"}).dataset()


def test_two_columns_of_people(root: Path) -> None:
    write_table(root, image=list(NAMES), identity=[1, 2] * 6, person=[1, 2] * 6)
    with pytest.raises(VeilError, match="two columns of people"):
        config(root).dataset()
    chosen = config(root, kinds={"person": "multiclass"}).dataset()
    assert {n: label.kind for n, label in chosen.schema.items()} == {
        "identity": "identity",
        "person": "multiclass",
    }
