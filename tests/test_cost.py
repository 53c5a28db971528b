"""What a client pays: closed forms, and the figures of NARL's paper."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import tiny
from veil.cost import ClientCost, client_cost
from veil.method import Obfuscator
from veil.methods.narl import NARL, NARLConfig
from veil.nets.resnet import resnet18


class Through(Obfuscator):
    """Releases what a network makes of the picture."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        z: Tensor = self.net(x)
        return z


def test_convolutions_and_matrix_products_are_counted_and_nothing_else() -> None:
    """9x9 -> 5x5 -> 9x9: a product for every weight that meets a pixel; norms cost nothing."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(4 * 9 * 9, 10),
    )
    convolution, transposed, linear = 25 * 8 * 3 * 9, 25 * 8 * 4 * 9, 4 * 81 * 10
    parameters = (3 * 9 + 1) * 8 + 2 * 8 + (8 * 9 * 4 + 4) + (4 * 81 + 1) * 10
    expected = ClientCost(convolution + transposed + linear, parameters)
    assert client_cost(Through(net), (3, 9, 9)) == expected


def test_a_release_without_a_network_is_free() -> None:
    assert client_cost(tiny.Bare(), (3, 32, 32)) == ClientCost(0, 0)


@pytest.mark.parametrize(
    ("cut", "gmac", "million"), [(3, 0.952, 2.78), (4, 1.254, 11.18)], ids=["RN18_3", "RN18_4"]
)
def test_narl_costs_at_178_px_what_its_paper_says(cut: int, gmac: float, million: float) -> None:
    method = NARL(NARLConfig(cut=cut), tiny.problem(size=178))
    cost = client_cost(method.obfuscator, (3, 178, 178))
    assert round(cost.multiply_adds / 1e9, 3) == gmac
    assert round(cost.parameters / 1e6, 2) == million


def test_at_224_px_rn18_3_costs_22_7_per_cent_less_than_the_whole_network() -> None:
    method = NARL(NARLConfig(), tiny.problem(size=224))
    part, whole = (
        client_cost(obfuscator, (3, 224, 224)).multiply_adds
        for obfuscator in (method.obfuscator, Through(resnet18(classes=1)))
    )
    assert round(100 * (1 - part / whole), 1) == 22.7
