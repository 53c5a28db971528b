"""Folders of released pictures: same names, same sizes, nothing of the original, nothing lost."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin
from torch import Tensor

import tiny
from veil import releasing
from veil.config import parse
from veil.errors import VeilError
from veil.method import Obfuscator
from veil.releasing import MANIFEST, release_folder, release_splits
from veil.runs import Run

SIZE, CROP = 16, 24
RNG = np.random.default_rng(0)
Release = Callable[..., int]


class Pictures(tiny.Bare):
    """Releases the picture itself."""

    pictures = True


class Ramp(Obfuscator):
    """Releases one picture for all, dark at the left and bright at the right."""

    pictures = True

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return torch.linspace(0.1, 0.9, x.shape[3]).expand_as(x)


class Broken(Obfuscator):
    """Fails after all names were looked at."""

    pictures = True

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        raise RuntimeError("broken")


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """Release `pics` into `out` with an obfuscator, by a run made of it."""

    def call(obfuscator: Obfuscator, channels: int = 3, crop: int | None = CROP) -> int:
        source: dict[str, Any] = {"source": "synthfaces"}
        if crop is not None:
            source = {"source": "celeba", "root": "celeba", "crop": crop}
        tables = {
            "data": source,
            "problem": {"private": ["Male"]},
            "method": {"name": "answer-only"},
            "fit": {"device": "cpu"},
        }
        method = tiny.Toy({}, lambda _game: iter(()))
        method.obfuscator = obfuscator
        problem = tiny.problem(size=SIZE, channels=channels)
        made = Run(tmp_path, parse(tables, "here"), problem, method, tiny.splits(SIZE, channels))
        monkeypatch.setattr(releasing, "load", lambda *_: made)
        return release_folder(tmp_path, tmp_path / "pics", tmp_path / "out", 0, None)

    return call


def photo(path: Path, width: int = 40, height: int = 30, **how: Any) -> NDArray[np.uint8]:
    """A picture of noise, written with whatever metadata `how` says."""
    pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)
    return pixels


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.array(image)


def test_pictures_keep_their_names_formats_and_sizes(release: Release, tmp_path: Path) -> None:
    sizes = {
        "a.jpg": (40, 30),
        "b.png": (30, 50),
        "deep/a.JPEG": (24, 24),
        "c.webp": (16, 16),
        "d.bmp": (41, 29),
        "e.tif": (20, 33),
        "f.gif": (20, 20),
        "g.ppm": (9, 12),
    }
    for name, (width, height) in sizes.items():
        photo(tmp_path / "pics" / name, width, height)
    assert release(Pictures()) == len(sizes)
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    assert found == {*sizes, MANIFEST}
    for name, size in sizes.items():
        with (
            Image.open(tmp_path / "out" / name) as image,
            Image.open(tmp_path / "pics" / name) as before,
        ):
            assert image.size == size
            assert image.format == before.format


@pytest.mark.parametrize("crop", [CROP, None], ids=["cropped", "whole"])
def test_the_square_lies_where_the_crop_was_and_its_edge_fills_the_frame(
    release: Release, tmp_path: Path, crop: int | None
) -> None:
    """At the model's own size the released square is the original's, bit for bit."""
    side = SIZE if crop is None else crop
    width, height = (SIZE + 7, SIZE) if crop is None else (CROP + 5, CROP + 9)
    original = photo(tmp_path / "pics" / "a.png", width, height)
    release(Pictures(), crop=crop)
    found = read(tmp_path / "out" / "a.png")
    top, left = (height - side) // 2, (width - side) // 2
    square = found[top : top + side, left : left + side]
    wanted = original[top : top + side, left : left + side]
    if side == SIZE:
        np.testing.assert_array_equal(square, wanted)
    else:  # resized there and back: alike, and nowhere else as much
        shifted = original[top + 1 : top + 1 + side, left : left + side]
        assert (square - wanted.astype(float)).std() < (square - shifted.astype(float)).std()
    margins = [(top, height - side - top), (left, width - side - left), (0, 0)]
    np.testing.assert_array_equal(found, np.pad(square, margins, mode="edge"))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tiff"])
def test_nothing_of_the_original_is_left_but_its_size(
    release: Release, tmp_path: Path, name: str
) -> None:
    """A release that does not depend on the picture gives the same file, byte for byte."""
    written = []
    for owner in ("Ada", "Bob"):
        exif = Image.Exif()
        exif[ExifTags.Base.Artist] = owner
        text = PngImagePlugin.PngInfo()
        text.add_text("owner", owner)
        how: dict[str, Any] = {"exif": exif}
        if name == "a.png":
            how["pnginfo"] = text
        photo(tmp_path / "pics" / name, **how)
        assert owner.encode() in (tmp_path / "pics" / name).read_bytes()
        release(Ramp())
        written.append((tmp_path / "out" / name).read_bytes())
    assert written[0] == written[1]


def test_a_rotated_photo_is_released_upright(release: Release, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    photo(tmp_path / "pics" / "a.jpg", 40, 30, exif=exif)
    release(Ramp())
    found = read(tmp_path / "out" / "a.jpg")
    assert found.shape == (40, 30, 3)
    assert found[:, -1].mean() > found[:, 0].mean() + 100


def test_grey_models_write_grey_pictures_and_jpegs_are_hardly_lossy(
    release: Release, tmp_path: Path
) -> None:
    for name in ("a.png", "b.jpg"):
        photo(tmp_path / "pics" / name, CROP, CROP)
    release(Ramp(), channels=1)
    ramp = np.linspace(0.1, 0.9, SIZE) * 255
    wanted = np.interp((np.arange(CROP) + 0.5) / CROP, (np.arange(SIZE) + 0.5) / SIZE, ramp)
    for name in ("a.png", "b.jpg"):
        found = read(tmp_path / "out" / name)
        assert found.shape == (CROP, CROP)
        assert np.abs(found.mean(axis=0) - wanted).max() < 4


def test_an_earlier_release_is_ours_and_whatever_else_lies_there_is_not(
    release: Release, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    photo(tmp_path / "pics" / "a.png")
    photo(tmp_path / "pics" / "b.png")
    release(Ramp())
    (tmp_path / "pics" / "b.png").unlink()
    release(Ramp())
    assert {p.name for p in out.iterdir()} == {"a.png", MANIFEST}
    assert {p.name for p in tmp_path.iterdir()} == {"pics", "out"}

    ours = (out / "a.png").read_bytes()
    for name, content in (("notes.txt", b"mine"), ("a.png", b"retouched"), ("c.png", ours)):
        (out / name).write_bytes(content)
        with pytest.raises(VeilError, match=f"{name}: was not released by veil"):
            release(Ramp())
        assert (out / name).read_bytes() == content
        (out / name).unlink()
        (out / "a.png").write_bytes(ours)
    (out / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(VeilError, match="link: was not released"):
        release(Ramp())
    (out / "link").unlink()
    release(Ramp())


@pytest.mark.parametrize("text", ["", "[]", '{"files": 3}', "{}", None])
def test_without_its_list_a_folder_is_somebodys(
    release: Release, tmp_path: Path, text: str | None
) -> None:
    photo(tmp_path / "pics" / "a.png")
    release(Ramp())
    (tmp_path / "out" / MANIFEST).unlink()
    if text is not None:
        (tmp_path / "out" / MANIFEST).write_text(text)
    with pytest.raises(VeilError, match="was not released by veil"):
        release(Ramp())


def test_the_list_tells_nothing_but_what_lies_beside_it(release: Release, tmp_path: Path) -> None:
    photo(tmp_path / "pics" / "deep" / "a.png")
    release(Ramp())
    found = json.loads((tmp_path / "out" / MANIFEST).read_text("utf-8"))
    assert {*found} == {"released by", "files"}
    assert [*found["files"]] == ["deep/a.png"]


def test_a_release_that_fails_leaves_the_earlier_one_as_it_was(
    release: Release, tmp_path: Path
) -> None:
    photo(tmp_path / "pics" / "a.png")
    release(Ramp())
    before = (tmp_path / "out" / "a.png").read_bytes()
    with pytest.raises(RuntimeError, match="broken"):
        release(Broken())
    assert (tmp_path / "out" / "a.png").read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"pics", "out"}


def test_other_releases_stay_arrays(release: Release, tmp_path: Path) -> None:
    photo(tmp_path / "pics" / "a.png")
    release(tiny.Bare())
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.npy", MANIFEST}
    with io.BytesIO((tmp_path / "out" / "a.npy").read_bytes()) as file:
        assert np.load(file, allow_pickle=False).shape == (3, SIZE, SIZE)
    release(tiny.Bare())


@pytest.mark.parametrize(
    ("private", "key"), [(("Male",), "Male"), (("reconstruction", "Male"), "Male"), ((), None)]
)
def test_a_split_has_a_private_column_where_the_label_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private: tuple[str, ...], key: str | None
) -> None:
    splits = tiny.splits(SIZE)
    problem = tiny.problem(private or ("reconstruction",), size=SIZE)
    method = tiny.Toy({}, lambda _game: iter(()))
    tables = {
        "data": {"source": "synthfaces"},
        "problem": {"private": ["Male"]},
        "method": {"name": "answer-only"},
    }
    made = Run(tmp_path, parse(tables, "here"), problem, method, splits)
    monkeypatch.setattr(releasing, "load", lambda *_: made)
    assert release_splits(tmp_path, ["test"], tmp_path / "z.npz", 0, None) == len(splits.test)
    with np.load(tmp_path / "z.npz", allow_pickle=False) as found:
        assert ("s" in found) is (key is not None)
        if key is not None:
            np.testing.assert_array_equal(found["s"], splits.test.column(key))
        np.testing.assert_array_equal(found["y"], splits.test.column("Smiling"))
