"""The one path from an image to what leaves the building; audit, files and folders all take it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from veil.data.dataset import Dataset
from veil.mechanism import ClippedGaussian
from veil.method import Obfuscator
from veil.seeds import generator

IMAGES_AT_ONCE = 256


class FunctionRelease(Obfuscator):
    """Anyone's release, given as a function of images and a generator.

    Args:
        function: (n, c, h, w) in [0, 1] and the source of randomness -> (n, ...).
        mechanism: what the function provably ends with.
    """

    def __init__(
        self,
        function: Callable[[Tensor, torch.Generator], Tensor],
        mechanism: ClippedGaussian | None = None,
    ) -> None:
        super().__init__()
        self.function = function
        self.mechanism = mechanism

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return self.function(x, rng)


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
    return next(drawn(obfuscator, images, (rng,)))


@torch.no_grad()
def drawn(
    obfuscator: Obfuscator, images: Tensor, rngs: Iterable[torch.Generator]
) -> Iterator[Tensor]:
    """Release a batch as `released` does, once for each generator."""
    obfuscator.eval()
    for z in obfuscator.draws(images, rngs):
        yield z.float().cpu()


def release_split(obfuscator: Obfuscator, dataset: Dataset, seed: int, purpose: str) -> Tensor:
    """Release every image of a split once, with randomness of its own purpose.

    Returns:
        (n, ...) float32.
    """
    batches = _batches(obfuscator, dataset, seed, purpose, draws=1)
    return torch.cat([z for draws in batches for z in draws])


@dataclass(frozen=True)
class Draws:
    """Many draws of a random release, as an attacker who may ask again sees them.

    Attributes:
        means: N -> (n, ...) float32, the mean of the first N draws.
        deviation: (n, ...) float32, the standard deviation over all draws.
    """

    means: dict[int, Tensor]
    deviation: Tensor


def release_draws(
    obfuscator: Obfuscator, dataset: Dataset, seed: int, purpose: str, counts: Sequence[int]
) -> Draws:
    """Release every image of a split max(counts) times; keep the means after `counts` draws."""
    means: dict[int, list[Tensor]] = {count: [] for count in counts}
    deviations = []
    for draws in _batches(obfuscator, dataset, seed, purpose, max(counts)):
        for number, z in enumerate(draws, 1):
            if number == 1:
                first = z.double()
                total, squares = torch.zeros_like(first), torch.zeros_like(first)
            # Sums of differences from one draw: nothing cancels where the noise is small.
            apart = z - first
            total, squares = total + apart, squares + apart.square()
            if number in means:
                means[number].append((first + total / number).float())
        variance = (squares - total.square() / number) / max(1, number - 1)
        deviations.append(variance.clamp_min(0).sqrt().float())
    return Draws({n: torch.cat(parts) for n, parts in means.items()}, torch.cat(deviations))


def _batches(
    obfuscator: Obfuscator, dataset: Dataset, seed: int, purpose: str, draws: int
) -> Iterator[Iterator[Tensor]]:
    """For each batch of a split in turn its draws, (n, ...) each; use them before the next."""
    device = next(obfuscator.parameters(), torch.empty(0)).device
    for start in range(0, len(dataset), IMAGES_AT_ONCE):
        x = dataset.batch(slice(start, start + IMAGES_AT_ONCE), labels=()).x.to(device)
        rngs = (
            generator(seed, "release", purpose, number, start, device=device)
            for number in range(draws)
        )
        yield drawn(obfuscator, x, rngs)


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
