"""What columns of labels, people and splits are taken for, and what is said of others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from veil.errors import VeilError
from veil.released_columns import label_column, people_column, split_column

YES = ("no", "yes")
CODES: list[tuple[Any, list[int], tuple[str, ...]]] = [
    ([0, 1, 1], [0, 1, 1], YES),
    ([-1, 1, 1], [0, 1, 1], YES),
    ([-1, 0, 1], [-1, 0, 1], YES),
    ([-1, 3, 5, 9], [-1, 0, 1, 2], ("3", "5", "9")),
    ([-2, -1, 1], [0, -1, 1], ("-2", "1")),
    ([True, False], [1, 0], YES),
    ([0.0, 1.0, np.nan], [0, 1, -1], YES),
    ([-1.0, 1.0, np.nan], [0, 1, -1], YES),
    ([1000001.0, 1000002.0], [0, 1], ("1000001", "1000002")),
    (np.array([7, 8], np.uint64), [0, 1], ("7", "8")),
    (np.array([2**63, 0], np.uint64), [1, 0], ("0", "9223372036854775808")),
    (["man", "woman", "", "man"], [0, 1, -1, 0], ("man", "woman")),
    (np.array(["zwölf".encode(), b"", b"elf"]), [1, -1, 0], ("elf", "zwölf")),
    (np.arange(30), list(range(30)), tuple(map(str, range(30)))),
]


@pytest.mark.parametrize(("codes", "classes", "names"), CODES)
def test_classes(codes: Any, classes: list[int], names: tuple[str, ...]) -> None:
    column, label, note = label_column(np.asarray(codes), "s")
    assert column.tolist() == classes
    assert column.dtype == np.int64
    assert (label.classes, label.is_class, note) == (names, True, None)
    assert label.kind == ("binary" if len(names) == 2 else "multiclass")


@given(st.lists(st.integers(-1, 6), min_size=2, max_size=40))
@settings(max_examples=60, deadline=None)
def test_classes_keep_their_order_and_missing_rows(codes: list[int]) -> None:
    known = sorted({c for c in codes if c != -1})
    if set(codes) == {-1, 1}:
        known = [-1, 1]
    if len(known) < 2:
        with pytest.raises(VeilError, match="nothing to tell"):
            label_column(np.array(codes), "s")
        return
    column, _, _ = label_column(np.array(codes), "s")
    assert column.tolist() == [known.index(c) if c in known else -1 for c in codes]


def test_fractions_are_a_quantity() -> None:
    column, label, note = label_column(np.array([0.5, np.nan, -1.0]), "s")
    assert column.dtype == np.float32
    assert (label.kind, label.classes, note) == ("continuous", (), None)
    np.testing.assert_array_equal(column, np.array([0.5, np.nan, -1.0], np.float32))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float64])
def test_many_whole_numbers_are_a_quantity_and_a_note_says_so(dtype: type) -> None:
    column, label, note = label_column(np.arange(31).astype(dtype), "'s'")
    assert label.kind == "continuous"
    assert column.tolist() == list(range(31))
    assert note is not None
    assert note.startswith("'s' has 31 distinct whole numbers: treated as a quantity")


def test_minus_one_is_a_quantitys_missing_value_unless_others_are_negative() -> None:
    ages, _, _ = label_column(np.arange(-1, 50), "age")
    assert np.isnan(ages[0])
    assert ages[1:].tolist() == list(range(50))
    degrees, _, _ = label_column(np.arange(-20, 40), "degrees")
    assert degrees.tolist() == list(range(-20, 40))


BAD_LABELS: list[tuple[str, Any]] = [
    ("labels are \\(n,\\)", [[0], [1]]),
    ("type complex128", [0j, 1]),
    ("1 distinct", [3, 3, 3]),
    ("1 distinct", [3, 3, -1]),
    ("1 distinct", ["a", "a", ""]),
    ("0 distinct", [np.nan, np.nan]),
    ("takes one value", [0.5, 0.5, np.nan]),
    ("takes one value", [1e9 + 0.5, 1e9 + 0.75]),
    ("holds inf", [0, 1, np.inf]),
    ("beyond 3.4e38", [0.5, 1e300]),
    ("1001 classes; if they are people", [f"person {i}" for i in range(1001)]),
    ("not text", np.array([b"\xff", b"a"])),
    ("not text", np.array([0x7FFFFFFF, 65], np.int32).view("<U1")),
    ("cannot be printed", ["a\nb", "c"]),
    ("cannot be printed", ["\x1b[2J", "c"]),
]


@pytest.mark.parametrize(("says", "labels"), BAD_LABELS)
def test_what_is_no_label_is_one_clear_line(says: str, labels: Any) -> None:
    with pytest.raises(VeilError, match=f"^f: 's' .*{says}") as caught:
        label_column(np.asarray(labels), "f: 's'")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "people",
    [
        [7, 3, -1, 7],
        [7.0, 3.0, np.nan, 7.0],
        ["b", "a", "", "b"],
        np.array([b"b", b"a", b"", b"b"]),
    ],
)
def test_people_are_numbered_and_the_unknown_are_nobody(people: Any) -> None:
    column = people_column(np.asarray(people), "identity")
    assert column is not None
    assert column.tolist() == [1, 0, -1, 1]
    assert people_column(np.asarray(people)[[2, 2]], "identity") is None


@pytest.mark.parametrize("people", [[0.5, 1], [np.inf, np.nan, 0.5], [[1], [2]], [1j, 2]])
def test_what_names_nobody_is_one_clear_line(people: Any) -> None:
    with pytest.raises(VeilError, match=r"^f: 'identity'"):
        people_column(np.asarray(people), "f: 'identity'")


def test_splits_are_three_codes() -> None:
    for dtype in (np.int64, np.uint8, np.float32):
        assert split_column(np.array([2, 0, 1], dtype), "split").tolist() == [2, 0, 1]
    bad: list[NDArray[Any]] = [
        np.arange(4),
        np.array([0.5]),
        np.array([np.nan]),
        np.array([[0]]),
        np.array(["0"]),
        np.array([True]),
    ]
    for codes in bad:
        with pytest.raises(VeilError, match="of 0 attack, 1 select, 2 test"):
            split_column(codes, "split")
