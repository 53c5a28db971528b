"""Encoders halve, decoders restore: shapes for any size, and the layers a paper names."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from veil.nets.codec import pooled_encoder, upsampling_decoder


def kinds(net: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in net]


def convolutions(net: nn.Sequential) -> list[tuple[int, int, tuple[int, ...]]]:
    return [(c.in_channels, c.out_channels, c.kernel_size) for c in net if isinstance(c, nn.Conv2d)]


def test_aias_encoder_and_decoder_have_the_papers_layers() -> None:
    """arXiv 2009.14376, section 5.2."""
    encoder = pooled_encoder((1, 8, 12))
    assert kinds(encoder) == ["Conv2d", "LeakyReLU", "AvgPool2d"] * 2
    assert convolutions(encoder) == [(1, 8, (3, 3)), (8, 12, (3, 3))]
    decoder = upsampling_decoder((12, 256, 128), 1, (100, 100))
    assert kinds(decoder) == ["Conv2d", "LeakyReLU", "Upsample"] * 2 + ["Conv2d"]
    assert convolutions(decoder) == [(12, 256, (3, 3)), (256, 128, (3, 3)), (128, 1, (3, 3))]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(8, 33),
    st.integers(8, 33),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from([1, 3, 5]),
)
def test_any_size_is_halved_by_every_block_and_restored(
    h: int, w: int, channels: list[int], kernel: int
) -> None:
    encoder = pooled_encoder((2, *channels), kernel)
    z = encoder(torch.zeros(1, 2, h, w))
    assert z.shape == (1, channels[-1], h >> len(channels), w >> len(channels))
    decoder = upsampling_decoder((channels[-1], *channels), 3, (h, w), kernel)
    assert decoder(z).shape == (1, 3, h, w)


def test_the_encoder_averages_and_the_decoder_repeats() -> None:
    """With identity convolutions: a 2 x 2 block becomes its mean, a pixel becomes 2 x 2 of it."""
    encoder, decoder = pooled_encoder((1, 1), kernel=1), upsampling_decoder((1, 1), 1, (4, 4), 1)
    for net in (encoder, decoder):
        for layer in net:
            if isinstance(layer, nn.Conv2d):
                nn.init.ones_(layer.weight)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    z = encoder(x)
    assert z.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert torch.equal(decoder(z), z.repeat_interleave(2, 2).repeat_interleave(2, 3))


@torch.no_grad()
def test_the_decoder_returns_logits_of_either_sign() -> None:
    torch.manual_seed(0)
    out = upsampling_decoder((4, 8), 1, (8, 8))(50 * torch.randn(2, 4, 4, 4))
    assert float(out.min()) < 0 < float(out.max())
    assert float(out.abs().max()) > 1


@pytest.mark.parametrize("kernel", [3, 5])
def test_padding_keeps_the_size_of_the_map(kernel: int) -> None:
    convolution = pooled_encoder((1, 1), kernel)[0]
    assert convolution(torch.zeros(1, 1, 7, 9)).shape == (1, 1, 7, 9)
