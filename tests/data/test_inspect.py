"""The summary of a data set, against figures worked out by hand and by SciPy."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from veil.data.dataset import BINARY, IDENTITY, Dataset, Label
from veil.data.inspect import cramers_v, summary


def dataset() -> Dataset:
    """Six 2 x 3 grey pictures of three people and one stranger; the last two are copies."""
    labels = {
        "male": np.array([0, 1, 1, 1, -1, 0]),
        "tall": np.array([0, 1, 1, 1, 0, 0]),
        "race": np.array([0, 1, 2, 0, 1, 2]),
        "age": np.array([20, 30, np.nan, 40, 50, 60], dtype=np.float32),
        "identity": np.array([7, 7, 7, 9, 4, -1]),
    }
    schema = {
        "male": BINARY,
        "tall": BINARY,
        "race": Label("multiclass", ("a", "b", "c")),
        "age": Label("continuous"),
        "identity": IDENTITY,
    }
    hashes = np.array([1, 2, 3, 4, 5, 5], dtype=np.uint64)
    return Dataset("six", np.zeros((6, 2, 3, 1), np.uint8), labels, schema, hashes)


def test_the_summary_by_hand() -> None:
    about = summary(dataset())
    assert (about["images"], about["size"], about["channels"]) == (6, [2, 3], 1)
    assert about["copies"] == 1
    assert about["people"] == {"count": 3, "fewest": 1, "median": 1.0, "most": 3}
    assert about["labels"]["male"] == {
        "kind": "binary",
        "missing": 1,
        "shares": {"no": 0.4, "yes": 0.6},
    }
    assert about["labels"]["race"]["shares"] == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    assert about["labels"]["age"] == {
        "kind": "continuous",
        "missing": 1,
        "lowest": 20.0,
        "mean": 40.0,
        "highest": 60.0,
    }
    assert "identity" not in about["labels"]
    strongest = about["associations"][0]
    assert strongest["labels"] == ["male", "tall"]
    assert strongest["cramers_v"] == pytest.approx(1.0)
    assert len(about["associations"]) == 3
    json.dumps(about)


def test_a_view_is_summed_up_alone() -> None:
    about = summary(dataset().view(np.array([4, 5])))
    assert about["images"] == 2
    assert about["people"] == {"count": 1, "fewest": 1, "median": 1.0, "most": 1}
    assert about["labels"]["tall"]["shares"] == {"no": 1.0, "yes": 0.0}
    assert all(pair["cramers_v"] == 0 for pair in about["associations"])


def test_unknown_people_are_null() -> None:
    plain = Dataset("plain", np.zeros((2, 2, 2, 3), np.uint8), {}, {}, np.zeros(2, np.uint64))
    about = summary(plain)
    assert about["people"] is None
    assert about["associations"] == []


@settings(deadline=None)
@given(
    arrays(np.int64, st.tuples(st.integers(2, 4), st.integers(2, 4)), elements=st.integers(1, 9))
)
def test_cramers_v_is_scipys(table: np.ndarray) -> None:
    from scipy.stats.contingency import association

    expected = association(table, method="cramer", correction=False)
    assert cramers_v(table.astype(np.float64)) == pytest.approx(expected, abs=1e-9)
