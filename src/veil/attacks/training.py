"""What every attacker that trains a network shares: where it runs and the best state so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def fastest_device() -> torch.device:
    """The GPU if there is one: releases lie on the CPU, an attacker may move them."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def initialised_from(seed: int) -> Iterator[None]:
    """Networks built inside draw their initial weights from `seed`; the global stream is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, size: int, axis: int = 0) -> Tensor:
    """`function` of rows of x, `size` at a time, joined on the CPU along `axis` in float32."""
    with torch.inference_mode():
        return torch.cat([function(part).float().cpu() for part in torch.split(x, size)], axis)


def shuffled(rows: int, size: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Batches of row numbers in random order; every row once, the last batch as large as others.

    The batches' sizes differ by at most one, so none is too small for batch normalisation.
    """
    yield from torch.randperm(rows, generator=rng).tensor_split(max(1, round(rows / size)))
