"""FairFace as published, and as spreadsheets leave it."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from veil.data.dataset import Dataset
from veil.data.fairface import FairFaceConfig, age_group
from veil.errors import VeilError

TRAIN, VAL = 24, 9
FILES = [f"train/{i + 1}.jpg" for i in range(TRAIN)] + [f"val/{i + 1}.jpg" for i in range(VAL)]
PIXELS = np.random.default_rng(6).integers(0, 256, (len(FILES), 16, 16, 3), dtype=np.uint8)
AGES = ["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"]
RACES = [
    "White",
    "Black",
    "Latino_Hispanic",
    "East Asian",
    "Southeast Asian",
    "Indian",
    "Middle Eastern",
]
GENDERS = ["Male", "Female"]
SERVED = ["False", "True"]
ROWS = np.random.default_rng(4).integers(0, [9, 2, 7, 2], (len(FILES), 4))
ROWS[:9, 0] = range(9)
# What spreadsheets make of an age group, in the locales in which copies circulate.
DAMAGED = {
    "3-9": ["9-Mar", "09-Mar", "Mar-9", "3-Sep", "03-Sep", "Sep-03"],
    "10-19": ["19-Oct", "Oct-19"],
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEIL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("group", AGES)
def test_ages_survive_a_spreadsheet(group: str) -> None:
    assert age_group(group) == group
    for damaged in DAMAGED.get(group, []):
        assert age_group(damaged) == group
        assert age_group(damaged.upper()) == group


def label_files(
    root: Path,
    newline: str = "\n",
    bom: bool = False,
    delimiter: str = ",",
    damage: int | None = None,
    service: bool = True,
) -> None:
    for part, rows in (("train", range(TRAIN)), ("val", range(TRAIN, len(FILES)))):
        header = ["file", "age", "gender", "race", "service_test"]
        lines = [header[: 4 + service]]
        for row in rows:
            age, gender, race, served = ROWS[row]
            group = AGES[age]
            if damage is not None and group in DAMAGED:
                group = DAMAGED[group][damage % len(DAMAGED[group])]
            words = [FILES[row], group, GENDERS[gender], RACES[race], SERVED[served]]
            lines.append(words[: 4 + service])
        text = newline.join(delimiter.join(line) for line in lines) + newline
        path = root / f"fairface_label_{part}.csv"
        path.write_bytes((("\ufeff" if bom else "") + text).encode())


def write_pictures(folder: Path) -> None:
    for name, pixels in zip(FILES, PIXELS, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name, "PNG")


def check(dataset: Dataset) -> None:
    """The data set is exactly the one that was written."""
    assert np.array_equal(dataset.images, PIXELS)
    assert [*dataset.schema] == ["age_group", "gender", "race", "service_test"]
    for at, name in enumerate(("age_group", "gender", "race")):
        assert dataset.column(name).tolist() == ROWS[:, at].tolist()
    assert dataset.label("age_group").classes == tuple(AGES)
    assert dataset.label("race").classes == tuple(RACES)
    assert dataset.label("gender").classes == ("male", "female")
    assert dataset.identity is None


@settings(max_examples=25, deadline=None)
@given(
    newline=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
    delimiter=st.sampled_from([",", ";", ", "]),
    damage=st.none() | st.integers(0, 5),
    service=st.booleans(),
    place=st.sampled_from(["", "fairface-img-margin025-trainval", "FairFace/images"]),
    packed=st.booleans(),
)
def test_every_form_gives_the_same_data_set(
    newline: str,
    bom: bool,
    delimiter: str,
    damage: int | None,
    service: bool,
    place: str,
    packed: bool,
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        label_files(root, newline, bom, delimiter, damage, service)
        write_pictures(root / place)
        if packed:
            with zipfile.ZipFile(root / "fairface-img-margin125-trainval.zip", "w") as archive:
                for name in FILES:
                    archive.write(root / place / name, name)
            for part in ("train", "val"):
                shutil.rmtree(root / place / part)
        dataset = FairFaceConfig(root=root, size=16).dataset()
    check(dataset)
    expected = ROWS[:, 3] if service else np.full(len(FILES), -1)
    assert np.array_equal(dataset.column("service_test"), expected)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    write_pictures(root)
    label_files(root)
    return root


def config(root: Path) -> FairFaceConfig:
    return FairFaceConfig(root=root, size=16)


def test_validation_is_test_and_train_is_divided(root: Path) -> None:
    splits = config(root).splits(seed=0)
    assert splits.test.files == FILES[TRAIN:]
    train = [file for name in ("fit", "attack", "select") for file in getattr(splits, name).files]
    assert sorted(train) == sorted(FILES[:TRAIN])
    assert splits.notes[0] == "test is FairFace's validation set"
    assert splits.notes[1].startswith("official train, divided by picture")


def test_a_picture_of_validation_is_left_out_of_train(root: Path) -> None:
    shutil.copy(root / FILES[-1], root / FILES[0])
    splits = config(root).splits(seed=0)
    assert sum(len(split) for _, split in splits.items()) == len(FILES) - 1
    assert "1 images left out of train: the same picture is in test" in splits.notes


def test_one_label_file_is_enough(root: Path) -> None:
    (root / "fairface_label_val.csv").unlink()
    splits = config(root).splits(seed=0)
    assert sum(len(split) for _, split in splits.items()) == TRAIN
    assert splits.notes[0] == "no official test part, so all is divided afresh"
    assert f"{VAL} images that the label files do not list left out" in splits.notes


def test_absent_pictures_are_named_or_counted(root: Path) -> None:
    for name in (FILES[2], FILES[-1]):
        (root / name).unlink()
    with pytest.raises(VeilError, match=r"2 of 33 images .* \(train/3\.jpg, val/9\.jpg\)"):
        config(root).dataset()
    skipping = FairFaceConfig(root=root, size=16, on_bad="skip")
    there = np.delete(np.arange(len(FILES)), [2, len(FILES) - 1])
    assert np.array_equal(skipping.dataset().column("race"), ROWS[there, 2])
    assert np.array_equal(skipping.dataset().images, PIXELS[there])
    assert any("2 of 33 images" in note for note in skipping.splits(0).notes)


def test_a_bad_picture_is_named_or_counted_and_its_labels_go_too(root: Path) -> None:
    (root / FILES[5]).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(VeilError, match=r"6\.jpg is a Git LFS pointer"):
        config(root).dataset()
    skipping = FairFaceConfig(root=root, size=16, on_bad="skip")
    there = np.delete(np.arange(len(FILES)), 5)
    assert np.array_equal(skipping.dataset().column("age_group"), ROWS[there, 0])
    assert skipping.dataset().files == [FILES[row] for row in there]
    assert any("1 bad images left out" in note for note in skipping.splits(0).notes)


def test_an_empty_cell_is_missing(root: Path) -> None:
    path = root / "fairface_label_val.csv"
    lines = path.read_text().split("\n")
    lines[1] = "val/1.jpg,,Male,,True"
    path.write_text("\n".join(lines))
    dataset = config(root).dataset()
    assert (dataset.column("age_group")[TRAIN], dataset.column("race")[TRAIN]) == (-1, -1)
    assert dataset.column("gender")[TRAIN] == 0


HEADER = b"file,age,gender,race,service_test\n"
BAD_FILES = {
    "html": (b"<!DOCTYPE html><html>Quota exceeded</html>", "is a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s2--ab.csv", "git annex get"),
    "empty": (b"", "is empty"),
    "header only": (HEADER, "has no rows"),
    "column": (b"file,age,sex,race\nval/1.jpg,3-9,Male,White\n", "no column 'gender'"),
    "age": (
        HEADER + b"val/1.jpg,33,Male,White,True\n",
        "line 2: '33' in column 'age' is none of 0-2",
    ),
    "date": (HEADER + b"val/1.jpg,9-Apr,Male,White,True\n", "line 2: '9-Apr' in column 'age'"),
    "race": (
        HEADER + b"val/1.jpg,3-9,Male,3,True\n",
        "line 2: '3' in column 'race' is none of White",
    ),
    "gender": (HEADER + b"val/1.jpg,3-9,man,White,True\n", "'man' in column 'gender' is none of"),
    "served": (HEADER + b"val/1.jpg,3-9,Male,White,2\n", "'2' in column 'service_test' is none"),
    "twice": (HEADER + b"train/1.jpg,3-9,Male,White,True\n", "line 2: 'train/1.jpg' is listed"),
    "no file": (HEADER + b",3-9,Male,White,True\n", "line 2: names no file"),
}


@pytest.mark.parametrize(("data", "words"), BAD_FILES.values(), ids=BAD_FILES)
def test_what_is_wrong_with_a_label_file(root: Path, data: bytes, words: str) -> None:
    path = root / "fairface_label_val.csv"
    path.write_bytes(data)
    with pytest.raises(VeilError) as refusal:
        config(root).dataset()
    assert words in str(refusal.value)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_annex_link_without_content(root: Path) -> None:
    (root / "fairface_label_val.csv").unlink()
    (root / "fairface_label_val.csv").symlink_to(".git/annex/objects/ab/SHA256E-s3--ab.csv")
    with pytest.raises(VeilError, match="git annex get"):
        config(root).dataset()


def test_without_label_files(tmp_path: Path) -> None:
    with pytest.raises(VeilError, match=r"no fairface_label_train\.csv or fairface_label_val\.csv"):
        FairFaceConfig(root=tmp_path).dataset()
