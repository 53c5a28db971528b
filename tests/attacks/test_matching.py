"""Identity attackers: a planted person is found, an independent release is not, and no label of
"test" can reach them. Pairs and their scores against enumerations.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from veil.attacks.attack import Attack, AttackSplit, Guess, Ints, Knowledge
from veil.attacks.embedding import FreshSiamese, SoftmaxEmbedding
from veil.attacks.matching import Distance, LinearDiscriminant, discriminants
from veil.attacks.pairs import Matching, distances, draw_pairs, rank1, score_matching
from veil.attacks.suites import SUITES
from veil.errors import VeilError

PEOPLE: dict[AttackSplit, int] = {"attack": 60, "select": 20, "test": 30}
PHOTOS = 6
TRAINED: tuple[Attack, ...] = (
    LinearDiscriminant(),
    FreshSiamese(people=30, steps=60),
    SoftmaxEmbedding("convolution", people=24, steps=48),
    SoftmaxEmbedding("perceptron", people=30, steps=64),
)
FAST: tuple[Attack, ...] = (Distance("raw"), Distance("standardised"), Distance("whitened"))


def released(signal: float, seed: int, nuisance: float = 0.0) -> tuple[Knowledge, Ints]:
    """Maps (n, 4, 8, 8) that hold a person's own four coordinates under noise.

    Args:
        signal: size of what the person adds; 0 makes the release independent of people.
        nuisance: size of what else varies, in directions other than the person's.

    Returns:
        The attackers' knowledge and the people of "test", which they must not see.
    """
    rng = torch.Generator().manual_seed(seed)
    person_basis, other_basis = (torch.randn(4, 4, 8, 8, generator=rng) for _ in range(2))
    z: dict[AttackSplit, Tensor] = {}
    identity: dict[AttackSplit, Ints] = {}
    start = 0
    for split, people in PEOPLE.items():
        own = torch.randn(people, 4, generator=rng).repeat_interleave(PHOTOS, 0)
        other = torch.randn(people * PHOTOS, 4, generator=rng)
        noise = torch.randn(people * PHOTOS, 4, 8, 8, generator=rng)
        z[split] = (
            noise
            + signal * torch.einsum("nk,kchw->nchw", own, person_basis)
            + nuisance * torch.einsum("nk,kchw->nchw", other, other_basis)
        )
        identity[split] = start + np.arange(people).repeat(PHOTOS)
        start += people
    s: dict[Literal["attack", "select"], Ints] = {
        "attack": identity["attack"],
        "select": identity["select"],
    }
    return Knowledge("identity", 0, z, s), identity["test"]


def matching_of(attack: Attack, knowledge: Knowledge, test_identity: Ints) -> Matching:
    assert attack.unfit_for(knowledge) is None
    guess = attack.run(knowledge, seed=1)
    return score_matching(guess, knowledge.s["select"], test_identity, seed=0)


@pytest.mark.parametrize("attack", [*FAST[:2], *TRAINED], ids=lambda attack: attack.name)
def test_a_planted_person_is_found(attack: Attack) -> None:
    found = matching_of(attack, *released(signal=1.0, seed=0))
    assert found.scores["verification_accuracy"] > 0.8
    assert found.scores["auc"] > 0.9
    assert found.scores["rank1"] > 0.3


def test_whitened_distance_is_not_deafened_by_loud_features() -> None:
    rng = torch.Generator().manual_seed(0)
    mixing = torch.randn(8, 8, generator=rng)
    z: dict[AttackSplit, Tensor] = {}
    s: dict[AttackSplit, Ints] = {}
    for split, people in PEOPLE.items():
        s[split] = np.arange(people).repeat(PHOTOS)
        own = torch.randn(people, 5, generator=rng).repeat_interleave(PHOTOS, 0)
        own = own + 0.3 * torch.randn(own.shape, generator=rng)
        loud = 100 * torch.randn(len(own), 3, generator=rng)
        z[split] = torch.cat([own, loud], 1) @ mixing
    knowledge = Knowledge("identity", 0, z, {"attack": s["attack"], "select": s["select"]})
    plain, whitened = (
        matching_of(Distance(features), knowledge, s["test"]).scores["auc"]
        for features in ("raw", "whitened")
    )
    assert plain < 0.6
    assert whitened > 0.8


@pytest.mark.parametrize(
    "attack", [a for a in TRAINED if a.name != "siamese"], ids=lambda attack: attack.name
)
def test_learning_finds_a_person_whom_distance_misses(attack: Attack) -> None:
    """What varies most is not who it is: plain distance fails, a trained attacker need not.

    The Siamese network, AIA's own and weak, does not learn this from 60 people.
    """
    knowledge, test_identity = released(signal=0.5, seed=2, nuisance=3.0)
    plain = matching_of(Distance("raw"), knowledge, test_identity).scores["auc"]
    learned = matching_of(attack, knowledge, test_identity).scores["auc"]
    assert plain < 0.6
    assert learned > plain + 0.1


@pytest.mark.parametrize("attack", [*FAST, *TRAINED], ids=lambda attack: attack.name)
def test_an_independent_release_leaves_chance(attack: Attack) -> None:
    found = matching_of(attack, *released(signal=0.0, seed=3))
    # 450 pairs of one person; rows recur in several pairs, so the spread is a little above
    # that of independent pairs.
    assert abs(found.scores["verification_accuracy"] - 0.5) < 0.08
    assert abs(found.scores["auc"] - 0.5) < 0.1
    assert found.scores["rank1"] < 0.12  # chance is 1/30


@pytest.mark.parametrize("attack", [*FAST, *TRAINED], ids=lambda attack: attack.name)
def test_guesses_repeat_with_the_seed_and_leave_the_global_stream_alone(attack: Attack) -> None:
    knowledge, _ = released(signal=0.5, seed=4)
    quick = replace(attack, steps=20) if hasattr(attack, "steps") else attack  # type: ignore[type-var]
    before = torch.random.get_rng_state()
    one, again, other = quick.run(knowledge, 5), quick.run(knowledge, 5), quick.run(knowledge, 6)
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(one.test, again.test)
    assert np.array_equal(one.test, other.test) is not attack.seeded
    assert one.test.dtype == np.float32


@pytest.mark.parametrize("attack", [*FAST, *TRAINED], ids=lambda attack: attack.name)
def test_an_embedding_does_not_depend_on_the_other_rows_of_test(attack: Attack) -> None:
    """The attacker holds no label of "test"; nor may it learn from who is there."""
    knowledge, _ = released(signal=0.5, seed=4)
    quick = replace(attack, steps=20) if hasattr(attack, "steps") else attack  # type: ignore[type-var]
    fewer = replace(knowledge, z={**knowledge.z, "test": knowledge.z["test"][100:]})
    whole, part = quick.run(knowledge, 0).test[100:], quick.run(fewer, 0).test
    assert np.allclose(whole, part, atol=0.02 * np.abs(whole).max())


def test_missing_values_and_other_shapes_do_no_harm() -> None:
    knowledge, test_identity = released(signal=1.0, seed=5)
    holes = {split: v.clone() for split, v in knowledge.z.items()}
    for v in holes.values():
        v[::3, 0, 0, :4] = float("nan")
        v[1::5, 1, 2, 3] = float("inf")
    damaged = replace(knowledge, z=holes)
    for attack in (LinearDiscriminant(), replace(TRAINED[1], steps=30)):  # type: ignore[type-var]
        assert matching_of(attack, damaged, test_identity).scores["auc"] > 0.65
    flat = replace(knowledge, z={split: v.flatten(1) for split, v in knowledge.z.items()})
    assert matching_of(LinearDiscriminant(), flat, test_identity).scores["auc"] > 0.9
    wide = replace(
        knowledge, z={split: v.repeat_interleave(10, 3) for split, v in knowledge.z.items()}
    )
    assert matching_of(FreshSiamese(people=30, steps=30), wide, test_identity).scores["auc"] > 0.6


def test_who_cannot_run_says_why() -> None:
    knowledge, _ = released(signal=1.0, seed=0)
    flat = replace(knowledge, z={split: v.flatten(1) for split, v in knowledge.z.items()})
    strangers = np.arange(len(knowledge.s["select"]))
    alone = replace(knowledge, s={**knowledge.s, "select": strangers})
    for attack in SUITES["standard"]().identity:
        if attack.name in ("siamese", "softmax embedding convolution"):
            assert "no spatial map" in str(attack.unfit_for(flat))
        if attack.family == "matching" and "distance" not in attack.name:
            assert "'select' has fewer than two people" in str(attack.unfit_for(alone))


def test_the_suite_names_its_attackers_apart() -> None:
    names = [attack.name for attack in SUITES["standard"]().identity]
    assert len(set(names)) == len(names)
    assert {attack.kind for attack in SUITES["standard"]().identity} == {"identity"}


def test_discriminants_of_a_known_model() -> None:
    """Person spread 9 on the first axis against 1 within: the axis, weighted by sqrt(9/10)."""
    rng = torch.Generator().manual_seed(0)
    person = torch.arange(1000).repeat_interleave(5)
    x = torch.randn(5000, 3, generator=rng)
    x[:, 0] += 3 * torch.randn(1000, generator=rng)[person]
    x[:, 1] *= 10  # loud, and says nothing about who it is
    axes = discriminants(x, person, 1000, shrinkage=0.0)
    gains = axes.norm(dim=0)
    strongest = axes[:, gains.argmax()]
    assert gains.sort().values[:2].max() < 0.25
    assert abs(strongest[0]) == pytest.approx(0.9**0.5, abs=0.05)
    assert strongest[1:].abs().max() < 0.05


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=12).filter(lambda s: max(s) > 1),
    count=st.integers(2, 300),
    seed=st.integers(0, 100),
)
@settings(max_examples=80, deadline=None)
def test_pairs_are_balanced_distinct_and_true(sizes: list[int], count: int, seed: int) -> None:
    identity = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    identity = np.append(identity, [-1, -1])
    drawn = draw_pairs(identity, seed, count)
    together = sum(m * (m - 1) // 2 for m in sizes)
    apart = sum(a * b for a, b in combinations(sizes, 2))
    assert len(drawn) == 2 * min(count // 2, together, apart)
    assert drawn.same.sum() == len(drawn) / 2
    assert np.array_equal(identity[drawn.left] == identity[drawn.right], drawn.same)
    assert min(identity[drawn.left].min(), identity[drawn.right].min()) >= 0
    ends = {frozenset((int(a), int(b))) for a, b in zip(drawn.left, drawn.right, strict=True)}
    assert len(ends) == len(drawn)
    assert all(len(pair) == 2 for pair in ends)
    again = draw_pairs(identity, seed, count)
    assert np.array_equal(again.left, drawn.left)
    assert np.array_equal(again.right, drawn.right)


def test_impostors_are_uniform_over_other_people() -> None:
    """One person with half of all pictures is an impostor's face no more often than anyone."""
    identity = np.concatenate([np.zeros(300), np.arange(1, 31).repeat(10)]).astype(np.int64)
    drawn = draw_pairs(identity, seed=0, count=8000)
    two = np.stack([identity[drawn.left], identity[drawn.right]])[:, ~drawn.same]
    with_first = np.mean((two == 0).any(axis=0))
    # Left is person 0 half of the time, else the other is with chance 1/30.
    assert with_first == pytest.approx(0.5 + 0.5 / 30, abs=0.03)


@pytest.mark.parametrize(
    ("identity", "message"),
    [([0, 1, 2], "nobody has two"), ([0, 0, 0, -1], "one person"), ([-1, -1], "nobody")],
)
def test_pairs_that_cannot_be_drawn(identity: list[int], message: str) -> None:
    with pytest.raises(VeilError, match=message):
        draw_pairs(np.array(identity), seed=0)


def test_rank1_equals_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    identity = np.append(rng.integers(0, 7, 40), -1)
    embedding = (rng.normal(size=(41, 3)) + identity[:, None]).astype(np.float32)
    gallery: dict[int, int] = {}
    hits = []
    for row in range(40):
        gallery.setdefault(int(identity[row]), row)
    for row in set(range(40)) - set(gallery.values()):
        nearest = min(gallery, key=lambda p: np.linalg.norm(embedding[gallery[p]] - embedding[row]))
        hits.append(nearest == identity[row])
    assert rank1(embedding, identity) == pytest.approx(np.mean(hits))


def test_scores_of_a_perfect_and_of_a_blind_embedding() -> None:
    select, test = np.arange(10).repeat(4), np.arange(50, 80).repeat(5)
    perfect = score_matching(
        Guess(np.zeros((1, 1), np.float32), _codes(select), _codes(test)), select, test, seed=0
    )
    assert perfect.scores == {
        "verification_accuracy": 1.0,
        "auc": 1.0,
        "eer": 0.0,
        "tar_at_far_0.01": 1.0,
        "rank1": 1.0,
    }
    assert perfect.select == 1.0
    assert np.array_equal(perfect.people[:, 0] == perfect.people[:, 1], perfect.same)
    blind = score_matching(
        Guess(np.zeros((1, 1), np.float32), _codes(0 * select), _codes(0 * test)),
        select,
        test,
        seed=0,
    )
    assert blind.scores["verification_accuracy"] == 0.5
    assert blind.scores["auc"] == 0.5
    assert blind.scores["tar_at_far_0.01"] == 0.0


def test_a_diverged_embedding_is_refused() -> None:
    identity = np.arange(4).repeat(2)
    with pytest.raises(VeilError, match="not finite"):
        distances(np.full((8, 2), np.nan, np.float32), draw_pairs(identity, 0))


def _codes(identity: Ints) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.stack([identity, identity**2], axis=1).astype(np.float32)
