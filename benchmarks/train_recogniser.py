"""Train the face recogniser that veil carries, on drawn faces (docs/recognition.md).

    python benchmarks/train_recogniser.py [--out FILE] [--people 3000] [--steps 1200]

Two to three minutes on one core. The data set's seed is nobody's default, so that an audit of
SynthFaces meets people whom the recogniser has never seen; the figures printed are those of a
second such data set.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

import veil
from veil.attacks.attack import Ints
from veil.data.synthfaces import SynthFacesConfig
from veil.recogniser_training import Recipe, train_recogniser
from veil.recognition import recognition

SHIPPED = Path(veil.__file__).parent / "weights" / "synthfaces-recogniser.safetensors"
TRAINED_ON, FRESH = 7_301_977, 7_301_978


def drawn(seed: int, people: int) -> tuple[Tensor, Ints]:
    """(5 people, 3, 32, 32) uint8 pictures and who they show."""
    dataset = SynthFacesConfig(people=people, size=32, seed=seed).dataset()
    assert dataset.identity is not None
    return torch.from_numpy(dataset.images).permute(0, 3, 1, 2), dataset.identity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--people", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=1200)
    args = parser.parse_args()
    images, identity = drawn(TRAINED_ON, args.people)
    start = time.perf_counter()
    source = f"trained on SynthFaces (seed {TRAINED_ON}, {args.people} people of 5 pictures)"
    recogniser = train_recogniser(
        images, identity, 0, Recipe(steps=args.steps), source, Console(stderr=True)
    )
    print(f"trained in {time.perf_counter() - start:.0f} s; digest {recogniser.digest}")
    recogniser.save(args.out)
    print("held out:", recogniser.held_out)
    images, identity = drawn(FRESH, 600)
    print("fresh:   ", recognition(recogniser.embed(images).numpy(), identity, 0))


if __name__ == "__main__":
    main()
