"""What a release costs whoever makes it: multiply-adds for one picture, and parameters to hold."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from veil.method import Obfuscator
from veil.release import released


@dataclass(frozen=True)
class ClientCost:
    """The price of one release.

    Attributes:
        multiply_adds: of convolutions and matrix products. Norms, activations, pooling and noise
            are not counted, as is the custom (NARL, UAI 2023, counts so too).
        parameters: numbers that the client must hold; buffers are not counted.
    """

    multiply_adds: int
    parameters: int


def client_cost(obfuscator: Obfuscator, image: tuple[int, int, int]) -> ClientCost:
    """What one release of one picture costs, by making it.

    Args:
        obfuscator: what is deployed; it is in eval mode afterwards, as after every release.
        image: (c, h, w) of the picture.
    """
    from torch.utils.flop_counter import FlopCounterMode

    device = next(obfuscator.parameters(), torch.empty(0)).device
    with FlopCounterMode(display=False) as counter:
        released(obfuscator, torch.zeros(1, *image, device=device), torch.Generator(device))
    return ClientCost(
        multiply_adds=counter.get_total_flops() // 2,  # a multiply-add is two operations there
        parameters=sum(parameter.numel() for parameter in obfuscator.parameters()),
    )
