"""The one path from an image to what leaves the building; audit, files and folders all take it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from veil.data.dataset import Dataset
from veil.method import Obfuscator
from veil.seeds import generator

IMAGES_AT_ONCE = 256


class FunctionRelease(Obfuscator):
    """Anyone's release, given as a function of images and a generator.

    Args:
        function: (n, c, h, w) in [0, 1] and the source of randomness -> (n, ...).
    """

    def __init__(self, function: Callable[[Tensor, torch.Generator], Tensor]) -> None:
        super().__init__()
        self.function = function

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return self.function(x, rng)


@torch.no_grad()
def released(
    obfuscator: Obfuscator,
    images: Tensor,
    rng: torch.Generator,
) -> Tensor:
    """Release a batch, in eval mode and full precision.

    Args:
        obfuscator: what is deployed.
        images: (n, c, h, w) in [0, 1], on the obfuscator's device.
        rng: source of all randomness, on that device.

    Returns:
        (n, ...) float32 on the CPU.
    """
    obfuscator.eval()
    return obfuscator.release(images, rng).float().cpu()


def release_split(
    obfuscator: Obfuscator,
    dataset: Dataset,
    seed: int,
    purpose: str,
    draws: int = 1,
) -> Tensor:
    """Release every image of a split, `draws` times, with randomness of its own purpose.

    Returns:
        (n, ...) float32, the mean over the draws (one draw: the release itself).
    """
    device = next(obfuscator.parameters(), torch.empty(0)).device
    parts = []
    for start in range(0, len(dataset), IMAGES_AT_ONCE):
        x = dataset.batch(slice(start, start + IMAGES_AT_ONCE), labels=()).x.to(device)
        total = torch.zeros(())
        for draw in range(draws):
            rng = generator(seed, "release", purpose, draw, start, device=device)
            total = total + released(obfuscator, x, rng)
        parts.append(total / draws)
    return torch.cat(parts)


def is_random(obfuscator: Obfuscator, dataset: Dataset, seed: int) -> bool:
    """Whether two draws of the same images differ."""
    few = dataset.view(np.arange(min(8, len(dataset))))
    first, second = (release_split(obfuscator, few, seed, f"twice {i}") for i in range(2))
    return not torch.equal(first, second)


def depends_on_batch(obfuscator: Obfuscator, dataset: Dataset, seed: int) -> float:
    """How far one image's release moves when the rest of its batch changes (0 = independent).

    The largest absolute difference, in units of the release's standard deviation.
    """
    count = min(16, len(dataset))
    if count < 3:
        return 0.0
    middle = (count + 1) // 2
    # The same first image among others, not among the same ones in another order: statistics of
    # a batch do not depend on the order.
    a, b = (
        release_split(obfuscator, dataset.view(np.append(0, others)), seed, "company")
        for others in (np.arange(1, middle), np.arange(middle, count))
    )
    spread = torch.cat([a, b]).std().clamp_min(1e-12)
    return float((a[0] - b[0]).abs().max() / spread)
