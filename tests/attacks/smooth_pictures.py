"""Made-up pictures for the attackers that redraw them: smooth, varied, 16 pixels, no face."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from veil.attacks.attack import AttackSplit
from veil.attacks.reconstruction import InversionKnowledge, eight_bit, unit_range

Release = Callable[[Tensor, torch.Generator], Tensor]
ROWS: dict[AttackSplit, int] = {"attack": 400, "select": 60, "test": 60}
SIDE = 16


def latents(count: int, rng: torch.Generator) -> Tensor:
    """(n, 12) standard normal: what a picture is drawn from."""
    return torch.randn(count, 12, generator=rng)


def drawn(latent: Tensor, channels: int = 1) -> Tensor:
    """(n, c, 16, 16) in (0, 1): twelve low cosines in random mixture, through a sigmoid."""
    places = (torch.arange(SIDE) + 0.5) / SIDE
    waves = torch.stack([(math.pi * k * places).cos() for k in range(4)])
    basis = torch.einsum("ai,bj->abij", waves, waves).flatten(0, 1)[1:13]
    channel = torch.linspace(1.0, 0.5, channels)[:, None, None]
    return (0.6 * torch.einsum("nk,kij->nij", latent, basis)[:, None] * channel).sigmoid()


def world(release: Release, channels: int = 1, seed: int = 0) -> tuple[InversionKnowledge, Tensor]:
    """What an attacker of a release of such pictures holds; and test's pictures (n, c, 16, 16)."""
    rng = torch.Generator().manual_seed(seed)
    x = {split: eight_bit(drawn(latents(n, rng), channels)) for split, n in ROWS.items()}
    with torch.no_grad():
        z = {split: release(unit_range(pictures), rng) for split, pictures in x.items()}
    known = InversionKnowledge(z=z, x={"attack": x["attack"], "select": x["select"]})
    return known, unit_range(x["test"])


def identity(x: Tensor, _: torch.Generator) -> Tensor:
    """The picture itself."""
    return x


def noise(x: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 40) that know nothing of the picture."""
    return torch.randn(len(x), 40, generator=rng)
