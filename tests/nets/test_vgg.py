"""Sizes against published counts, shapes, and what batch norm remembers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from veil.errors import VeilError
from veil.nets.vgg import (
    VGG16_CONVOLUTIONS,
    VGG16_HIDDEN,
    VGG16_WIDTHS,
    vgg_blocks,
    vgg_classifier,
)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_parameter_counts_are_those_of_vgg_16_with_batch_norm() -> None:
    """138,365,992 with 1000 classes at 224 pixels, of them 14,723,136 before the linear layers."""
    with torch.device("meta"):
        net = vgg_classifier(
            (3, 224, 224), VGG16_WIDTHS, VGG16_CONVOLUTIONS, VGG16_HIDDEN, outputs=1000
        )
        assert count(net) == 138_365_992
        assert count(vgg_blocks(3, VGG16_WIDTHS, VGG16_CONVOLUTIONS)) == 14_723_136


@pytest.mark.parametrize(("height", "across"), [(32, 32), (37, 33), (64, 48)])
def test_every_block_halves_the_map_rounding_down(height: int, across: int) -> None:
    x = torch.rand(2, 3, height, across)
    for k in range(1, 4):
        z = vgg_blocks(3, (4, 6, 8)[:k], (1, 2, 1)[:k])(x)
        assert z.shape == (2, (4, 6, 8)[k - 1], height // 2**k, across // 2**k)
        assert float(z.detach().min()) >= 0
    logits = vgg_classifier((3, height, across), (4, 6), (1, 2), (5,), outputs=7)(x)
    assert logits.shape == (2, 7)
    assert float(logits.detach().min()) < 0  # no ReLU after the last layer


def test_layers_stand_in_the_order_of_the_paper() -> None:
    net = vgg_classifier((1, 8, 8), (2, 3), (2, 1), (5,), outputs=4)
    names = [type(m).__name__ for m in net.modules() if not isinstance(m, nn.Sequential)]
    layer = ["Conv2d", "BatchNorm2d", "ReLU"]
    blocks = [*layer, *layer, "MaxPool2d", *layer, "MaxPool2d"]
    assert names == [*blocks, "Flatten", "Linear", "ReLU", "Linear"]


def test_convolutions_start_with_he_fan_out_variance_and_no_bias() -> None:
    for module in vgg_blocks(3, (64, 128), (2, 2)).modules():
        if isinstance(module, nn.Conv2d):
            deviation = math.sqrt(2 / (9 * module.out_channels))
            assert module.weight.std().item() == pytest.approx(deviation, rel=0.05)
            assert module.bias is not None
            assert not module.bias.any()


def test_without_running_statistics_nothing_is_remembered_and_eval_changes_nothing() -> None:
    x = torch.rand(4, 3, 16, 16)
    net = vgg_blocks(3, (4,), (2,), running_statistics=False)
    assert not [*net.buffers()]
    assert torch.equal(net.train()(x), net.eval()(x))
    remembering = vgg_blocks(3, (4,), (2,))
    assert [*remembering.buffers()]
    assert not torch.equal(remembering.train()(x), remembering.eval()(x))


def test_bad_requests_are_named() -> None:
    with pytest.raises(VeilError, match="2 blocks, 1 widths"):
        vgg_blocks(3, (8,), (1, 1))
    with pytest.raises(VeilError, match="3 VGG blocks need maps of 8 px or more, not 9x7"):
        vgg_classifier((3, 9, 7), (2, 2, 2), (1, 1, 1), (4,), outputs=2)
