"""Perceptrons trained side by side are the perceptrons one by one, whoever runs beside them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from planted_leaks import balanced_accuracy, checked, planted, small_feature_among_huge, xor
from torch import Tensor
from torch.nn.functional import cross_entropy, gelu

from veil.attacks.attack import Knowledge
from veil.attacks.linear import Logistic
from veil.attacks.mlp import Crowd, Mlp, forward, initial_weights, layers_of
from veil.attacks.training import run_seeds

QUICK = Mlp(steps=120)


def test_stacked_networks_are_the_networks_one_by_one() -> None:
    """Two seeds of three networks against autograd and AdamW on each alone, masks included."""
    rng = torch.Generator().manual_seed(0)
    widths, rates, decays = (5, 4, 3), torch.tensor([1e-2, 3e-3, 1e-3]), torch.tensor([0, 0.5, 1])
    x = torch.randn(2, 16, 5, generator=rng)
    s = torch.randint(3, (2, 16), generator=rng)
    masks = 2.0 * (torch.rand(2, 16, 4, generator=rng) < 0.5)
    balance = torch.tensor([1.0, 0.5, 1.5])
    weights = torch.stack([initial_weights(3, widths, rng) for _ in range(2)])
    alone = {
        (seed, net): [
            p[seed * 3 + net].clone().requires_grad_() for p in layers_of(weights, widths)
        ]
        for seed, net in product(range(2), range(3))
    }
    adams = {
        (seed, net): torch.optim.AdamW(p, float(rates[net]), weight_decay=float(decays[net]))
        for (seed, net), p in alone.items()
    }
    crowd = Crowd(weights, widths, rates, decays)
    for _ in range(4):
        crowd.step(x, s, balance, [masks], 1.0)
        for (seed, net), (w1, b1, w2, b2) in alone.items():
            adams[seed, net].zero_grad()
            scores = gelu(x[seed] @ w1 + b1) * masks[seed] @ w2 + b2
            one = cross_entropy(scores, s[seed], balance, reduction="none").mean()
            one.backward()  # type: ignore[no-untyped-call]
            adams[seed, net].step()
    for (seed, net), layers in alone.items():
        for stacked, one in zip(crowd.layers, layers, strict=True):
            torch.testing.assert_close(stacked[3 * seed + net], one, atol=1e-5, rtol=1e-4)


def test_those_that_are_kept_go_on_as_if_the_others_were_still_there() -> None:
    rng = torch.Generator().manual_seed(0)
    widths = (5, 4, 2)
    weights = torch.stack([initial_weights(4, widths, rng) for _ in range(3)])
    rates, decays = torch.tensor([1e-2, 3e-3, 1e-3, 1e-4]), torch.tensor([0, 0.5, 1, 2.0])
    x, s = torch.randn(3, 16, 5, generator=rng), torch.randint(2, (3, 16), generator=rng)
    everybody, few = (Crowd(weights, widths, rates, decays) for _ in range(2))
    which = torch.tensor([[1, 2], [8, 11]])  # of the first seed, and of the third
    for crowd in (everybody, few):
        crowd.step(x, s, torch.ones(2), (), 1.0)
    few.keep(which)
    everybody.step(x, s, torch.ones(2), (), 1.0)
    few.step(x[[0, 2]], s[[0, 2]], torch.ones(2), (), 1.0)
    torch.testing.assert_close(few.weights, everybody.weights.flatten(0, 1)[which])
    assert not torch.equal(few.weights[0, 0], few.weights[0, 1])


@pytest.mark.parametrize("attack", [QUICK, Mlp("raw", (16, 8), (4e-3,), steps=60)])
def test_a_seed_does_not_depend_on_those_beside_it(attack: Mlp) -> None:
    known, _ = planted(xor, rows=(400, 150, 100))
    beside = attack.run_seeds(known, (3, 4, 5))
    for seed, guess in zip((3, 4, 5), beside, strict=True):
        alone = attack.run(known, seed)
        for split in ("attack", "select", "test"):
            np.testing.assert_allclose(getattr(guess, split), getattr(alone, split), atol=1e-3)
    assert np.abs(beside[0].test - beside[1].test).max() > 0.05  # seeds differ at all


def test_halving_keeps_what_is_found_and_a_network_of_every_seed() -> None:
    known, s = planted(small_feature_among_huge)
    useless = replace(QUICK, learning_rates=(1e-6, 1e-5, 4e-3, 1e-7))
    for guess in useless.run_seeds(known, (0, 1)):
        assert balanced_accuracy(checked(guess, known).test, s) > 0.94
    one = replace(QUICK, learning_rates=(4e-3,), weight_decays=(1e-2,))
    assert balanced_accuracy(one.run(known, 0).test, s) > 0.94
    blind = replace(QUICK, learning_rates=(1e-7,))
    assert balanced_accuracy(blind.run(known, 0).test, s) < 0.9  # negative control


def test_a_shortened_attacker_takes_fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    known, _ = planted(xor, rows=(256, 100, 50))
    taken: list[int] = []
    step = Crowd.step

    def counted(self: Crowd, x: Tensor, *rest: object) -> None:
        taken[-1] += 1
        step(self, x, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Crowd, "step", counted)
    monkeypatch.setattr("veil.attacks.mlp.PATIENCE", 1000)
    whole = Mlp(steps=80, epochs=8, learning_rates=(1e-4,))
    for attack in (whole, whole.shortened(0.25), whole.shortened(1e-9)):
        taken.append(0)
        attack.run(known, 0)
    assert taken == [80, 20, 2]
    assert whole.shortened(0.5).name == whole.name


def test_large_attack_splits_are_read_in_larger_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def only_looked_at(_: Crowd, x: Tensor, *__: object) -> None:
        seen.append(x.shape[1])

    monkeypatch.setattr(Crowd, "step", only_looked_at)
    for rows in (1000, 12_000, 60_000):
        z = torch.zeros(rows, 2)
        s = np.arange(rows) % 2
        small = {"attack": z, "select": z[:10], "test": z[:10]}
        known = Knowledge("s", 2, small, {"attack": s, "select": s[:10]})  # type: ignore[arg-type]
        Mlp(steps=1, epochs=1).run(known, 0)
        assert abs(seen[-1] - min(512, max(128, rows // 40))) <= 4


def test_masks_drop_a_fifth_and_keep_the_mean() -> None:
    rng = torch.Generator().manual_seed(0)
    hidden, last = Mlp(hidden=(500, 30))._masks(400, [rng], torch.device("cpu"))
    assert hidden.shape == (1, 400, 500)
    assert last.shape == (1, 400, 30)
    assert abs(float((hidden == 0).float().mean()) - 0.2) < 0.005
    assert abs(float(hidden.mean()) - 1.0) < 0.01
    dropped = (hidden[0] == 0).float()
    assert abs(float((dropped[:, 1:] * dropped[:, :-1]).mean()) - 0.04) < 0.005  # independently


def test_shared_rows_are_given_to_every_network() -> None:
    rng = torch.Generator().manual_seed(0)
    widths = (6, 5, 3)
    layers = layers_of(torch.stack([initial_weights(2, widths, rng) for _ in range(2)]), widths)
    x = torch.randn(1, 7, 6, generator=rng)
    assert [tuple(p.shape[1:]) for p in layers[::2]] == list(pairwise(widths))
    torch.testing.assert_close(forward(layers, x), forward(layers, x.expand(2, -1, -1)))


def test_other_attackers_run_their_seeds_one_after_another() -> None:
    known, _ = planted(small_feature_among_huge, rows=(100, 50, 50))
    for attack in (Logistic(), Mlp(steps=5)):
        for seed, guess in zip((0, 1), run_seeds(attack, known, (0, 1)), strict=True):
            np.testing.assert_allclose(guess.test, attack.run(known, seed).test, atol=1e-4)
