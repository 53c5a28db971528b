"""Faces drawn per second, beside decoding JPEG files of the same size with Pillow.

    python benchmarks/bench_synthfaces.py [--count 4096] [--sizes 32 64 128 256]

Both use a thread on every core. Rates are the best of three passes, and want a quiet machine.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from veil.data.synthfaces import faces


def rate(work: Callable[[], object], count: int) -> float:
    """Images per second, the best of three passes."""
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        work()
        best = max(best, count / (time.perf_counter() - start))
    return best


def decode(file: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB"))


def jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=4096, help="images at 64 pixels")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128, 256])
    args = parser.parse_args()
    cores = os.cpu_count() or 1
    print(f"{cores} cores; images per second")
    print(f"{'size':>5} {'drawn':>8} {'decoded':>8} {'ratio':>6}")
    for size in args.sizes:
        count = max(64, args.count * 64**2 // max(size, 64) ** 2)
        drawn, decoded = rates(size, count, cores)
        print(f"{size:5} {drawn:8.0f} {decoded:8.0f} {drawn / decoded:6.2f}")


def rates(size: int, count: int, cores: int) -> tuple[float, float]:
    indices = np.arange(count, dtype=np.int64)
    files = [jpeg(picture) for picture in faces(0, indices, size)]
    with ThreadPoolExecutor(cores) as pool:
        decoded = rate(lambda: list(pool.map(decode, files)), count)
    return rate(lambda: faces(0, indices, size), count), decoded


if __name__ == "__main__":
    main()
