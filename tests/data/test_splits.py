"""No split may share a person or a picture with another: the threat model made of data."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veil.data.dataset import BINARY, IDENTITY, Dataset
from veil.data.splits import (
    SHARES,
    SPLIT_NAMES,
    Splits,
    divide,
    split_by_partition,
    split_by_person,
    units_of,
)
from veil.errors import VeilError


def dataset(
    people: list[int] | None, pictures: list[int] | None = None, count: int | None = None
) -> Dataset:
    """A data set of blank images with these people and pictures (all different by default)."""
    n = len(people) if people is not None else len(pictures or range(count or 0))
    hashes = np.array(pictures if pictures is not None else range(n), dtype=np.uint64)
    labels = {"male": np.arange(n) % 2}
    schema = {"male": BINARY}
    if people is not None:
        labels["identity"], schema["identity"] = np.array(people), IDENTITY
    return Dataset("blank", np.zeros((n, 2, 2, 1), np.uint8), labels, schema, hashes)


def four(whole: Dataset, *rows: list[int]) -> Splits:
    fit, attack, select, test = (whole.view(np.array(r, dtype=np.int64)) for r in rows)
    return Splits(fit, attack, select, test)


def test_disjoint_splits_are_taken() -> None:
    splits = four(dataset([0, 0, 1, 2, 3]), [0, 1], [2], [3], [4])
    assert [len(split) for _, split in splits.items()] == [2, 1, 1, 1]
    assert splits["attack"] is splits.attack


@pytest.mark.parametrize(("a", "b"), list(combinations(range(4), 2)))
def test_a_person_in_two_splits_is_refused(a: int, b: int) -> None:
    people = [10, 11, 12, 13, 20, 21, 22, 23]
    people[b] = people[a]
    with pytest.raises(VeilError, match=r"share 1 people \(first: 1\d\)") as refusal:
        four(dataset(people), [0, 4], [1, 5], [2, 6], [3, 7])
    assert f"'{SPLIT_NAMES[a]}' and '{SPLIT_NAMES[b]}'" in str(refusal.value)


@pytest.mark.parametrize("known", [True, False])
def test_a_picture_in_two_splits_is_refused(known: bool) -> None:
    """By the hash of its pixels, even under two people's names."""
    whole = dataset([0, 1, 2, 3] if known else None, pictures=[5, 6, 7, 5])
    with pytest.raises(VeilError, match="'fit' and 'test' share 1 identical pictures"):
        four(whole, [0], [1], [2], [3])


def test_unknown_people_are_not_one_person() -> None:
    """-1 is a missing identity; it may occur in every split."""
    assert len(four(dataset([-1, -1, -1, -1]), [0], [1], [2], [3]).test) == 1


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(VeilError, match="'select' split is empty"):
        four(dataset([0, 1, 2]), [0], [1], [], [2])


units = st.lists(st.integers(0, 40), min_size=1, max_size=200)


@settings(max_examples=100, deadline=None)
@given(units, st.integers(0, 2**31))
def test_divide_puts_each_row_once_and_keeps_units_together(people: list[int], seed: int) -> None:
    parts = divide(np.array(people), SHARES, seed)
    rows = np.concatenate(list(parts.values()))
    assert sorted(rows) == list(range(len(people)))
    where = [set(np.array(people)[part]) for part in parts.values()]
    assert all(not a & b for a, b in combinations(where, 2))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(0, 2**31))
def test_divide_gives_each_split_its_share_of_the_units(count: int, seed: int) -> None:
    parts = divide(np.arange(count), SHARES, seed)
    for name, share in SHARES.items():
        assert abs(len(parts[name]) - share * count) <= 1


def test_divide_depends_on_the_seed_alone() -> None:
    people = np.arange(100)
    one, same, other = (divide(people, SHARES, seed)["fit"].tolist() for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert sum(SHARES.values()) == pytest.approx(1)


def grouped(people: list[int], pictures: list[int]) -> list[set[int]]:
    """Rows joined by a shared person or picture, by slow repeated merging."""
    groups = [{row} for row in range(len(people))]
    merged = True
    while merged:
        merged = False
        for a, b in combinations(range(len(groups)), 2):
            if any(
                (people[i] == people[j] != -1) or pictures[i] == pictures[j]
                for i in groups[a]
                for j in groups[b]
            ):
                groups[a] |= groups.pop(b)
                merged = True
                break
    return sorted(groups, key=min)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 6), st.integers(0, 12)), min_size=1, max_size=14))
def test_units_join_people_who_share_a_picture(rows: list[tuple[int, int]]) -> None:
    """Against merging by hand; an unknown person joins nobody but by picture."""
    people, pictures = [p for p, _ in rows], [q for _, q in rows]
    found = units_of(dataset(people, pictures))
    groups = [set(np.flatnonzero(found == unit)) for unit in np.unique(found)]
    assert sorted(groups, key=min) == grouped(people, pictures)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-1, 59), max_size=30),
    st.integers(0, 5),
    st.lists(st.integers(1, 59), max_size=5),
)
def test_dividing_by_person_never_makes_an_overlap(
    more: list[int], seed: int, copies: list[int]
) -> None:
    """`Splits` itself refuses overlap, so that it can be made is the proof."""
    people = [*range(60), *more]
    pictures = list(range(len(people)))
    for row in copies:
        pictures[row] = pictures[row - 1]
    splits = split_by_person(dataset(people, pictures), seed)
    assert sum(len(split) for _, split in splits.items()) == len(people)
    assert "divided by person" in splits.notes[0]


def test_without_people_copies_stay_together() -> None:
    splits = split_by_person(dataset(None, pictures=[i // 3 for i in range(300)]), seed=0)
    assert sum(len(split) for _, split in splits.items()) == 300
    assert "people unknown" in splits.notes[0]


def test_the_official_parts_are_kept_and_train_is_divided_by_person() -> None:
    people = [i // 5 for i in range(500)]
    partition = np.repeat([0, 1, 2], [400, 50, 50])
    splits = split_by_partition(dataset(people), partition, seed=3)
    assert splits.select.rows.tolist() == list(range(400, 450))
    assert splits.test.rows.tolist() == list(range(450, 500))
    assert len(splits.fit) + len(splits.attack) == 400
    assert len(splits.fit) == 220
    assert "official partition" in splits.notes[0]


@pytest.mark.parametrize("absent", [0, 1, 2])
def test_an_incomplete_partition_is_divided_afresh_and_said_so(absent: int) -> None:
    partition = np.repeat([part for part in range(3) if part != absent], 100)
    splits = split_by_partition(dataset([i // 2 for i in range(200)]), partition, seed=3)
    assert "lacks a part" in splits.notes[0]
    assert sum(len(split) for _, split in splits.items()) == 200


def test_having_drops_rows_everywhere_and_notes_how_many() -> None:
    whole = dataset([0, 1, 2, 3, 4, 5])
    male = np.array([0, 1, 1, 0, -1, 1])
    labels = {"male": male, "identity": np.arange(6)}
    whole = Dataset("six", whole.images, labels, whole.schema, whole.hashes)
    splits = four(whole, [0, 4], [1], [2], [3, 5]).having(("male",))
    assert [len(split) for _, split in splits.items()] == [1, 1, 1, 2]
    assert splits.notes == ("1 images without male left out",)
    assert splits.having(("male",)).notes == splits.notes
