"""Seeds derived from their purpose, so that no two uses share a stream by accident."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_for(run: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose of one run: `seed_for(0, "attack", "mlp", 3)`.

    Distinct purposes give independent seeds; the defender's and the attacker's never coincide
    because their purposes differ.
    """
    text = "\x1f".join([str(run), *map(str, purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(run: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh torch generator seeded for one purpose (see `seed_for`)."""
    import torch

    return torch.Generator(device=device).manual_seed(seed_for(run, *purpose))
