"""Perceptrons side by side: each says and learns what it would alone."""

from __future__ import annotations

import pytest
import torch

from veil.game import seats_for, update
from veil.losses import cross_entropy
from veil.method import Adam, Move, Player
from veil.nets.perceptrons import Perceptrons
from veil.seeds import generator


def test_forward_is_each_perceptron_by_itself() -> None:
    nets = Perceptrons(2, 2, (3, 5, 4, 2), {}, generator(0, "nets"))
    x = torch.randn(4, 6, 3, generator=generator(0, "x"))
    together = nets(x, generator(0, "unused"))
    for member in range(4):
        h = x[member]
        for layer in range(3):
            h = torch.tanh(h) if layer else h
            h = h @ nets.weights[layer][member] + nets.biases[layer][member, 0]
        assert torch.allclose(together[member], h, atol=1e-6)


def test_side_by_side_each_learns_what_it_would_alone() -> None:
    """Loss summed over networks and Adam: after three steps the same weights, also alone."""
    x = torch.randn(3, 32, 2, generator=generator(0, "x"))
    s = (x[:, :, 0] > 0).long()

    def learn(nets: Perceptrons, rows: slice) -> Perceptrons:
        seats = seats_for({"it": Player(nets, Adam(1e-2))})
        for _ in range(3):
            logits = nets(x[rows], generator(0, "unused"))
            loss = torch.stack([cross_entropy(a, b) for a, b in zip(logits, s[rows], strict=True)])
            update(seats, [Move("it", {"inference": loss.sum()})])
        return nets

    def fresh() -> Perceptrons:
        return Perceptrons(3, 1, (2, 8, 2), {}, generator(0, "nets"))

    together = learn(fresh(), slice(None))
    for member in range(3):
        alone = Perceptrons(1, 1, (2, 8, 2), {}, generator(1, "nets"))
        for mine, all_of_them in zip(alone.parameters(), fresh().parameters(), strict=True):
            mine.data = all_of_them.data[member : member + 1].clone()
        learn(alone, slice(member, member + 1))
        for mine, theirs in zip(alone.parameters(), together.parameters(), strict=True):
            assert torch.allclose(mine[0], theirs[member], atol=1e-6)


def test_copies_begin_alike_and_share_dropout_groups_share_nothing() -> None:
    nets = Perceptrons(2, 3, (2, 400, 400), {1: 0.25}, generator(0, "nets"))
    for parameter in nets.parameters():
        assert torch.equal(parameter[0], parameter[2])
        assert not torch.equal(parameter[0], parameter[3])
    nets.weights[1].data = torch.eye(400).expand(6, 400, 400)
    nets.biases[1].data.zero_()
    x = torch.ones(6, 50, 2)
    found = nets(x, generator(0, "dropout"))
    dropped = found == 0
    assert torch.equal(dropped[0], dropped[2])
    assert not torch.equal(dropped[0], dropped[3])
    assert dropped.double().mean().item() == pytest.approx(0.25, abs=0.01)
    whole = nets.eval()(x, generator(0, "dropout"))
    assert torch.allclose(found[~dropped], whole[~dropped] / 0.75)
