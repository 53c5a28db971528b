"""Sizes against published counts, shapes, and that a cut network is the whole one."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch
from torch import nn

from veil.errors import VeilError
from veil.nets.resnet import BasicBlock, ResNet, resnet10, resnet18


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_are_those_of_the_synthetic_replacement_paper() -> None:
    assert count(resnet18(2)) == 11_177_538
    assert count(resnet18(3)) == 11_178_051
    assert count(resnet10(2)) == 4_906_818
    assert count(resnet10(3)) == 4_907_331


def test_parameters_before_and_after_each_cut_are_those_of_narl() -> None:
    for classes, whole in ((1, 11_177_025), (2, 11_177_538), (7, 11_180_103)):
        net = resnet18(classes)
        before = [count(net.stem_and_stages(k)) for k in range(5)]
        assert before == [9_536, 157_504, 683_072, 2_782_784, 11_176_512]
        assert [count(net.rest_after(k)) for k in range(5)] == [whole - b for b in before]


@pytest.mark.parametrize(("size", "released"), [(178, 45), (64, 16)])
def test_the_cut_releases_the_map_sizes_of_narl(size: int, released: int) -> None:
    net = resnet18(2).eval()
    with torch.no_grad():
        z = net.stem_and_stages(0)(torch.rand(1, 3, size, size))
        assert z.shape == (1, 64, released, released)
        assert net.stem_and_stages(3)(torch.rand(1, 3, 64, 64)).shape == (1, 256, 4, 4)
        assert net.stem_and_stages(4)(torch.rand(1, 3, 64, 64)).shape == (1, 512, 2, 2)


@pytest.mark.parametrize("last", range(5))
def test_cut_then_rest_is_the_whole_and_shares_its_parameters(last: int) -> None:
    net = ResNet((1, 2, 1, 1), (4, 8, 8, 12), classes=3, in_channels=2, stem="cifar").eval()
    x = torch.rand(2, 2, 12, 12)
    with torch.no_grad():
        assert torch.equal(net.rest_after(last)(net.stem_and_stages(last)(x)), net(x))
        before = net(x)
        next(net.stem_and_stages(last).parameters()).mul_(-1)
        assert not torch.equal(net(x), before)


def test_the_cifar_stem_keeps_the_map_and_later_stages_halve_it() -> None:
    net = ResNet((1, 1), (4, 8), classes=2, in_channels=12, stem="cifar").eval()
    x = torch.rand(3, 12, 9, 9)
    assert net.stem_and_stages(1)(x).shape == (3, 4, 9, 9)
    assert net.stem_and_stages(2)(x).shape == (3, 8, 5, 5)
    assert net(x).shape == (3, 2)


def test_a_block_whose_residual_is_zero_passes_its_positive_input_on() -> None:
    block = BasicBlock(4, 4).eval()
    cast(nn.BatchNorm2d, block.residual[-1]).weight.data.zero_()
    x = torch.rand(2, 4, 5, 5)
    assert torch.equal(block(x), x)


def test_convolutions_start_with_he_fan_out_variance() -> None:
    net = resnet18(2)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)


def test_bad_requests_are_named() -> None:
    with pytest.raises(VeilError, match=r"no stage 5.*0 to 4"):
        resnet10(2).rest_after(5)
    with pytest.raises(VeilError, match="no stage -1"):
        resnet10(2).stem_and_stages(-1)
    with pytest.raises(VeilError, match="2 stages, 1 widths"):
        ResNet((1, 1), (8,), classes=2)
    with pytest.raises(VeilError, match="did you mean 'cifar'"):
        ResNet((1,), (8,), classes=2, stem="cifer")  # type: ignore[arg-type]
