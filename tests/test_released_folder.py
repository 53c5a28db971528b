"""Folders of released pictures: each picture meets its own original, or is left out and counted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from torch import Tensor

import tiny
from veil.data.dataset import Dataset
from veil.data.splits import Splits
from veil.data.synthfaces import faces, labels
from veil.data.table import TableConfig
from veil.errors import VeilError
from veil.evidence import ATTACK_SPLITS, Evidence
from veil.released_folder import evidence_of_folder, goes_with, matched

PEOPLE, PHOTOS, SIZE = 40, 2, 32
INDICES = np.arange(PEOPLE * PHOTOS, dtype=np.int64)
NAMES = [f"{index // PHOTOS:02}/{index % PHOTOS}.png" for index in INDICES]
PIXELS = faces(0, INDICES, SIZE, photos_per_person=PHOTOS)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 drawn faces of 40 people, in a folder for each person, and their table."""
    root = tmp_path_factory.mktemp("originals")
    columns = labels(0, INDICES, SIZE, photos_per_person=PHOTOS)
    rows = ["image,male,smiling,person"]
    for name, pixels in zip(NAMES, PIXELS, strict=True):
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / name)
    picked = zip(NAMES, columns["Male"], columns["Smiling"], columns["identity"], strict=True)
    rows += [f"{name},{male},{smiling},{who}" for name, male, smiling, who in picked]
    (root / "labels.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def splits(root: Path) -> Splits:
    return TableConfig(root=root, size=SIZE).splits(seed=0)


def blurred(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(3))


def write(
    folder: Path,
    change: Callable[[Image.Image], Image.Image] = blurred,
    rename: Callable[[str], str] = str,
) -> Path:
    """Release every picture into `folder`."""
    for name, pixels in zip(NAMES, PIXELS, strict=True):
        path = folder / rename(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        change(Image.fromarray(pixels)).save(path)
    return folder


def evidence(folder: Path, splits: Splits) -> Evidence:
    return evidence_of_folder(folder, splits, ("male",), ("smiling",), 0, "a blur")


def expected(splits: Splits, change: Callable[[Image.Image], Image.Image]) -> dict[str, Tensor]:
    """split -> (n, 3, h, w), read off the list of names."""
    return {
        split: torch.stack(
            [
                torch.from_numpy(np.array(change(Image.fromarray(PIXELS[NAMES.index(file)]))))
                for file in splits[split].files or []
            ]
        ).permute(0, 3, 1, 2)
        / 255
        for split in ATTACK_SPLITS
    }


def notes(found: Evidence) -> str:
    return " | ".join(found.provenance["notes"])


# Whole folders ------------------------------------------------------------------------------


def test_every_picture_meets_its_labels_person_and_original(tmp_path: Path, splits: Splits) -> None:
    found = evidence(write(tmp_path / "out"), splits)
    wanted = expected(splits, blurred)
    assert found.originals is not None
    assert found.identity is not None
    for split in ATTACK_SPLITS:
        assert torch.allclose(found.z[split], wanted[split], atol=1e-6)
        rows = [NAMES.index(file) for file in splits[split].files or []]
        original = torch.from_numpy(PIXELS[rows]).permute(0, 3, 1, 2) / 255
        assert torch.allclose(found.originals(split), original, atol=1e-6)
        assert np.array_equal(found.labels["male"][split], splits[split].column("male"))
        assert np.array_equal(found.identity[split], splits[split].column("identity"))
    assert not found.random
    assert found.oracle is None
    assert found.provenance["released"] == "out"
    assert notes(found) == " | ".join(splits.notes)


def test_another_ending_is_found(tmp_path: Path, splits: Splits) -> None:
    found = evidence(write(tmp_path / "out", rename=lambda n: n.replace("png", "bmp")), splits)
    wanted = expected(splits, blurred)
    assert all(torch.allclose(found.z[s], wanted[s], atol=1e-6) for s in ATTACK_SPLITS)


@pytest.mark.parametrize("folder", ["blurred/{}/{}", "{}-{}"])
def test_other_names_are_not_found(tmp_path: Path, splits: Splits, folder: str) -> None:
    """Files called 0.png and 1.png in every folder cannot be told apart without the folder."""
    out = write(tmp_path / "out", rename=lambda name: folder.format(*name.split("/")))
    first = (splits.attack.files or [])[:3]
    with pytest.raises(VeilError, match="must have the names of their originals") as caught:
        evidence(out, splits)
    assert f"no released picture of {', '.join(first)}, ..." in str(caught.value)


def test_an_archive_is_read_like_a_folder(tmp_path: Path, splits: Splits) -> None:
    folder = write(tmp_path / "out")
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", folder))
    one, two = evidence(folder, splits), evidence(packed, splits)
    assert all(torch.equal(one.z[split], two.z[split]) for split in ATTACK_SPLITS)


def test_smaller_pictures_keep_their_size_and_grey_ones_have_three_channels(
    tmp_path: Path, splits: Splits
) -> None:
    def small(picture: Image.Image) -> Image.Image:
        return picture.resize((8, 8)).convert("L")

    found = evidence(write(tmp_path / "out", small), splits)
    wanted = expected(splits, lambda picture: small(picture).convert("RGB"))
    assert found.z["test"].shape[1:] == (3, 8, 8)
    assert torch.allclose(found.z["test"], wanted["test"], atol=1e-6)


def test_larger_mixed_and_oblong_pictures_are_resized_and_noted(
    tmp_path: Path, splits: Splits
) -> None:
    large = evidence(write(tmp_path / "large", lambda p: p.resize((80, 80))), splits)
    assert large.z["test"].shape[1:] == (3, SIZE, SIZE)
    assert "of 80 pixels resized to the data's 32" in notes(large)
    folder = write(tmp_path / "mixed", lambda p: p.resize((20, 20)))
    for file in splits.test.files or []:
        Image.fromarray(PIXELS[0]).resize((24, 40)).save(folder / file)
    mixed = evidence(folder, splits)
    assert mixed.z["test"].shape[1:] == (3, SIZE, SIZE)
    assert "of 20 to 24 pixels resized to the data's 32" in notes(mixed)
    assert "only their centre square" in notes(mixed)


def test_missing_and_damaged_pictures_are_left_out_and_counted(
    tmp_path: Path, splits: Splits
) -> None:
    folder = write(tmp_path / "out")
    assert splits.test.files is not None
    assert splits.attack.files is not None
    lost, damaged = splits.test.files[1], splits.attack.files[2]
    (folder / lost).unlink()
    (folder / damaged).write_bytes(b"\x89PNG cut short")
    found = evidence(folder, splits)
    total = sum(len(splits[split]) for split in ATTACK_SPLITS)
    assert f"(2 of {total} images have no released picture)" in notes(found)
    assert f"1 released pictures left out (first: {damaged}" in notes(found)
    wanted = expected(splits, blurred)
    left = np.delete(np.arange(len(splits.test)), 1)
    assert torch.allclose(found.z["test"], wanted["test"][left], atol=1e-6)
    assert np.array_equal(found.labels["male"]["test"], splits.test.column("male")[left])
    assert found.originals is not None
    assert len(found.originals("test")) == len(left)
    assert len(found.z["attack"]) == len(splits.attack) - 1
    assert len(found.z["select"]) == len(splits.select)


def test_more_than_half_missing_is_an_error(tmp_path: Path, splits: Splits) -> None:
    """With half of them the audit goes on: the limit is what is meant."""
    folder = write(tmp_path / "out")
    files = [file for split in ATTACK_SPLITS for file in splits[split].files or []]
    gone = files[::2][: len(files) // 2]
    for file in gone:
        (folder / file).unlink()
    assert f"({len(gone)} of {len(files)} images" in notes(evidence(folder, splits))
    kept = [file for file in files if file not in gone]
    for file in kept[:2]:
        (folder / file).write_bytes(b"")
    with pytest.raises(VeilError, match=rf"\({len(gone) + 2} of {len(files)} images have no rel"):
        evidence(folder, splits)


def test_what_is_no_folder_of_released_pictures(tmp_path: Path, splits: Splits) -> None:
    with pytest.raises(VeilError, match="no such folder"):
        evidence(tmp_path / "nowhere", splits)
    with pytest.raises(VeilError, match="no released picture of"):
        evidence(tmp_path, splits)
    with pytest.raises(VeilError, match="tiny has no files"):
        evidence_of_folder(tmp_path, tiny.splits(), ("Male",), (), 0, "x")


def test_pictures_of_fit_are_nobody_elses(tmp_path: Path) -> None:
    """0.jpg of "attack" was not released; 0.png is the release of another picture, of "fit"."""

    def part(number: int, ending: str) -> Dataset:
        pixels = PIXELS[20 * number :][:20]
        hashes = np.arange(20, dtype=np.uint64) + 20 * number
        first = 0 if number < 2 else 20 * number
        files = [f"{first + i}{ending}" for i in range(20)]
        return Dataset("made up", pixels, {}, {}, hashes, files=files)

    splits = Splits(part(0, ".png"), part(1, ".jpg"), part(2, ".jpg"), part(3, ".jpg"))
    for split in (splits.fit, splits.select, splits.test):
        for name in split.files or []:
            Image.fromarray(PIXELS[0]).save((tmp_path / name).with_suffix(".png"))
    for name in (splits.attack.files or [])[10:]:
        Image.fromarray(PIXELS[1]).save(tmp_path / name)
    found = evidence_of_folder(tmp_path, splits, (), (), 0, "made up")
    assert len(found.z["attack"]) == 10
    assert "(10 of 60 images have no released picture)" in notes(found)


def test_names_that_stand_for_other_pictures_are_noticed(tmp_path: Path, splits: Splits) -> None:
    """A folder whose names were shuffled would pass for a release that leaks nothing."""
    order = np.random.default_rng(0).permutation(len(NAMES))
    moved = {name: NAMES[at] for name, at in zip(NAMES, order, strict=True)}
    found = evidence(write(tmp_path / "out", rename=moved.__getitem__), splits)
    assert "resemble their own originals no more than others" in notes(found)


# Matching -----------------------------------------------------------------------------------


def test_the_same_path_wins_over_the_same_stem() -> None:
    originals, folder = ["a.jpg", "a.png", "b.jpg", "c.jpg"], Path("out")
    assert matched(originals, ["a.png", "b.png", "c.jpg", "c.png"], folder) == {
        "a.png": "a.png",  # and never a.jpg's too
        "b.jpg": "b.png",
        "c.jpg": "c.jpg",
    }
    with pytest.raises(VeilError, match=r"'b\.png' and 'b\.webp' could both be .*'b\.jpg'"):
        matched(originals, ["b.png", "b.webp"], folder)


def test_folders_laid_out_differently_are_compared_by_file_name() -> None:
    assert matched(["img/1.jpg", "img/2.jpg"], ["1.png", "x/2.png"], Path("out")) == {
        "img/1.jpg": "1.png",
        "img/2.jpg": "x/2.png",
    }
    # Where some paths are the same, a name in another folder is another picture.
    assert matched(["p/1.jpg", "q/1.jpg", "q/2.jpg"], ["p/1.jpg", "p/2.jpg"], Path("out")) == {
        "p/1.jpg": "p/1.jpg"
    }
    assert matched(["p/1.jpg", "q/1.jpg"], ["1.jpg"], Path("out")) == {}


file_names = st.lists(
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["", "p/", "q/"]),
        st.sampled_from("123"),
        st.sampled_from([".jpg", ".png", ".webp"]),
    ),
    max_size=8,
    unique=True,
)


@given(file_names, file_names)
def test_no_picture_is_released_twice(originals: list[str], released: list[str]) -> None:
    """However names clash, and an original that lies in the release under its name is found."""
    try:
        found = matched(originals, released, Path("out"))
    except VeilError:
        return
    assert len(set(found.values())) == len(found)
    assert set(found.values()) <= set(released)
    assert all(found[name] == name for name in originals if name in released)


@pytest.mark.parametrize("change", [lambda z: z, lambda z: 1 - z, lambda z: 0.2 * z + 0.4])
def test_releases_go_with_their_originals_whatever_the_contrast(
    change: Callable[[Tensor], Tensor],
) -> None:
    x = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255
    assert goes_with(change(x)[:, :, ::2, ::2], x, seed=0)
    assert not goes_with(change(x).roll(7, 0), x, seed=0)
    assert not goes_with(torch.full_like(x, 0.5), x, seed=0)
