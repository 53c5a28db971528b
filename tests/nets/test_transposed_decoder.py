"""The reconstruction attack of NARL: its size as recorded, and pictures of any size."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from veil.nets.transposed_decoder import transposed_decoder


@pytest.mark.parametrize(
    ("channels", "parameters"), [(64, 186_819), (128, 260_547), (256, 408_003), (512, 702_915)]
)
def test_parameters_are_those_recorded(channels: int, parameters: int) -> None:
    """Reference 03a_narl_sizes, out_reconstructor_params."""
    net = transposed_decoder(channels, (3, 178, 178))
    assert sum(p.numel() for p in net.parameters()) == parameters


@pytest.mark.parametrize(
    ("release", "picture"),
    [
        ((256, 4, 4), (3, 178, 178)),
        ((8, 12, 12), (1, 45, 33)),
        ((8, 40, 40), (3, 32, 32)),
        ((8, 1, 1), (3, 32, 32)),
    ],
)
@torch.no_grad()
def test_maps_of_any_size_become_pictures_of_the_wanted_one(
    release: tuple[int, int, int], picture: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    net = transposed_decoder(release[0], picture)
    x_hat = net(1000 * torch.randn(2, *release))
    assert x_hat.shape == (2, *picture)
    assert float(x_hat.min()) >= 0
    assert float(x_hat.max()) <= 1


def test_batch_norm_and_relu_follow_every_transposed_convolution_but_the_last() -> None:
    block = ["ConvTranspose2d", "BatchNorm2d", "ReLU"]
    kinds = [type(layer).__name__ for layer in transposed_decoder(5, (3, 32, 32))]
    assert kinds == [
        "Upsample",
        *block,
        *block,
        "Upsample",
        *block,
        "ConvTranspose2d",
        "Sigmoid",
    ]


def test_the_first_two_layers_work_at_half_size_on_a_bilinear_map() -> None:
    z = torch.randn(2, 5, 4, 4)
    net = transposed_decoder(5, (3, 178, 178))
    torch.testing.assert_close(net[0](z), interpolate(z, (89, 89), mode="bilinear"))
    sides = []
    for layer in net:
        z = layer(z)
        if isinstance(layer, nn.ConvTranspose2d):
            sides.append((layer.in_channels, layer.out_channels, z.shape[2]))
    assert sides == [(5, 128, 89), (128, 64, 89), (64, 64, 178), (64, 3, 178)]


def test_it_learns_to_see_what_is_there() -> None:
    """Ten steps on pictures seen at a quarter of their size."""
    torch.manual_seed(0)
    x = interpolate(torch.rand(4, 3, 2, 2), (16, 16))
    net = transposed_decoder(3, (3, 16, 16))
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(10):
        loss = (net(x[..., ::4, ::4]) - x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
