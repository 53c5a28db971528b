"""The U-Net: sizes against recorded counts, maps against figure 8, what its output depends on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from veil.errors import VeilError
from veil.nets.unet import UNet


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def small(
    size: tuple[int, int] = (16, 16), conditions: tuple[int, ...] = (), channels: int = 3
) -> UNet:
    torch.manual_seed(0)
    return UNet(channels, size, (4, 8, 8), noise=5, conditions=conditions, embedding=3).eval()


def test_parameter_counts_are_those_recorded() -> None:
    """`04a_pcgan_sizes.npz`: filter (without and with a branch it never used), generator, variants.

    The unused branch embeds two classes in 128 numbers and projects them to a map of 4 x 4.
    """
    with torch.device("meta"):
        filters = UNet(3, (64, 64)), UNet(3, (128, 128))
        generators = (
            UNet(3, (64, 64), conditions=(2,)),
            UNet(3, (64, 64), noise=256, conditions=(2,)),
            UNet(3, (64, 64), conditions=(2,), embedding=16),
        )
        unused = [nn.ModuleList([nn.Embedding(2, 128), nn.Linear(128, k)]) for k in (16, 64)]
    assert count(filters[0]) == 17_429_059
    assert count(filters[0]) + count(unused[0]) == 17_431_379
    assert count(filters[1]) + count(unused[1]) == 42_627_971
    assert [count(net) for net in generators] == [17_433_683, 11_142_227, 17_431_667]


@torch.no_grad()
def test_maps_halve_and_double_as_in_figure_8() -> None:
    net = UNet(3, (64, 64), noise=8).eval()
    shapes: list[tuple[int, ...]] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shapes.append((inputs[0].shape[1], output.shape[1], output.shape[2]))

    for block in (*net.down, *net.up):
        block.register_forward_hook(note)
    net(torch.rand(1, 3, 64, 64), torch.randn(1, 8))
    down = [(3, 32, 64), (32, 64, 32), (64, 128, 16), (128, 256, 8), (256, 512, 4)]
    up = [(512 + 512 + 256, 256, 8), (256 + 128, 128, 16), (128 + 64, 64, 32), (64 + 32, 32, 64)]
    assert shapes == down + up


@pytest.mark.parametrize("size", [(16, 16), (33, 33), (50, 70), (4, 7)])
@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_any_size_comes_out_as_it_went_in(size: tuple[int, int], channels: int) -> None:
    x = 50 * torch.randn(2, channels, *size)  # far outside of [0, 1]: the sigmoid must hold
    y = small(size, channels=channels)(x, torch.randn(2, 5))
    assert y.shape == x.shape
    assert float(y.min()) >= 0
    assert float(y.max()) <= 1


def test_pictures_too_small_to_be_halved_are_refused() -> None:
    with pytest.raises(VeilError, match=r"halves pictures 2 times: 16 x 3 is too small"):
        small((16, 3))


@torch.no_grad()
def test_each_row_depends_on_its_own_picture_noise_and_every_condition() -> None:
    net = small(conditions=(2, 3))
    x, noise = torch.rand(2, 3, 16, 16), torch.randn(2, 5)
    s, t = torch.tensor([0, 1]), torch.tensor([2, 0])
    y = net(x, noise, (s, t))
    elsewhere = torch.tensor([1.0, 0.0])
    others = (
        net(x + 0.1 * elsewhere.view(2, 1, 1, 1), noise, (s, t)),
        net(x, noise + elsewhere.view(2, 1), (s, t)),
        net(x, noise, (torch.tensor([1, 1]), t)),
        net(x, noise, (s, torch.tensor([1, 0]))),
    )
    for other in others:
        assert not torch.equal(other[0], y[0])
        torch.testing.assert_close(other[1], y[1], rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_fine_detail_reaches_the_output_past_the_bottleneck() -> None:
    """Through the skips: what comes up from the narrowest map is cut off."""
    net = small()
    last = net.up[-1]
    assert isinstance(last, nn.Sequential)
    assert isinstance(last[0], nn.Conv2d)
    last[0].weight[:, :8] = 0
    x, noise = torch.rand(1, 3, 16, 16), torch.randn(1, 5)
    changed = x.clone()
    changed[0, :, 5, 5] += 0.5
    difference = (net(changed, noise) - net(x, noise)).abs().amax(dim=1)[0]
    assert float(difference[5, 5]) > 0
    # Two 3 x 3 convolutions on the way in and two on the way out see four pixels far.
    assert not difference[10:].any()
    assert torch.equal(net(x, noise + 1), net(x, noise))


def test_as_many_classes_as_conditions() -> None:
    with pytest.raises(ValueError, match="zip"):
        small(conditions=(2,))(torch.rand(1, 3, 16, 16), torch.randn(1, 5))
