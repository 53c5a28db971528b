"""Batches: who is in them, how often, and in what order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veil.data.dataset import IDENTITY, MISSING, Dataset, Rows
from veil.data.sampling import divided_batches, image_batches, pair_batches
from veil.errors import VeilError

PEOPLE = np.array([3, 7, 3, 5, 7, 3, 9, 1, 1, 3], dtype=np.int64)  # 5 and 9 have one photo


def photos_of(people: np.ndarray) -> Dataset:
    pixels = np.zeros((len(people), 1, 1, 1), dtype=np.uint8)
    hashes = np.arange(len(people), dtype=np.uint64)
    return Dataset("people", pixels, {"identity": people}, {"identity": IDENTITY}, hashes)


@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 99))
def test_an_epoch_of_images_sees_each_at_most_once_in_whole_batches(
    count: int, batch_size: int, seed: int
) -> None:
    batches = image_batches(count, batch_size, seed)
    seen = np.concatenate(batches)
    assert len({*seen.tolist()}) == len(seen)
    assert {*seen.tolist()} <= {*range(count)}
    if count >= batch_size:
        assert {len(batch) for batch in batches} == {batch_size}
        assert count - len(seen) < batch_size
    else:
        assert [len(batch) for batch in batches] == [count]


def test_an_epoch_of_images_covers_each_once_when_the_batches_fit() -> None:
    seen = np.concatenate(image_batches(24, 6, 0))
    assert sorted(seen.tolist()) == [*range(24)]
    assert seen.tolist() != [*range(24)]


people_of_photos = st.lists(st.integers(MISSING, 8), min_size=2, max_size=40)


@settings(max_examples=200)
@given(people_of_photos, st.integers(2, 20), st.integers(0, 99))
def test_photo_i_and_photo_i_plus_half_are_two_photos_of_one_person(
    people: list[int], batch_size: int, seed: int
) -> None:
    dataset = photos_of(np.array(people, dtype=np.int64))
    count = Counter(people)
    del count[MISSING]
    if not any(photos > 1 for photos in count.values()):
        with pytest.raises(VeilError, match="needs two photos of a person"):
            pair_batches(dataset, batch_size, seed)
        return
    batches = pair_batches(dataset, batch_size, seed)
    anchors: list[int] = []
    for batch in batches:
        half = len(batch) // 2
        assert 2 <= len(batch) == 2 * half <= batch_size
        for i, j in zip(batch[:half].tolist(), batch[half:].tolist(), strict=True):
            assert i != j
            assert people[i] == people[j] != MISSING
        anchors += batch[:half].tolist()
    assert len({*anchors}) == len(anchors)
    assert len({len(batch) for batch in batches}) == 1


def test_an_epoch_of_pairs_sees_as_many_photos_as_there_are() -> None:
    dataset = photos_of(np.repeat(np.arange(30), 4))
    batches = pair_batches(dataset, 16, 0)
    assert len(batches) == 120 // 16
    assert {len(batch) for batch in batches} == {16}


def test_every_photo_of_a_person_becomes_the_partner_of_every_other() -> None:
    dataset = photos_of(PEOPLE)
    pairs = Counter(
        (int(i), int(j))
        for seed in range(600)
        for batch in pair_batches(dataset, 4, seed)
        for i, j in zip(batch[:2], batch[2:], strict=True)
    )
    of_three = [0, 2, 5, 9]
    expected = {(i, j) for group in (of_three, [1, 4], [7, 8]) for i in group for j in group}
    expected -= {(i, i) for i in range(10)}
    assert pairs.keys() == expected
    often = [pairs[i, j] for i in of_three for j in of_three if i != j]
    # 600 epochs of 2 batches of 2 anchors out of 8; each has 3 partners: 100 each, sd below 10.
    assert min(often) > 60
    assert max(often) < 140


def test_batches_follow_from_the_seed_alone() -> None:
    dataset = photos_of(np.repeat(np.arange(30), 3))
    samples: tuple[Callable[[int], list[Rows]], ...] = (
        lambda seed: image_batches(90, 8, seed),
        lambda seed: pair_batches(dataset, 8, seed),
    )
    for sample in samples:
        first, again, other = (np.concatenate(sample(seed)).tolist() for seed in (1, 1, 2))
        assert first == again
        assert first != other


def test_positions_are_those_of_the_view() -> None:
    """Rows that a view leaves out never come up."""
    view = photos_of(PEOPLE).view(np.array([0, 2, 3, 6]))
    for batch in pair_batches(view, 4, 0):
        assert {*batch.tolist()} == {0, 1}


def test_matching_without_people_is_refused() -> None:
    pixels = np.zeros((4, 1, 1, 1), dtype=np.uint8)
    nameless = Dataset("nameless", pixels, {}, {}, np.arange(4, dtype=np.uint64))
    with pytest.raises(VeilError, match="nameless: face matching needs the label 'identity'"):
        pair_batches(nameless, 4, 0)


@given(st.integers(2, 30), st.integers(2, 40), st.floats(0.05, 0.95), st.integers(0, 99))
@settings(max_examples=40)
def test_the_public_are_the_same_people_in_every_epoch_and_in_the_second_half(
    people: int, batch_size: int, share: float, seed: int
) -> None:
    dataset = photos_of(np.repeat(np.arange(people), 3))
    own, public = set(), set()
    for epoch in range(3):
        for batch in divided_batches(dataset, batch_size, share, seed + epoch, division=seed):
            half = len(batch) // 2
            assert half == max(1, batch_size // 2)
            own |= {*(batch[:half] // 3).tolist()}
            public |= {*(batch[half:] // 3).tolist()}
    assert own
    assert public
    assert not own & public
    wanted = min(max(1, round(share * people)), people - 1)
    assert len(public) <= wanted
    assert len(own) <= people - wanted


def test_an_epoch_sees_every_own_photo_once_and_the_public_ones_as_often_as_it_takes() -> None:
    dataset = photos_of(np.repeat(np.arange(10), 4))
    batches = divided_batches(dataset, 8, 0.2, seed=0, division=0)
    own = np.concatenate([batch[:4] for batch in batches])
    public = np.concatenate([batch[4:] for batch in batches])
    assert sorted(Counter(own.tolist()).values()) == [1] * 32
    assert sorted(Counter(public.tolist()).values()) == [4] * 8


def test_one_person_cannot_be_divided() -> None:
    with pytest.raises(VeilError, match="one person cannot be divided"):
        divided_batches(photos_of(np.zeros(4, dtype=np.int64)), 2, 0.2, 0, 0)
