"""Views and batches against plain indexing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from veil.data.dataset import BINARY, IDENTITY, Column, Dataset, Label
from veil.errors import VeilError

COUNT = 20
_RNG = np.random.default_rng(5)
IMAGES = _RNG.integers(0, 256, (COUNT, 4, 6, 3), dtype=np.uint8)
HASHES = np.arange(COUNT, dtype=np.uint64) * 11
FILES = [f"{row:02}.png" for row in range(COUNT)]
MALE = np.arange(COUNT) % 3 - 1  # -1 (missing), 0, 1
AGE = np.where(np.arange(COUNT) % 5 == 0, np.nan, np.arange(COUNT)).astype(np.float32)
POINTS = _RNG.normal(size=(COUNT, 4)).astype(np.float32)
POINTS[3, 2] = np.nan


def dataset(images: np.ndarray = IMAGES) -> Dataset:
    labels: dict[str, Column] = {
        "male": MALE,
        "age": AGE,
        "points": POINTS,
        "identity": np.arange(COUNT) // 4,
    }
    schema = {
        "male": BINARY,
        "age": Label("continuous"),
        "points": Label("landmarks"),
        "identity": IDENTITY,
    }
    return Dataset("twenty", images, labels, schema, HASHES, files=FILES)


positions = st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=30)


@settings(max_examples=50, deadline=None)
@given(positions)
def test_a_batch_is_the_images_over_255_and_their_labels(chosen: list[int]) -> None:
    batch = dataset().batch(np.array(chosen))
    expected = torch.from_numpy(IMAGES[chosen].transpose(0, 3, 1, 2).astype(np.float32) / 255)
    assert torch.allclose(batch.x, expected, rtol=0, atol=1.2e-7)
    assert batch.x.dtype == torch.float32
    assert batch["male"].tolist() == MALE[chosen].tolist()
    assert np.array_equal(batch["age"].numpy(), AGE[chosen], equal_nan=True)
    assert np.array_equal(batch["points"].numpy(), POINTS[chosen], equal_nan=True)
    assert batch["male"].dtype == batch["identity"].dtype == torch.int64


def test_every_byte_value_is_exact_to_float32_and_stays_in_range() -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    x = Dataset("bytes", images, {}, {}, HASHES[:1]).batch(np.array([0])).x.flatten()
    assert np.abs(x.numpy() - np.arange(256) / 255).max() < 1.2e-7  # one unit in the last place
    assert (x * 255).round().tolist() == list(range(256))
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_channels_last_in_memory(channels: int) -> None:
    batch = dataset(IMAGES[..., :channels]).batch(slice(0, 5))
    assert batch.x.shape == (5, channels, 4, 6)
    assert batch.x.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_is_a_copy() -> None:
    """Writing to a batch must not reach the images."""
    images = IMAGES.copy()
    dataset(images).batch(slice(None)).x.zero_()
    assert np.array_equal(images, IMAGES)


def test_only_the_labels_asked_for() -> None:
    assert [*dataset().batch(slice(0, 2), ["male"]).labels] == ["male"]
    assert [*dataset().batch(slice(0, 2), []).labels] == []


@settings(max_examples=50, deadline=None)
@given(positions, st.data())
def test_a_view_of_a_view_is_indexing_twice(outer: list[int], data: st.DataObject) -> None:
    inner = data.draw(st.lists(st.integers(0, len(outer) - 1), max_size=10))
    view = dataset().view(np.array(outer)).view(np.array(inner, dtype=np.int64))
    rows = [outer[at] for at in inner]
    assert len(view) == len(rows)
    assert view.column("male").tolist() == MALE[rows].tolist()
    assert view.content().tolist() == HASHES[rows].tolist()
    assert view.files == [FILES[row] for row in rows]
    assert view.images is dataset().images
    if rows:
        assert torch.equal(view.batch(slice(None)).x, dataset().batch(np.array(rows)).x)


def test_a_mask_picks_a_view() -> None:
    mask = MALE == 1
    assert dataset().view(mask).rows.tolist() == np.flatnonzero(mask).tolist()


@pytest.mark.parametrize("names", [[], ["male"], ["age"], ["points"], ["male", "age", "points"]])
def test_having_leaves_out_rows_in_which_a_label_is_missing(names: list[str]) -> None:
    missing = {"male": MALE == -1, "age": np.isnan(AGE), "points": np.isnan(POINTS).any(axis=1)}
    expected = [row for row in range(COUNT) if not any(missing[name][row] for name in names)]
    assert dataset().having(names).rows.tolist() == expected


def test_having_of_a_complete_set_is_the_set() -> None:
    whole = dataset()
    assert whole.having(["identity"]) is whole


def test_an_unknown_label_is_named_with_the_nearest() -> None:
    for ask in (
        lambda: dataset().column("mael"),
        lambda: dataset().having(["mael"]),
        lambda: dataset().batch(slice(0, 2))["mael"],
    ):
        with pytest.raises(VeilError, match="did you mean 'male'"):
            ask()


def test_the_wrong_shapes_are_refused() -> None:
    with pytest.raises(VeilError, match="must be"):
        Dataset("bad", IMAGES[..., :2], {}, {}, HASHES)
    with pytest.raises(VeilError, match="must be"):
        Dataset("bad", IMAGES.astype(np.float32), {}, {}, HASHES)
    with pytest.raises(VeilError, match="schema"):
        Dataset("bad", IMAGES, {"male": MALE}, {}, HASHES)
    with pytest.raises(VeilError, match="20 images but 3 'male' labels"):
        Dataset("bad", IMAGES, {"male": MALE[:3]}, {"male": BINARY}, HASHES)
    with pytest.raises(VeilError, match="20 images but 3 files"):
        Dataset("bad", IMAGES, {}, {}, HASHES, files=FILES[:3])


def test_identity_is_none_where_people_are_unknown() -> None:
    assert Dataset("plain", IMAGES, {}, {}, HASHES).identity is None
    identity = dataset().view(np.array([5, 0])).identity
    assert identity is not None
    assert identity.tolist() == [1, 0]


def test_files_are_none_where_images_came_from_none() -> None:
    plain = Dataset("plain", IMAGES, {}, {}, HASHES)
    assert plain.files is None
    assert plain.view(np.array([5, 0])).files is None
