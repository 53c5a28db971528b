"""The controls: shuffled labels teach nothing whatever the release; a planted leak is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from small_evidence import Array, divided, tensors
from veil import controls
from veil.attacks.attack import Guess, Ints, Knowledge
from veil.attacks.linear import Logistic
from veil.attacks.search import Candidate
from veil.controls import (
    identity_controls,
    planted_score,
    quantity_controls,
    relearned_from_shuffled,
    shuffled_interval,
)

Rng = np.random.Generator
N = 500


def knowledge_of(z: Array, s: Array, classes: int) -> tuple[Knowledge, Ints]:
    """What an attacker holds of (n, ...) releases, and the labels of test."""
    columns = divided(s)
    known = {"attack": columns["attack"], "select": columns["select"]}
    return Knowledge("s", classes, tensors(z), known), columns["test"]  # type: ignore[arg-type]


def coin(rng: Rng) -> Array:
    return rng.integers(0, 2, N)


def rare(rng: Rng) -> Array:
    return np.where(rng.random(N) < 0.1, 1, 0)


def only_the_task(rng: Rng) -> tuple[Array, Array]:
    s = coin(rng)
    return (s ^ (rng.random(N) < 0.25))[:, None], s


def the_label_itself(rng: Rng) -> tuple[Array, Array]:
    s = rng.integers(0, 4, N)
    return np.eye(4)[s], s


def one_value(rng: Rng) -> tuple[Array, Array]:
    return np.ones((N, 3)), rng.integers(0, 3, N)


def noise(rng: Rng) -> tuple[Array, Array]:
    return rng.normal(size=(N, 64)), coin(rng)


def duplicates(rng: Rng) -> tuple[Array, Array]:
    s = coin(rng)
    z = np.tile(rng.normal(size=(N // 10, 8)), (10, 1))
    return z, np.tile(s[: N // 10], 10)


def long_tails(rng: Rng) -> tuple[Array, Array]:
    """Rare class, low values: labels that are only permuted reach 0.52 here on average."""
    s = rare(rng)
    return np.exp(2 * rng.normal(size=(N, 1)) - 2 * s[:, None]), s


def long_tails_of_four(rng: Rng) -> tuple[Array, Array]:
    s = rng.choice(4, N, p=[0.7, 0.2, 0.05, 0.05])
    return np.exp(2 * rng.normal(size=(N, 1)) - s[:, None]), s


HONEST = [
    only_the_task,
    the_label_itself,
    one_value,
    noise,
    duplicates,
    long_tails,
    long_tails_of_four,
]


@pytest.mark.parametrize("case", HONEST)
def test_shuffled_labels_never_beat_chance_on_honest_data(
    case: Callable[[Rng], tuple[Array, Array]],
) -> None:
    """The 99.9 % interval lies above chance in none of 20 seeds, and holds it on average.

    The long tails fail where labels are permuted and classes keep their names.
    """
    middles, chance = [], 0.0
    for seed in range(20):
        z, s = case(np.random.default_rng(seed))
        knowledge, test = knowledge_of(z, s, int(s.max()) + 1)
        low, high = shuffled_interval(knowledge, test, seed)
        chance = 1 / len(np.unique(test))
        assert low <= chance + 1e-12, seed
        middles.append((low + high) / 2)
    error = np.std(middles) / np.sqrt(len(middles))
    assert abs(np.mean(middles) - chance) <= 4 * error + 1e-9


class Unshuffled:
    """A generator that leaves everything where it was."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def permutation(self, of: int | Array) -> Array:
        return np.arange(of) if isinstance(of, int) else of


def test_the_control_fires_when_true_labels_reach_the_attacker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without shuffling, the control's own attacker is an honest one and finds the leak."""
    z, s = only_the_task(np.random.default_rng(0))
    knowledge, test = knowledge_of(z, s, 2)
    assert shuffled_interval(knowledge, test, 0)[0] < 0.5
    monkeypatch.setattr(controls.np.random, "default_rng", Unshuffled)  # type: ignore[attr-defined]
    assert shuffled_interval(knowledge, test, 0)[0] > 0.65


@pytest.mark.parametrize("shape", [(12,), (3, 32, 32)])
def test_a_planted_leak_is_found_in_noise(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    knowledge, test = knowledge_of(rng.normal(size=(N, *shape)), coin(rng), 2)
    assert planted_score(knowledge, test, 0) > 0.95


def test_a_planted_leak_of_many_classes_is_found_beside_missing_values() -> None:
    rng = np.random.default_rng(2)
    z = rng.normal(size=(N, 40))
    z[rng.random(z.shape) < 0.1] = np.nan
    knowledge, test = knowledge_of(z, rng.integers(0, 7, N), 7)
    assert planted_score(knowledge, test, 0) > 0.95


def test_what_was_not_planted_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the control: with nothing planted, noise stays noise."""
    rng = np.random.default_rng(3)
    knowledge, test = knowledge_of(rng.normal(size=(N, 12)), coin(rng), 2)

    def nothing(labels: torch.Tensor, classes: int) -> torch.Tensor:
        return torch.zeros(len(labels), classes)

    monkeypatch.setattr(torch.nn.functional, "one_hot", nothing)
    assert planted_score(knowledge, test, 0) < 0.65


# --- identity, quantities, and the attacker itself ---


def people_of_noise(rng: Rng, spread: float) -> tuple[Array, Array]:
    """80 people with 6 releases each; `spread` 0 makes them all alike."""
    person = np.repeat(np.arange(80), 6)
    return spread * rng.normal(size=(80, 12))[person] + rng.normal(size=(480, 12)), person


@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_shuffled_people_are_not_told_apart_and_planted_ones_are(spread: float) -> None:
    z, person = people_of_noise(np.random.default_rng(4), spread)
    knowledge, test = knowledge_of(z, person, 0)
    control = identity_controls(replace(knowledge, target="identity"), test, 0)
    assert control.chance == 0.5
    assert control.shuffled[0] <= 0.5
    assert control.shuffled[1] < 0.65
    assert control.planted > 0.95


def test_a_shuffled_quantity_is_not_learned_and_a_planted_one_is() -> None:
    rng = np.random.default_rng(5)
    z = rng.normal(size=(N, 12))
    age = (40 + 5 * z[:, 0] + rng.normal(size=N)).astype(np.float32)
    knowledge, test = knowledge_of(z, age, 0)
    control = quantity_controls(knowledge, test.astype(np.float32), 0)
    assert control.chance == 0.0
    assert control.shuffled[0] <= 0.0
    assert control.planted > 0.95


@dataclass(frozen=True)
class Peeking(Logistic):
    """An attacker with a fault: whatever it learns from, it was handed the labels of test."""

    truth: tuple[int, ...] = ()

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        honest = super().run(knowledge, seed)
        seen = np.log(np.where(np.eye(2)[list(self.truth)], 0.9, 0.1)).astype(np.float32)
        return replace(honest, test=seen)


@pytest.mark.parametrize("case", [only_the_task, noise, long_tails, duplicates])
def test_an_attacker_that_peeks_beats_chance_on_every_shuffle_and_an_honest_one_does_not(
    case: Callable[[Rng], tuple[Array, Array]],
) -> None:
    """No stand-in would notice: the fault is in the attacker itself."""
    z, s = case(np.random.default_rng(6))
    knowledge, test = knowledge_of(z, s, 2)
    peeking = Candidate(Peeking(truth=tuple(test.tolist())), knowledge)
    assert relearned_from_shuffled(peeking, test, 0) == 1.0
    for seed in range(5):
        assert relearned_from_shuffled(Candidate(Logistic(), knowledge), test, seed) <= 0.52
