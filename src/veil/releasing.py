"""Releases on disk: a folder of pictures, or splits of a run's data as audits read them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from veil.attacks.attack import AttackSplit
from veil.checkpoint import written_beside
from veil.data.cache import decoded_images
from veil.data.image_files import SUFFIXES, ImageFiles, open_store
from veil.errors import VeilError, nearest
from veil.evidence import ATTACK_SPLITS
from veil.progress import bar
from veil.release import IMAGES_AT_ONCE, release_split, released
from veil.runs import load
from veil.seeds import generator, seed_for


def release_folder(
    run_path: Path, images: Path, out: Path, seed: int, console: Console | None
) -> int:
    """Release every picture of a folder: `out` gets one `NAME.npy`, (...) float32, for each.

    Returns:
        The number of pictures released.

    Raises:
        VeilError: the folder is missing, empty, or holds a file that is not a usable picture.
    """
    if not images.is_dir():
        raise VeilError(f"{images}: no such folder of pictures")
    _refuse_losing(images, out)
    run = load(run_path, console)
    channels, size, _ = run.problem.image
    crop = getattr(run.config.data, "crop", None)
    with open_store(images) as store:
        names = tuple(store.names())
        if not names:
            raise VeilError(f"{images}: no pictures ({', '.join(SUFFIXES)})")
        targets = [Path(name).with_suffix(".npy") for name in names]
        _refuse_same_target(names, targets)
        pixels = decoded_images(ImageFiles(store, names), size, channels, crop, "raise").pixels
    device = run.config.fit.torch_device()
    with written_beside(out) as beside, bar(console, "releasing", len(names)) as advance:
        beside.mkdir()
        try:
            for start in range(0, len(names), IMAGES_AT_ONCE):
                part = torch.from_numpy(pixels[start : start + IMAGES_AT_ONCE])
                x = part.permute(0, 3, 1, 2).float().div(255).to(device)
                rng = generator(seed, "release", str(start), device=device)
                z = released(run.method.obfuscator, x, rng).numpy()
                for target, one in zip(targets[start:], z, strict=False):
                    (beside / target).parent.mkdir(parents=True, exist_ok=True)
                    np.save(beside / target, one, allow_pickle=False)
                advance(len(z), "")
            if out.exists():
                shutil.rmtree(out)
        except BaseException:
            shutil.rmtree(beside)
            raise
    return len(names)


def release_splits(
    run_path: Path, splits: Sequence[str], out: Path, seed: int, console: Console | None
) -> int:
    """Release splits of the run's data into one `.npz` or `.safetensors` that audits read.

    The file holds `z`, the first private label `s`, the first useful class label `y`, `identity`
    where people are known, and `split` (0 attack, 1 select, 2 test).

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
    useful = [name for name in run.problem.utility if run.problem.labels[name].is_class]
    columns = {"s": run.problem.private[0]} | ({"y": useful[0]} if useful else {})
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


def _refuse_losing(images: Path, out: Path) -> None:
    """Raise `VeilError` unless `out` is new, or holds nothing but an earlier release."""
    here, there = images.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise VeilError(f"{out}: overlaps with the pictures in {images}; name another folder")
    if out.is_dir():
        foreign = next((f for f in out.rglob("*") if f.is_file() and f.suffix != ".npy"), None)
    else:
        foreign = out if out.exists() else None
    if foreign is not None:
        raise VeilError(f"{foreign}: was not released by veil; name a new folder with --out")


def _refuse_same_target(names: Sequence[str], targets: Sequence[Path]) -> None:
    seen: dict[Path, str] = {}
    for name, target in zip(names, targets, strict=True):
        if target in seen:
            raise VeilError(
                f"'{seen[target]}' and '{name}' would both become '{target}': rename one"
            )
        seen[target] = name
