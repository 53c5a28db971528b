"""Pictures are pure functions of their index, and show what their labels say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from veil.data.face_attributes import AGE_GROUP_STARTS, AGE_GROUPS, ATTRIBUTES, RACES
from veil.data.synthfaces import SCHEMA, SynthFacesConfig, face, faces, labels
from veil.errors import VeilError

SOME = np.array([7, 123_456_789_012, 0, 41, 8, 3], dtype=np.int64)

# attribute -> rows and columns (of the picture, 0 to 1) in which its mark lies
MARKS = {
    "5_o_Clock_Shadow": (0.55, 0.95, 0.15, 0.85),
    "Arched_Eyebrows": (0.25, 0.5, 0.2, 0.8),
    "Bags_Under_Eyes": (0.4, 0.65, 0.2, 0.8),
    "Bald": (0.0, 0.95, 0.0, 1.0),
    "Bangs": (0.1, 0.5, 0.1, 0.9),
    "Big_Lips": (0.6, 0.85, 0.3, 0.7),
    "Big_Nose": (0.4, 0.75, 0.2, 0.8),
    "Bushy_Eyebrows": (0.25, 0.5, 0.2, 0.8),
    "Double_Chin": (0.6, 1.0, 0.0, 1.0),
    "Eyeglasses": (0.3, 0.65, 0.1, 0.9),
    "Goatee": (0.65, 0.95, 0.3, 0.7),
    "High_Cheekbones": (0.4, 0.8, 0.1, 0.9),
    "Mouth_Slightly_Open": (0.55, 0.85, 0.25, 0.75),
    "Mustache": (0.55, 0.8, 0.25, 0.75),
    "Narrow_Eyes": (0.35, 0.6, 0.2, 0.8),
    "Pointy_Nose": (0.4, 0.75, 0.2, 0.8),
    "Receding_Hairline": (0.05, 0.55, 0.1, 0.9),
    "Rosy_Cheeks": (0.4, 0.75, 0.1, 0.9),
    "Sideburns": (0.3, 0.75, 0.1, 0.9),
    "Wearing_Earrings": (0.45, 0.8, 0.0, 1.0),
    "Wearing_Hat": (0.0, 0.5, 0.0, 1.0),
    "Wearing_Lipstick": (0.6, 0.85, 0.3, 0.7),
    "Wearing_Necklace": (0.8, 1.0, 0.1, 0.9),
    "Wearing_Necktie": (0.8, 1.0, 0.2, 0.8),
}


def twins(attribute: str, count: int = 24) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same sharp, bareheaded faces without and with one attribute."""
    plain = {"Blurry": False, "Wearing_Hat": False, "Bald": False, "Bangs": False}
    pair = [
        faces(5, np.arange(count) * 5, 64, showing={**plain, attribute: shown}).astype(np.int64)
        for shown in (False, True)
    ]
    return pair[0], pair[1]


def test_a_picture_depends_on_its_index_alone() -> None:
    together = faces(1, SOME)
    np.testing.assert_array_equal(together[::-1], faces(1, SOME[::-1].copy()))
    for picture, index in zip(together, SOME, strict=True):
        np.testing.assert_array_equal(picture, face(1, int(index)))
    many = np.arange(45, dtype=np.int64)  # three blocks, on threads
    np.testing.assert_array_equal(faces(1, many)[[0, 3, 7, 8, 41]], together[[2, 5, 0, 4, 3]])


def test_labels_depend_on_their_index_alone() -> None:
    together = labels(1, SOME)
    for position, index in enumerate(SOME):
        alone = labels(1, np.array([index]))
        for name, column in together.items():
            np.testing.assert_array_equal(column[position], alone[name][0], err_msg=name)


def test_other_seeds_and_indices_give_other_pictures() -> None:
    many = faces(0, np.arange(200), 32).reshape(200, -1)
    assert len(np.unique(many, axis=0)) == 200
    assert (faces(1, np.arange(5), 32) != faces(0, np.arange(5), 32)).mean() > 0.5


@pytest.mark.parametrize("size", [32, 50, 96, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_in_colour_and_grey(size: int, channels: int) -> None:
    pictures = faces(0, np.arange(3), size, channels)
    assert pictures.shape == (3, size, size, channels)
    assert pictures.dtype == np.uint8
    assert pictures.std() > 20


def test_sizes_show_the_same_face() -> None:
    """A picture drawn large and shrunk is the picture drawn small, up to noise and edges."""
    small = faces(0, np.arange(20), 32).astype(np.float64)
    large = faces(0, np.arange(20), 128).reshape(20, 32, 4, 32, 4, 3).mean(axis=(2, 4))
    assert np.abs(small - large).mean() < 5
    assert np.abs(small - large[::-1]).mean() > 20  # negative control: other faces


def test_grey_is_pillows_grey() -> None:
    from PIL import Image

    for index in range(3):
        expected = np.asarray(Image.fromarray(face(0, index)).convert("L"))
        np.testing.assert_array_equal(face(0, index, channels=1)[..., 0], expected)


@pytest.mark.parametrize("attribute", sorted(MARKS))
def test_an_attribute_leaves_its_mark_in_its_place(attribute: str) -> None:
    without, with_ = twins(attribute)
    changed = np.abs(with_ - without).max(axis=3) > 12
    assert (changed.sum(axis=(1, 2)) >= 6).mean() >= 0.95  # visible in nearly every picture
    top, bottom, left, right = (round(64 * share) for share in MARKS[attribute])
    here = changed[:, top:bottom, left:right].sum()
    assert here >= 0.9 * changed.sum()


@pytest.mark.parametrize("attribute", sorted(set(ATTRIBUTES) - set(MARKS)))
def test_an_attribute_without_one_place_is_visible(attribute: str) -> None:
    without, with_ = twins(attribute)
    change = np.abs(with_ - without).max(axis=3)
    assert ((change > 12).sum(axis=(1, 2)) >= 12).mean() >= 0.95


def test_landmarks_lie_on_the_features() -> None:
    """Eyes and a lipsticked mouth differ from the skin beside them; a displaced mark does not."""
    index = np.arange(100) * 5
    plain = {"Blurry": False, "Eyeglasses": False, "Narrow_Eyes": False, "Wearing_Hat": False}
    made_up = {"Wearing_Lipstick": True, "Big_Lips": True, "Smiling": False}
    shaven = {"No_Beard": True, "Mustache": False, "Goatee": False, "Mouth_Slightly_Open": False}
    size = 128
    pictures = faces(0, index, size, showing={**plain, **made_up, **shaven}).astype(np.float64)
    points = labels(0, index, size)["landmarks"].reshape(-1, 5, 2)
    assert points.dtype == np.float32
    assert points.min() > 0
    assert points.max() < size

    def at(x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.float64]:
        columns, rows = np.round(x).astype(int), np.round(y).astype(int)
        spots = [
            pictures[np.arange(100), rows + i, columns + j] for i in (-1, 0, 1) for j in (-1, 0, 1)
        ]
        mean: NDArray[np.float64] = np.mean(spots, axis=0)
        return mean

    for eye in (0, 1):
        x, y = points[:, eye].T
        below = at(x, y + 0.13 * size).sum(axis=1)
        assert (at(x, y).sum(axis=1) < 0.75 * below).mean() > 0.8
    corner = (points[:, 3] + points[:, 4]) / 2
    red = at(corner[:, 0], corner[:, 1] + 0.012 * size)
    chin = at(corner[:, 0], corner[:, 1] + 0.12 * size)
    assert (red[:, 0] / red[:, 1] > 1.4 * chin[:, 0] / chin[:, 1]).mean() > 0.9
    assert (points[:, 0, 0] < points[:, 2, 0]).all()  # the left eye is left of the nose
    assert (points[:, 1, 1] < points[:, 4, 1]).all()  # and the eyes above the mouth


def test_landmarks_scale_with_the_picture() -> None:
    small, large = (labels(0, np.arange(9), size)["landmarks"] for size in (64, 128))
    np.testing.assert_allclose(large + 0.5, 2 * (small + 0.5), rtol=1e-4)


def test_a_person_keeps_what_a_person_is() -> None:
    named = labels(2, np.arange(1000), photos_per_person=10, label_noise=False)
    np.testing.assert_array_equal(named["identity"], np.arange(1000) // 10)
    for name in ("Male", "Young", "Big_Nose", "race", "age", "age_group"):
        by_person = named[name].reshape(100, 10)
        assert (by_person == by_person[:, :1]).all(), name
    for name in ("Smiling", "Mouth_Slightly_Open", "Wearing_Hat"):
        by_person = named[name].reshape(100, 10)
        assert (by_person != by_person[:, :1]).any(), name


def test_photos_of_a_person_resemble_each_other() -> None:
    """Across people, pictures differ more than across the photos of one."""
    pictures = faces(0, np.arange(500), 32).astype(np.float64).reshape(100, 5, -1)
    same = np.abs(pictures[:, 0] - pictures[:, 1]).mean()
    other = np.abs(pictures[:-1, 0] - pictures[1:, 1]).mean()
    assert same < 0.85 * other


def test_schema_and_columns_agree() -> None:
    named = labels(0, np.arange(3000))
    assert named.keys() == SCHEMA.keys()
    assert len(ATTRIBUTES) == 39
    for name, column in named.items():
        if SCHEMA[name].is_class:
            assert column.dtype == np.int64
            assert set(np.unique(column)) <= set(range(len(SCHEMA[name].classes))), name
    assert named["age"].dtype == np.float32
    assert 0 < named["age"].min() < 3
    assert named["age"].max() < 100
    for age, group in zip(named["age"], named["age_group"], strict=True):
        assert group == sum(age >= start for start in AGE_GROUP_STARTS)
    assert len(AGE_GROUPS) == len(AGE_GROUP_STARTS) + 1
    shares = np.bincount(labels(0, np.arange(7000) * 5)["race"], minlength=7) / 7000
    np.testing.assert_allclose(shares, 1 / len(RACES), atol=4 * np.sqrt(6 / 49 / 7000))


def test_young_is_under_forty() -> None:
    named = labels(0, np.arange(2000), label_noise=False)
    np.testing.assert_array_equal(named["Young"] == 1, named["age"] < 40)


def test_config_draws_once_and_divides_by_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEIL_CACHE", str(tmp_path))
    config = SynthFacesConfig(people=40, photos_per_person=3, size=32)
    calls: list[tuple[int, int]] = []
    splits = config.splits(0, lambda done, count: calls.append((done, count)))
    assert calls[-1] == (120, 120)
    assert sum(len(split) for _, split in splits.items()) == 120
    calls.clear()
    again = config.dataset(lambda done, count: calls.append((done, count)))
    assert calls == []
    np.testing.assert_array_equal(again.images, faces(0, np.arange(120), 32, photos_per_person=3))
    assert np.unique(again.hashes).size == 120
    assert again.schema == SCHEMA
    other = SynthFacesConfig(people=40, photos_per_person=3, size=32, correlations="independent")
    assert (other.dataset().images != again.images).any()


def test_config_errors_name_the_field() -> None:
    with pytest.raises(ValidationError, match="size"):
        SynthFacesConfig(size=16)
    with pytest.raises(ValidationError, match="peple"):
        SynthFacesConfig.model_validate({"peple": 3})
    with pytest.raises(VeilError, match="did you mean 'Smiling'"):
        SynthFacesConfig(correlations={"Male,Smilling": 0.1})


def test_bad_arguments_are_one_clear_line() -> None:
    with pytest.raises(VeilError, match="size 31 is outside 32 to 256"):
        faces(0, SOME, 31)
    with pytest.raises(VeilError, match="channels must be 1 or 3"):
        faces(0, SOME, 64, 4)
    with pytest.raises(VeilError, match="0 or more"):
        faces(0, np.array([-1]))
    with pytest.raises(VeilError, match="photos_per_person"):
        labels(0, SOME, photos_per_person=0)
    with pytest.raises(VeilError, match="did you mean 'Bangs'"):
        faces(0, SOME, showing={"Bang": True})
