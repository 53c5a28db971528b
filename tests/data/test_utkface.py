"""UTKFace: what names say, wherever the pictures lie."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from veil.data.dataset import Dataset
from veil.data.utkface import UTKFaceConfig, said_by
from veil.errors import VeilError

VEIL_DATA = os.environ.get("VEIL_DATA")
real = pytest.mark.skipif(VEIL_DATA is None, reason="needs VEIL_DATA, the unpacked real faces")

# (age, gender, race) of each name; -1 where it does not say it. The published irregular forms,
# with other dates.
SAID = {
    "26_0_1_20170103181415227.jpg.chip.jpg": (26, 0, 1),
    "1_1_4_20161219154018476.jpg": (1, 1, 4),
    "100_1_0_20170110183726390.jpg.chip.jpg": (100, 1, 0),
    "39_1_20170104013534125.jpg.chip.jpg": (39, 1, -1),  # no race
    "61_3_20170104013541285.jpg.chip.jpg": (61, -1, -1),  # no race, and no such gender
    "53__0_20170104013612385.jpg": (53, -1, 0),  # no gender
    "24_0_1_20170104013650657 .jpg.chip.jpg": (24, 0, 1),  # a blank
    "55_0_0_20170104013725357jpg.chip.jpg": (55, 0, 0),  # no dot
    "14_0_0_2017010401373490.jpg.chip.jpg": (14, 0, 0),  # a date of 16 digits
    "28_1_2_201701040137465488.jpg.chip.jpg": (28, 1, 2),  # and of 18
    "30_0_7_20170104013800000.jpg": (30, 0, -1),  # no such race
    "130_0_2_20170104013800001.jpg": (-1, 0, 2),  # nobody's age
}
NAMES = sorted(SAID)
PIXELS = np.random.default_rng(5).integers(0, 256, (len(NAMES), 16, 16, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEIL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(("name", "expected"), SAID.items())
def test_what_a_name_says(name: str, expected: tuple[int, int, int]) -> None:
    said = said_by(f"part1/{name}")
    assert said is not None
    assert (said.age, said.gender, said.race) == expected


@given(
    st.integers(0, 116),
    st.integers(0, 1),
    st.integers(0, 4),
    st.datetimes().map(lambda when: when.strftime("2017%m%d%H%M%S") + "123"),
    st.sampled_from([".jpg", ".jpg.chip.jpg", ".png"]),
)
def test_every_regular_name_is_read(age: int, gender: int, race: int, date: str, end: str) -> None:
    said = said_by(f"{age}_{gender}_{race}_{date}{end}")
    assert said is not None
    assert (said.age, said.gender, said.race) == (age, gender, race)


@pytest.mark.parametrize(
    "name",
    ["000001.jpg", "me.jpg", "26_0_1.jpg", "26_0_1_2_20170103181415227.jpg", "_0_1_2017.jpg"],
)
def test_what_is_no_name_of_utkface(name: str) -> None:
    assert said_by(name) is None


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in zip(NAMES, PIXELS, strict=True):
        # PNG bytes under a .jpg name are read as well: the content counts, not the name.
        Image.fromarray(pixels).save(folder / name, "PNG")


def check(dataset: Dataset) -> None:
    """The data set is exactly the one that was written."""
    order = [NAMES.index(file.rpartition("/")[2]) for file in dataset.files or ()]
    assert sorted(order) == list(range(len(NAMES)))
    assert np.array_equal(dataset.images, PIXELS[order])
    ages, genders, races = np.array([SAID[NAMES[at]] for at in order]).T
    assert [*dataset.schema] == ["age", "age_group", "gender", "race"]
    assert np.array_equal(dataset.column("age"), np.where(ages < 0, np.nan, ages), equal_nan=True)
    assert dataset.column("age").dtype == np.float32
    assert dataset.column("gender").tolist() == genders.tolist()
    assert dataset.column("race").tolist() == races.tolist()
    assert dataset.identity is None


@pytest.mark.parametrize("place", ["UTKFace", "", "UTKFace/UTKFace", "part3"])
def test_wherever_the_pictures_lie(tmp_path: Path, place: str) -> None:
    write(tmp_path / "data" / place)
    check(UTKFaceConfig(root=tmp_path / "data", size=16).dataset())


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz"])
def test_the_archive_need_not_be_unpacked(tmp_path: Path, ending: str) -> None:
    write(tmp_path / "flat")
    root = tmp_path / "data"
    root.mkdir()
    if ending == ".zip":
        with zipfile.ZipFile(root / "UTKFace.zip", "w") as archive:
            for name in NAMES:
                archive.write(tmp_path / "flat" / name, f"UTKFace/{name}")
    else:
        with tarfile.open(root / f"UTKFace{ending}", "w:gz" if "gz" in ending else "w") as tar:
            tar.add(tmp_path / "flat", "UTKFace")
    check(UTKFaceConfig(root=root, size=16).dataset())


def test_pictures_in_several_folders_are_one_data_set(tmp_path: Path) -> None:
    write(tmp_path)
    for at, name in enumerate(NAMES):
        part = tmp_path / f"part{at % 3 + 1}"
        part.mkdir(exist_ok=True)
        (tmp_path / name).rename(part / name)
    check(UTKFaceConfig(root=tmp_path, size=16).dataset())


def test_age_groups_are_those_their_names_say(tmp_path: Path) -> None:
    for age in range(117):
        Image.new("L", (2, 2), age).save(tmp_path / f"{age}_0_0_20170101000000000.png")
    dataset = UTKFaceConfig(root=tmp_path, size=2).dataset()
    classes = dataset.label("age_group").classes
    assert len(classes) == 9
    for age, group in zip(dataset.column("age"), dataset.column("age_group"), strict=True):
        low, _, high = classes[group].partition("-")
        assert (int(low) <= age <= int(high)) if high else age >= 70


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "data")
    return tmp_path / "data"


def test_a_misnamed_picture_is_named_or_counted(root: Path) -> None:
    Image.new("RGB", (16, 16)).save(root / "me.jpg")
    with pytest.raises(VeilError, match=r"me\.jpg is not named like age_gender_race_date\.jpg"):
        UTKFaceConfig(root=root, size=16).dataset()
    check(UTKFaceConfig(root=root, size=16, on_bad="skip").dataset())


def test_a_bad_picture_is_named_or_counted_and_its_labels_go_too(root: Path) -> None:
    (root / NAMES[4]).write_bytes(b"<html>quota</html>")
    with pytest.raises(VeilError, match=f"{NAMES[4]} is a web page"):
        UTKFaceConfig(root=root, size=16).dataset()
    skipping = UTKFaceConfig(root=root, size=16, on_bad="skip")
    expected = [SAID[name][2] for name in NAMES if name != NAMES[4]]
    assert skipping.dataset().column("race").tolist() == expected
    assert any("1 bad images left out" in note for note in skipping.splits(0).notes)


def test_copies_of_a_photograph_share_a_split(tmp_path: Path) -> None:
    """Each of 20 pictures is there twice, the second time made brighter and said to be older."""
    rng = np.random.default_rng(8)
    for at in range(20):
        pixels = rng.integers(0, 200, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"20_0_0_201701010000000{at:02}.png")
        Image.fromarray(pixels + 9).save(tmp_path / f"25_0_0_201701010000000{at:02}.png")
    for seed in range(3):
        splits = UTKFaceConfig(root=tmp_path, size=16).splits(seed)
        for _, split in splits.items():
            photographs = Counter(file.partition("_")[2] for file in split.files or ())
            assert set(photographs.values()) == {2}
    assert splits.notes[0].startswith("divided by picture (people unknown)")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(VeilError, match="no images; expected UTKFace"):
        UTKFaceConfig(root=tmp_path).dataset()
    (tmp_path / "UTKFace.tar.gz").write_bytes(b"<!DOCTYPE html><html>quota</html>")
    with pytest.raises(VeilError, match=r"UTKFace\.tar\.gz is a web page"):
        UTKFaceConfig(root=tmp_path).dataset()
    with pytest.raises(ValidationError, match="sise"):
        UTKFaceConfig(root=tmp_path, sise=64)  # type: ignore[call-arg]


def test_crop_and_grey(root: Path) -> None:
    dataset = UTKFaceConfig(root=root, size=8, crop=8, channels=1).dataset()
    grey = Image.fromarray(PIXELS[0]).convert("L").crop((4, 4, 12, 12))
    assert np.array_equal(dataset.images[0, ..., 0], np.asarray(grey))


@real
def test_the_true_names_and_pixels() -> None:
    """158 names of the aligned faces, the eight irregular ones among them."""
    root = Path(str(VEIL_DATA)) / "utkface_native_mini"
    dataset = UTKFaceConfig(root=root, size=200).dataset()
    assert len(dataset) == 158
    files = dataset.files or []
    with Image.open(root / "UTKFace" / files[3]) as image:
        assert np.array_equal(dataset.images[3], np.asarray(image.convert("RGB")))
    assert dataset.column("age").tolist() == [int(file.split("_")[0]) for file in files]
    assert dataset.column("gender").tolist() == [int(file.split("_")[1]) for file in files]
    raceless = [file for file in files if file.count("_") == 2]
    assert len(raceless) == 3
    missing = np.flatnonzero(dataset.column("race") == -1)
    assert [files[at] for at in missing] == raceless


@real
def test_the_true_copies_stay_together() -> None:
    root = Path(str(VEIL_DATA)) / "utkface64"
    splits = UTKFaceConfig(root=root).splits(seed=0)
    assert sum(len(split) for _, split in splits.items()) == 6008
    assert "14 pictures are near copies of another: kept together" in splits.notes
    assert all(set(split.column("race")) >= set(range(5)) for _, split in splits.items())
