"""The matcher's shape, size and its one weight sharing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from veil.errors import VeilError
from veil.nets.siamese import SiameseNet


@pytest.mark.parametrize(("channels", "size"), [(1, 4), (12, 5), (3, 7), (12, 25), (1, 100)])
def test_every_map_becomes_an_embedding(channels: int, size: int) -> None:
    net = SiameseNet(channels, size)
    assert net(torch.zeros(2, channels, size, size)).shape == (2, 128)


def test_it_is_the_network_of_the_paper() -> None:
    """Convolutions 4-8-8 of 3x3, then 500 and 128 units; counted by hand for a 12x25x25 map."""
    net = SiameseNet(12, 25)
    convolutions = 12 * 4 * 9 + 4 + 4 * 8 * 9 + 8 + 8 * 8 * 9 + 8
    connected = 8 * 6 * 6 * 500 + 500 + 500 * 128 + 128
    assert sum(p.numel() for p in net.parameters()) == convolutions + connected
    widths = [layer.out_channels for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert widths == [4, 8, 8]


def test_an_embedding_is_independent_of_the_rest_of_the_batch() -> None:
    net = SiameseNet(2, 8)
    x = torch.randn(5, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(net(x)[3:4], net(x[3:4]), atol=1e-6)


def test_every_weight_takes_part() -> None:
    net = SiameseNet(2, 8)
    net(
        torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    ).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_a_map_too_small_is_refused() -> None:
    with pytest.raises(VeilError, match="3x3 map is too small"):
        SiameseNet(2, 3)
