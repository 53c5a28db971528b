"""The decoded cache: what it holds, when it decodes again, and what an accident leaves behind."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from veil.data import cache, entries
from veil.data.cache import Images, OnBad, cache_folder, decoded_images, drawn_images
from veil.data.decode import BadImage, decode_image
from veil.data.image_files import FolderStore, ImageFiles, ZipStore, open_store
from veil.errors import VeilError

Indices = NDArray[np.int64]
Pixels = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test."""
    home = tmp_path / "cache"
    monkeypatch.setenv("VEIL_CACHE", str(home))
    return home


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven pictures of noise, 20 x 24."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(7):
        write(folder / f"{i}.png", i)
    return folder


def write(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def decoded(path: Path, size: int = 8, channels: int = 3, on_bad: OnBad = "raise") -> Images:
    with open_store(path) as store:
        files = ImageFiles(store, tuple(store.names()))
        return decoded_images(files, size, channels, None, on_bad)


def never(*_: object) -> Pixels:
    raise AssertionError("decoded or read again")


def test_each_picture_is_decoded_as_if_alone(folder: Path) -> None:
    """The threads keep the order: against one picture after another."""
    images = decoded(folder)
    for i, pixels in enumerate(images.pixels):
        alone = decode_image((folder / f"{i}.png").read_bytes(), 8, 3)
        assert np.array_equal(pixels, alone)
        digest = hashlib.blake2b(alone.tobytes(), digest_size=8).digest()
        assert images.hashes[i] == int.from_bytes(digest, "big")
    assert images.kept.tolist() == list(range(7))
    assert images.skipped == ()


def test_many_chunks_keep_their_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = decoded(folder)
    monkeypatch.setattr(cache, "CHUNK", 1)
    monkeypatch.setenv("VEIL_CACHE", str(folder.parent / "other"))
    pieces = decoded(folder)
    assert np.array_equal(whole.pixels, pieces.pixels)


def test_the_second_time_nothing_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = decoded(folder)
    monkeypatch.setattr(FolderStore, "read", never)
    assert np.array_equal(decoded(folder).pixels, first.pixels)


def test_a_touched_or_moved_folder_is_read_but_not_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = decoded(folder)
    monkeypatch.setattr(cache, "decode_image", never)
    os.utime(folder / "3.png", ns=(1, 1))
    assert np.array_equal(decoded(folder).pixels, first.pixels)
    moved = folder.rename(folder.parent / "moved")
    assert np.array_equal(decoded(moved).pixels, first.pixels)


def test_a_changed_picture_is_decoded_again(folder: Path) -> None:
    first = decoded(folder)
    write(folder / "3.png", 99)
    os.utime(folder / "3.png", ns=(2, 2))
    second = decoded(folder)
    changed = (first.pixels != second.pixels).any(axis=(1, 2, 3))
    assert changed.tolist() == [i == 3 for i in range(7)]
    assert (first.hashes != second.hashes).tolist() == changed.tolist()


def test_size_channels_crop_and_order_each_have_an_entry(folder: Path, home: Path) -> None:
    store = FolderStore(folder)
    files = ImageFiles(store, tuple(store.names()))
    backwards = ImageFiles(store, files.names[::-1])
    decoded_images(files, 8, 3, None, "raise")
    assert decoded_images(files, 9, 3, None, "raise").pixels.shape == (7, 9, 9, 3)
    assert decoded_images(files, 8, 1, None, "raise").pixels.shape == (7, 8, 8, 1)
    cropped = decoded_images(files, 8, 3, 8, "raise").pixels
    assert np.array_equal(cropped[2], np.asarray(Image.open(folder / "2.png"))[8:16, 6:14])
    turned = decoded_images(backwards, 8, 3, 8, "raise").pixels
    assert np.array_equal(turned, cropped[::-1])
    assert len(list((home / "images").iterdir())) == 5


def packed(folder: Path, form: str) -> Path:
    """The folder as an archive, its files below `pictures/`, with the junk that macOS adds."""
    path = folder.parent / f"packed{form}"
    junk = ("__MACOSX/pictures/._0.png", b"\0\5\26\7")
    if form == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(*junk)
            for file in sorted(folder.iterdir()):
                archive.write(file, f"pictures/{file.name}")
        return path
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(junk[0])
        info.size = len(junk[1])
        tar.addfile(info, io.BytesIO(junk[1]))
        for file in sorted(folder.iterdir()):
            tar.add(file, f"./pictures/{file.name}")
    data = buffer.getvalue()
    path.write_bytes(data if form == ".tar" else gzip.compress(data))
    return path


@pytest.mark.parametrize("form", [".zip", ".tar", ".tar.gz"])
def test_an_archive_holds_the_same_pictures(
    folder: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(folder, form)
    images = decoded(path)
    assert np.array_equal(images.pixels, decoded(folder).pixels)
    monkeypatch.setattr(cache, "decode_image", never)
    assert np.array_equal(decoded(path).pixels, images.pixels)


@pytest.mark.parametrize("form", [".zip", ".tar", ".tar.gz"])
def test_a_cut_off_archive_is_one_clear_line(folder: Path, form: str) -> None:
    path = packed(folder, form)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(VeilError, match="cut short") as refusal:
        decoded(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("form", [".zip", ".tar"])
def test_a_quota_page_under_an_archives_name(folder: Path, form: str) -> None:
    path = folder / f"img{form}"
    path.write_text("<html><title>Quota exceeded</title></html>")
    with pytest.raises(VeilError, match="is a web page"):
        decoded(path)


def test_a_member_that_is_damaged_in_the_zip_is_skipped(folder: Path) -> None:
    path = packed(folder, ".zip")
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("pictures/4.png").header_offset
    data = bytearray(path.read_bytes())
    data[at + 200] ^= 255
    path.write_bytes(data)
    images = decoded(path, on_bad="skip")
    assert [bad.name for bad in images.skipped] == ["pictures/4.png"]
    assert "damaged in the archive" in images.skipped[0].reason


def spoil_missing(path: Path) -> None:
    path.unlink()


def spoil_annexed(path: Path) -> None:
    path.unlink()
    path.symlink_to("../.git/annex/objects/ab/cd/SHA256E-s9--ab.png")


def spoil_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def spoil_empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


SPOILS = [
    (spoil_missing, "is missing"),
    (spoil_annexed, "git annex get"),
    (spoil_folder, "is a folder"),
    (spoil_empty, "is empty"),
    (spoil_cut, "is damaged"),
]


@pytest.mark.parametrize(("spoil", "words"), SPOILS)
def test_a_bad_file_is_named_or_skipped_and_counted(
    folder: Path, home: Path, spoil: Callable[[Path], None], words: str
) -> None:
    store = FolderStore(folder)
    files = ImageFiles(store, tuple(store.names()))
    spoil(folder / "2.png")
    with pytest.raises(VeilError, match=words) as refusal:
        decoded_images(files, 8, 3, None, "raise")
    assert str(folder / "2.png") in str(refusal.value)
    assert list((home / "images").iterdir()) == []
    images = decoded_images(files, 8, 3, None, "skip")
    assert images.kept.tolist() == [0, 1, 3, 4, 5, 6]
    assert len(images.pixels) == len(images.hashes) == 6
    assert [bad.name for bad in images.skipped] == ["2.png"]
    with pytest.raises(VeilError, match=words):  # the cached entry does not hide the bad file
        decoded_images(files, 8, 3, None, "raise")
    if words == "is missing":
        write(folder / "2.png", 2)
        assert len(decoded_images(files, 8, 3, None, "raise").pixels) == 7


def test_a_file_without_permission(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(BadImage, match="cannot be read: Permission denied"):
        FolderStore(folder).read("0.png")


def test_nothing_usable_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(VeilError, match=r"none of 1 files.*a\.png is empty"):
        decoded_images(ImageFiles(FolderStore(tmp_path), ("a.png",)), 8, 3, None, "skip")


def ramp(indices: Indices) -> Pixels:
    return np.broadcast_to(indices[:, None, None, None] % 251, (len(indices), 4, 4, 3)).astype(
        np.uint8
    )


def test_drawn_images_are_drawn_once_in_order() -> None:
    seen: list[int] = []
    steps: list[tuple[int, int]] = []

    def draw(indices: Indices) -> Pixels:
        seen.extend(indices.tolist())
        return ramp(indices)

    images = drawn_images("ramp", 300, 4, 3, draw, lambda done, of: steps.append((done, of)))
    assert seen == list(range(300))
    assert np.array_equal(images.pixels, ramp(np.arange(300)))
    assert steps == sorted(steps)
    assert steps[-1] == (300, 300)
    assert np.array_equal(drawn_images("ramp", 300, 4, 3, never).pixels, images.pixels)
    with pytest.raises(AssertionError, match="again"):
        drawn_images("another ramp", 300, 4, 3, never)


def test_wrongly_shaped_drawings_are_refused() -> None:
    with pytest.raises(VeilError, match=r"\(m, 5, 5, 3\)"):
        drawn_images("ramp", 3, 5, 3, ramp)


def test_an_interrupted_build_leaves_nothing(home: Path) -> None:
    def interrupted(indices: Indices) -> Pixels:
        if indices[0] > 0:
            raise KeyboardInterrupt
        return ramp(indices)

    with pytest.raises(KeyboardInterrupt):
        drawn_images("ramp", 300, 4, 3, interrupted)
    assert list((home / "images").iterdir()) == []
    assert len(drawn_images("ramp", 300, 4, 3, ramp).pixels) == 300


def test_what_killed_builds_left_goes_after_a_day(home: Path) -> None:
    old, young = home / "images" / ".building-old", home / "images" / ".building-young"
    for left in (old, young):
        left.mkdir(parents=True)
        (left / "pixels.npy").write_bytes(b"half")
    yesterday = time.time() - entries.STALE_AFTER - 60
    os.utime(old, (yesterday, yesterday))
    drawn_images("ramp", 3, 4, 3, ramp)
    assert not old.exists()
    assert young.exists()


@pytest.mark.parametrize("part", ["pixels.npy", "hashes.npy", "entry.json"])
def test_a_damaged_entry_is_built_again(home: Path, part: str) -> None:
    drawn_images("ramp", 300, 4, 3, ramp)
    (file,) = (home / "images").glob(f"*/{part}")
    file.write_bytes(file.read_bytes()[:-9])
    assert np.array_equal(drawn_images("ramp", 300, 4, 3, ramp).pixels, ramp(np.arange(300)))


def test_the_slower_of_two_builders_takes_the_others_entry(home: Path) -> None:
    """A second build of the same key starts and ends while the first one is drawing."""
    inner: list[Images] = []

    def draw(indices: Indices) -> Pixels:
        if not inner:
            inner.append(drawn_images("ramp", 300, 4, 3, ramp))
        return ramp(indices)

    outer = drawn_images("ramp", 300, 4, 3, draw)
    assert np.array_equal(outer.pixels, inner[0].pixels)
    assert len(list((home / "images").iterdir())) == 1


def test_many_builders_at_once(home: Path) -> None:
    results: list[Images] = []
    threads = [
        threading.Thread(target=lambda: results.append(drawn_images("ramp", 999, 4, 3, ramp)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert all(np.array_equal(images.pixels, ramp(np.arange(999))) for images in results)
    assert len(list((home / "images").iterdir())) == 1


def test_writing_to_the_pixels_does_not_reach_the_disk() -> None:
    images = drawn_images("ramp", 3, 4, 3, ramp)
    images.pixels[:] = 77
    assert np.array_equal(drawn_images("ramp", 3, 4, 3, ramp).pixels, ramp(np.arange(3)))


def test_a_cache_that_cannot_be_written(home: Path) -> None:
    home.write_text("a file, not a folder")
    with pytest.raises(VeilError, match="set VEIL_CACHE"):
        drawn_images("ramp", 3, 4, 3, ramp)


def test_a_full_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VeilError, match="No space left on device; make room"):
        drawn_images("ramp", 3, 4, 3, ramp)
    assert list((home / "images").iterdir()) == []


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("VEIL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "veil"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert cache_folder() == tmp_path / "me" / ".cache" / "veil"


def test_a_zip_is_read_from_many_threads(folder: Path) -> None:
    """One handle is shared by all; each must get its own bytes."""
    with ZipStore(packed(folder, ".zip")) as store:
        names = store.names() * 40
        wrong: list[str] = []

        def work(part: list[str]) -> None:
            for name in part:
                if store.read(name) != (folder / Path(name).name).read_bytes():
                    wrong.append(name)

        threads = [threading.Thread(target=work, args=(names[i::4],)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
