"""Releases on disk: a folder of pictures, or splits of a run's data as audits read them.

A folder of releases ends with `release.json`, written last: the names and hashes of the files
beside it, and nothing of the originals, the run or the noise. What is listed there and unchanged is
ours, and may be overwritten; anything else is somebody's, and is not.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rich.console import Console
from torch import Tensor

from veil.attacks.attack import AttackSplit
from veil.checkpoint import written_beside
from veil.data.cache import decoded_images
from veil.data.dataset import PICTURE
from veil.data.decode import FORMATS
from veil.data.image_files import SUFFIXES, ImageFiles, Store, open_store
from veil.errors import VeilError, nearest
from veil.evidence import ATTACK_SPLITS
from veil.progress import bar
from veil.release import IMAGES_AT_ONCE, release_split, released
from veil.runs import load
from veil.seeds import generator, seed_for

MANIFEST = "release.json"
QUALITY = 95


def release_folder(
    run_path: Path, images: Path, out: Path, seed: int, console: Console | None
) -> int:
    """Release every picture of a folder.

    A run that releases pictures writes pictures, with the names, formats and sizes of the originals
    (see `write_picture`); others write one `NAME.npy`, (...) float32, for each.

    Returns:
        The number of pictures released.

    Raises:
        VeilError: the folder is missing, empty, or holds a file that is not a usable picture; `out`
            holds anything but an earlier release.
    """
    if not images.is_dir():
        raise VeilError(f"{images}: no such folder of pictures")
    _refuse_losing(images, out)
    run = load(run_path, console)
    obfuscator = run.method.obfuscator
    channels, size, _ = run.problem.image
    crop = getattr(run.config.data, "crop", None)
    with open_store(images) as store:
        names = tuple(store.names())
        if not names:
            raise VeilError(f"{images}: no pictures ({', '.join(SUFFIXES)})")
        targets = [
            Path(name) if obfuscator.pictures else Path(name).with_suffix(".npy") for name in names
        ]
        _refuse_same_target(names, targets)
        pixels = decoded_images(ImageFiles(store, names), size, channels, crop, "raise").pixels
        device = run.config.fit.torch_device()
        with _folder_beside(out) as beside, bar(console, "releasing", len(names)) as advance:
            for start in range(0, len(names), IMAGES_AT_ONCE):
                part = torch.from_numpy(pixels[start : start + IMAGES_AT_ONCE])
                x = part.permute(0, 3, 1, 2).float().div(255).to(device)
                rng = generator(seed, "release", str(start), device=device)
                z = released(obfuscator, x, rng)
                for name, target, one in zip(names[start:], targets[start:], z, strict=False):
                    path = beside / target
                    path.parent.mkdir(parents=True, exist_ok=True)
                    if obfuscator.pictures:
                        write_picture(path, one, frame_of(store, name), crop)
                    else:
                        np.save(path, one.numpy(), allow_pickle=False)
                advance(len(z), "")
    return len(names)


def frame_of(store: Store, name: str) -> tuple[int, int]:
    """(width, height) in pixels of a picture that can be decoded, upright."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # decoding has said what is wrong with a picture
        with Image.open(io.BytesIO(store.read(name)), formats=FORMATS) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return image.size


def write_picture(path: Path, z: Tensor, frame: tuple[int, int], crop: int | None) -> None:
    """Write a released square where the original's centre square lay, in a file of its size.

    The square is resized (bicubic) to the side of the one that was cropped; around it its own edge
    is repeated, so that nothing of the original is left. The format is the name's (JPEG at quality
    95); no metadata is written.

    Args:
        path: the file.
        z: (c, size, size) in [0, 1], grey or RGB.
        frame: (width, height) of the original in pixels, upright.
        crop: side of the square that was cropped, or the shorter side where None or too large.
    """
    width, height = frame
    side = min(width, height, crop or width)
    pixels = z.permute(1, 2, 0).mul(255).round().clamp(0, 255).byte().numpy()
    square = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    if square.width != side:
        square = square.resize((side, side), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    margins = [(top, height - side - top), (left, width - side - left)]
    filled = np.asarray(square)
    filled = np.pad(filled, margins + [(0, 0)] * (filled.ndim - 2), mode="edge")
    Image.fromarray(filled).save(path, quality=QUALITY)


def release_splits(
    run_path: Path, splits: Sequence[str], out: Path, seed: int, console: Console | None
) -> int:
    """Release splits of the run's data into one `.npz` or `.safetensors` that audits read.

    The file holds `z`, the first private label `s` (where one has a column), the first useful class
    label `y`, `identity` where people are known, and `split` (0 attack, 1 select, 2 test).

    Returns:
        The number of images released.
    """
    if out.suffix not in (".npz", ".safetensors"):
        raise VeilError(f"{out}: releases of a split go into a .npz or .safetensors file")
    for name in splits:
        if name not in ATTACK_SPLITS:
            raise VeilError(f"no split '{name}' to release: {nearest(name, ATTACK_SPLITS)}")
    run = load(run_path, console)
    chosen: list[AttackSplit] = [name for name in ATTACK_SPLITS if name in splits]
    hidden = [name for name in run.problem.private if run.problem.labels[name] != PICTURE]
    useful = [name for name in run.problem.utility if run.problem.labels[name].is_class]
    firsts = (("s", hidden), ("y", useful))
    columns = {key: names[0] for key, names in firsts if names}
    parts: dict[str, list[NDArray[Any]]] = {}
    for name in chosen:
        data = run.splits[name]
        purpose = seed_for(seed, "release file")
        z = release_split(run.method.obfuscator, data, purpose, name).numpy()
        parts.setdefault("z", []).append(z)
        for key, label in columns.items():
            parts.setdefault(key, []).append(data.column(label))
        if data.identity is not None and "identity" not in columns.values():
            parts.setdefault("identity", []).append(data.identity)
        parts.setdefault("split", []).append(np.full(len(data), ATTACK_SPLITS.index(name)))
    arrays = {name: np.concatenate(found) for name, found in parts.items()}
    with written_beside(out) as beside:
        if out.suffix == ".npz":
            with beside.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
        else:
            from safetensors.numpy import save_file

            save_file(arrays, beside)
    return len(arrays["z"])


@contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of `out` when the block ends well, with its manifest."""
    out.parent.mkdir(parents=True, exist_ok=True)
    beside, earlier = (
        out.with_name(f".{out.name}.{os.getpid()}.{what}") for what in ("part", "old")
    )
    beside.mkdir()
    try:
        yield beside
        files = {path.relative_to(beside).as_posix(): _digest(path) for path in _files(beside)}
        manifest = {"released by": f"veil {version('veil')}", "files": files}
        (beside / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        if out.exists():
            out.replace(earlier)
        beside.replace(out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        if earlier.exists():
            earlier.replace(out)
        raise
    if earlier.exists():
        shutil.rmtree(earlier)


def _refuse_losing(images: Path, out: Path) -> None:
    """Raise `VeilError` unless `out` is new, or holds nothing but an earlier release."""
    here, there = images.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise VeilError(f"{out}: overlaps with the pictures in {images}; name another folder")
    if out.is_dir():
        ours = _released_before(out)
        foreign = next((path for path in _files(out) if not _is_ours(path, out, ours)), None)
    else:
        foreign = out if out.exists() else None
    if foreign is not None:
        raise VeilError(f"{foreign}: was not released by veil; name a new folder with --out")


def _released_before(out: Path) -> dict[str, str]:
    """Names and hashes of the files that an earlier release wrote into the folder."""
    try:
        files = json.loads((out / MANIFEST).read_text(encoding="utf-8"))["files"]
        return {**files, MANIFEST: ""}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _is_ours(path: Path, out: Path, ours: Mapping[str, str]) -> bool:
    """Whether the file was written by an earlier release and has not been changed since."""
    name = path.relative_to(out).as_posix()
    if path.is_symlink() or name not in ours:
        return False
    return name == MANIFEST or ours[name] == _digest(path)


def _files(folder: Path) -> list[Path]:
    """Everything below a folder that is no folder, links included, in order."""
    return sorted(p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _refuse_same_target(names: Sequence[str], targets: Sequence[Path]) -> None:
    seen: dict[Path, str] = {}
    for name, target in zip(names, targets, strict=True):
        if target in seen:
            raise VeilError(
                f"'{seen[target]}' and '{name}' would both become '{target}': rename one"
            )
        seen[target] = name
