"""Heads on vectors and maps: shapes, the layers a paper names, and what they compute."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from veil.nets.heads import MLP, ConvHead

AUDIT_CHANNELS = (32, 64, 64, 128, 128, 256)  # AIA, section 5.2


def test_an_mlp_has_one_activation_after_each_hidden_layer_and_none_at_the_end() -> None:
    net = MLP(12, (7, 5), 3, nn.Tanh)
    names = [type(layer).__name__ for layer in net]
    assert names == ["Flatten", "Linear", "Tanh", "Linear", "Tanh", "Linear"]
    widths = [(m.in_features, m.out_features) for m in net if isinstance(m, nn.Linear)]
    assert widths == [(12, 7), (7, 5), (5, 3)]
    assert [type(layer).__name__ for layer in MLP(4, (), 2, nn.ReLU)] == ["Flatten", "Linear"]


def test_an_mlp_takes_maps_and_computes_its_formula() -> None:
    torch.manual_seed(0)
    net = MLP(2 * 3 * 3, (4,), 2, nn.Tanh)
    x = torch.randn(5, 2, 3, 3)
    first, second = (layer for layer in net if isinstance(layer, nn.Linear))
    by_hand = torch.tanh(x.reshape(5, 18) @ first.weight.T + first.bias) @ second.weight.T
    assert torch.allclose(net(x), by_hand + second.bias, atol=1e-6)


def test_the_papers_six_convolutions() -> None:
    head = ConvHead(12, AUDIT_CHANNELS, 2)
    convolutions = [m for m in head.convs if isinstance(m, nn.Conv2d)]
    assert tuple(c.out_channels for c in convolutions) == AUDIT_CHANNELS
    assert [m.num_features for m in head.norms if isinstance(m, nn.BatchNorm2d)] == [
        *AUDIT_CHANNELS
    ]
    assert {c.kernel_size for c in convolutions} == {(3, 3)}
    assert head.classifier.in_features == 256


@pytest.mark.parametrize(
    ("size", "pool_every", "left"), [(25, 2, 3), (16, 2, 4), (16, 1, 4), (4, 2, 4), (1, 2, 1)]
)
def test_maps_shrink_to_no_less_than_half_of_five(size: int, pool_every: int, left: int) -> None:
    head = ConvHead(3, AUDIT_CHANNELS, 2, pool_every)
    x = torch.zeros(2, 3, size, size)
    assert head.features(x).shape == (2, 256, left, left)
    assert head(x).shape == (2, 2)


@torch.no_grad()
def test_logits_are_one_linear_layer_on_the_spatial_average() -> None:
    torch.manual_seed(0)
    head = ConvHead(3, (4, 6), 5)
    x = torch.randn(2, 3, 8, 8)
    features = head.features(x)
    assert float(features.min()) == 0  # ReLU
    slow = torch.stack(
        [
            torch.stack([features[n, c].sum() / features[n, c].numel() for c in range(6)])
            for n in range(2)
        ]
    )
    expected = slow @ head.classifier.weight.T + head.classifier.bias
    assert torch.allclose(head(x), expected, atol=1e-6)
