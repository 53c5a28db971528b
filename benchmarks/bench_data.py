"""Images per second out of the decoded cache, beside a plain Pillow loader of the same files.

    python benchmarks/bench_data.py [--images FOLDER] [--size 64] [--count 5000] [--batch 128]

Without `--images` it writes JPEGs of smooth noise at 178 x 218, CelebA's aligned size. The cache
is built afresh in a temporary folder. Every rate after the first decoding is the best of three
passes over the same random order.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from veil.data.cache import decoded_images
from veil.data.dataset import Dataset
from veil.data.image_files import FolderStore, ImageFiles


def write_images(folder: Path, count: int) -> None:
    """`count` JPEGs that compress about as well as photographs."""
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (28, 23, 3), dtype=np.uint8))
        coarse.resize((178, 218), Image.Resampling.BICUBIC).save(folder / f"{i:06}.jpg", quality=85)


def pillow_batch(paths: list[Path], size: int) -> torch.Tensor:
    """What a folder data set does for each batch: open, crop, resize, convert, stack."""
    images = []
    for path in paths:
        with Image.open(path) as image:
            width, height = image.size
            side = min(width, height, 178)
            left, top = (width - side) // 2, (height - side) // 2
            box = (left, top, left + side, top + side)
            square = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC, box=box)
            images.append(torch.from_numpy(np.array(square)).permute(2, 0, 1))
    return torch.stack(images).float().div_(255)


def rate(step: Callable[[np.ndarray], object], order: np.ndarray, batch: int) -> float:
    """Images per second, the best of three passes."""
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        for at in range(0, len(order), batch):
            step(order[at : at + batch])
        best = max(best, len(order) / (time.perf_counter() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["VEIL_CACHE"] = str(Path(scratch) / "cache")
        folder = options.images or Path(scratch) / "images"
        if options.images is None:
            folder.mkdir()
            write_images(folder, options.count)
        store = FolderStore(folder)
        names = tuple(store.names()[: options.count])
        start = time.perf_counter()
        images = decoded_images(ImageFiles(store, names), options.size, 3, 178, "raise")
        fresh = time.perf_counter() - start
        start = time.perf_counter()
        decoded_images(ImageFiles(store, names), options.size, 3, 178, "raise")
        again = time.perf_counter() - start
        dataset = Dataset("bench", images.pixels, {}, {}, images.hashes)
        order = np.random.default_rng(1).permutation(len(names))
        pixels = torch.from_numpy(images.pixels)
        gather = rate(
            lambda rows: pixels.index_select(0, torch.from_numpy(rows)), order, options.batch
        )
        batch = rate(dataset.batch, order, options.batch)
        plain = rate(
            lambda rows: pillow_batch([folder / names[row] for row in rows], options.size),
            order[: min(len(order), 1000)],
            options.batch,
        )
    threads = torch.get_num_threads()
    print(f"{len(names)} images at {options.size} px, batch {options.batch}, {threads} threads")
    print(f"first decoding     {len(names) / fresh:10,.0f} img/s ({fresh:.1f} s)")
    print(f"opening the cache  {again * 1000:10,.1f} ms")
    print(f"uint8 gather       {gather:10,.0f} img/s")
    print(f"Dataset.batch      {batch:10,.0f} img/s (float32, channels-last)")
    print(f"Pillow from folder {plain:10,.0f} img/s")
    print(f"ratio batch/Pillow {batch / plain:10,.1f}")


if __name__ == "__main__":
    main()
