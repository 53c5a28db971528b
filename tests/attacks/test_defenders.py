"""The defender's adversary is asked, trained on and trained afresh; and never changed."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from planted_leaks import balanced_accuracy, checked, nothing, planted
from torch import Tensor, nn

from veil.attacks.attack import Ints, Knowledge
from veil.attacks.defenders import DefendersAdversary

Start = Literal["as trained", "warm", "fresh"]
STARTS: tuple[Start, ...] = ("as trained", "warm", "fresh")


class WholeMethod(nn.Module):
    """An adversary beside networks that its answer does not depend on."""

    def __init__(self, adversary: nn.Module) -> None:
        super().__init__()
        self.adversary = adversary
        self.encoder = nn.Sequential(nn.Linear(12, 4), nn.BatchNorm1d(4))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.adversary.requires_grad_(False)  # as a defender leaves it

    def forward(self, z: Tensor) -> Tensor:
        answer: Tensor = self.adversary(z)
        return answer


def adversary() -> WholeMethod:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = (nn.Linear(12, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1))
        return WholeMethod(nn.Sequential(*layers, nn.Linear(32, 2)))


def ring(s: Tensor, rng: torch.Generator) -> Tensor:
    """(n, 12): one class lies further out in two directions than the other; Bayes about .95."""
    z = torch.randn(len(s), 12, generator=rng)
    angle = 2 * torch.pi * torch.rand(len(s), generator=rng)
    radius = 1.0 + 1.5 * s + 0.4 * torch.randn(len(s), generator=rng)
    z[:, 0], z[:, 1] = radius * angle.cos(), radius * angle.sin()
    return z


def holding(
    network: nn.Module, rows: tuple[int, int, int] = (800, 300, 500)
) -> tuple[Knowledge, Ints]:
    known, s = planted(ring, rows)
    return replace(known, adversary=network), s


def trained(start: Start) -> DefendersAdversary:
    return DefendersAdversary(start, learning_rates=(1e-2,), batch=64, steps=150)


def test_training_finds_what_the_fooled_adversary_does_not_see() -> None:
    known, s = holding(adversary())
    scores = {
        start: balanced_accuracy(checked(trained(start).run(known, 0), known).test, s)
        for start in STARTS
    }
    assert scores["as trained"] < 0.62
    assert scores["warm"] > 0.88
    assert scores["fresh"] > 0.88


def test_independent_noise_gives_nothing() -> None:
    known, s = planted(nothing, rows=(600, 300, 1500))
    for start in STARTS:
        guess = trained(start).run(replace(known, adversary=adversary()), 0)
        assert balanced_accuracy(guess.test, s) < 0.545


@pytest.mark.parametrize("start", STARTS)
def test_the_given_network_stays_as_it_is(start: Start) -> None:
    network = adversary().train()
    before = deepcopy(network.state_dict())
    flags = [(p.requires_grad, p.grad) for p in network.parameters()]
    known, _ = holding(network, rows=(60, 40, 40))
    stream = torch.get_rng_state()
    attack = replace(trained(start), steps=5, epochs=2)
    assert attack.unfit_for(known) is None
    attack.run(known, 0)
    assert torch.equal(stream, torch.get_rng_state())
    assert network.training
    assert [(p.requires_grad, p.grad) for p in network.parameters()] == flags
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_warm_start_begins_where_the_defender_ended_and_a_fresh_one_does_not() -> None:
    """A good adversary is kept by a training that cannot move; a fresh start forgets it."""
    first, _ = holding(adversary())
    network = adversary()
    network.adversary.requires_grad_(True)
    adam = torch.optim.Adam(network.adversary.parameters(), 1e-2)
    s = torch.from_numpy(first.s["attack"])
    for _ in range(120):
        adam.zero_grad()
        nn.functional.cross_entropy(network(first.z["attack"]), s).backward()  # type: ignore[no-untyped-call]
        adam.step()
    known, truth = holding(network)
    still = {start: replace(trained(start), learning_rates=(1e-7,), steps=2) for start in STARTS}
    scores = {
        start: balanced_accuracy(attack.run(known, 0).test, truth)
        for start, attack in still.items()
    }
    assert scores["as trained"] > 0.88
    assert scores["warm"] > 0.88
    assert scores["fresh"] < 0.7


def test_answers_for_a_rare_class_are_put_under_equal_priors() -> None:
    """An adversary that knows the frequencies says the frequent class; its answers still tell."""

    class Known(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return torch.stack([torch.full((len(z),), 2.4), 2.0 * z[:, 0] - 2.0], 1)

    def shifted(s: Tensor, rng: torch.Generator) -> Tensor:
        return torch.randn(len(s), 3, generator=rng) + 2.0 * s.unsqueeze(1)

    known, s = planted(shifted, rows=(1200, 600, 1200), shares=(11 / 12, 1 / 12))
    network = Known()
    assert balanced_accuracy(network(known.z["test"]).numpy(), s) < 0.75
    guess = DefendersAdversary("as trained").run(replace(known, adversary=network), 0)
    assert balanced_accuracy(checked(guess, known).test, s) > 0.79


def test_the_same_seed_gives_the_same_guess() -> None:
    known, _ = holding(adversary(), rows=(120, 60, 40))
    for start in STARTS:
        attack = replace(trained(start), steps=10, epochs=2)
        one, again, other = (attack.run(known, seed).test for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, again)
        assert np.array_equal(one, other) != attack.seeded


def test_it_says_why_it_cannot_run() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(12, 2))

        def forward(self, z: Tensor) -> Tensor:
            return z @ self.w

    class Closed(WholeMethod):
        def forward(self, z: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(z)

    known, _ = planted(ring, rows=(40, 20, 20))

    def why(network: nn.Module | None, start: Start) -> str | None:
        return DefendersAdversary(start).unfit_for(replace(known, adversary=network))

    assert why(None, "warm") == "the defender's adversary is not at hand"
    three = "the defender's adversary does not tell 2 classes apart"
    assert why(nn.Linear(12, 3), "as trained") == three
    assert why(Own(), "warm") is None
    assert why(Own(), "fresh") == ("the defender's adversary has a Own, which knows no fresh start")
    assert why(Closed(adversary().adversary), "as trained") is None
    assert why(Closed(adversary().adversary), "warm") == (
        "the defender's adversary has nothing to train"
    )
